"""memory_append_: the ring, its evictions, and what it must leave alone."""

from __future__ import annotations

import pytest
import torch

import helpers
from helpers import BF16, DTYPE_IDS, DTYPES, EVICTIONS, FP32, FP64, NAN, STRIDED, Memory
from svm_ext import ops
from svm_ext.ops import _check, reference


def append(memory: Memory, k, v, streams=None, real=None, evict="merge") -> None:
    ops.memory_append_(*memory.pools, k, v, memory.step, streams, real, evict)


def expect(memory: Memory, k, v, streams=None, real=None, evict="merge") -> None:
    """What the oracle makes of the same append."""
    reference.memory_append_(*memory.pools, k, v, memory.step, streams, real, _check.EVICTIONS[evict])


def oldest_first(memory: Memory, pool: torch.Tensor, stream: int) -> list[torch.Tensor]:
    count, capacity = int(memory.cursor[stream, 0, 0, 0]), memory.size.frames
    slots = [i % capacity for i in range(max(0, count - capacity), count)]
    return [memory.frames(pool)[stream, :, :, slot].flatten(2, 3) for slot in slots]


@pytest.mark.parametrize("evict", EVICTIONS)
@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_ring_equals_lists(backend, evict, frames):
    """At every cursor from 0 to beyond 2T the ring holds what lists would, bit for bit."""
    size = helpers.size(streams=1, frames=frames, side=2)
    memory = helpers.empty_memory(size, FP64, backend.layout)
    lists = helpers.ListMemory(frames, evict), helpers.ListMemory(frames, evict)
    for _ in range(2 * frames + 2):
        k, v = helpers.tokens(size, FP64), helpers.tokens(size, FP64)
        append(memory, k, v, evict=evict)
        memory.step.add_(1)
        for pool, frame, expected in zip((memory.k, memory.v), (k, v), lists, strict=True):
            expected.append(frame)
            held = oldest_first(memory, pool, 0)
            assert len(held) == len(expected.frames)
            for ours, theirs in zip(held, expected.frames, strict=True):
                helpers.assert_same(ours, theirs)


@pytest.mark.parametrize(("dtype", "pool_dtype"), DTYPES, ids=DTYPE_IDS)
@pytest.mark.parametrize("evict", EVICTIONS)
def test_every_type_equals_the_oracle(backend, dtype, pool_dtype, evict):
    """Rounding included: a bf16 pool under fp32 compute averages in fp32 and rounds once."""
    size = helpers.size(streams=3, frames=3, dim=16)
    memory = helpers.filled_memory(size, [0, 2, 7], pool_dtype, backend.layout)
    for _ in range(5):
        expected = memory.clone()
        k, v = helpers.tokens(size, dtype), helpers.tokens(size, dtype)
        append(memory, k, v, evict=evict)
        expect(expected, k, v, evict=evict)
        helpers.assert_same_memory(memory, expected)
        memory.step.add_(1)


@pytest.mark.parametrize("side", [1, 3, 7, 8, 14, 16, 17])
@pytest.mark.parametrize("dim", [8, 16, 32, 64, 96, 128])
@pytest.mark.parametrize("dtype", [FP32, BF16], ids=["fp32", "bf16"])
def test_every_size_equals_the_oracle(side, dim, dtype):
    """One oracle, all instruction sets."""
    size = helpers.size(streams=1, windows=1, heads=2, side=side, dim=dim, frames=2)
    memory = helpers.filled_memory(size, [3], dtype)
    _, k, v = helpers.fused(size)
    expected = memory.clone()
    expect(expected, k, v)
    for backend in helpers.compiled_backends():
        ours = memory.clone()
        with backend.selected():
            append(ours, k, v)
        helpers.assert_same_memory(ours, expected)


@pytest.mark.parametrize("evict", EVICTIONS)
@pytest.mark.parametrize("count", [0, 1, 3, 4, 5])
def test_second_append_at_a_step_replaces_the_first(backend, evict, count):
    """And merges nothing again: the memory is as after the second append alone."""
    size = helpers.size(frames=3)
    memory = helpers.filled_memory(size, [count] * 2, FP32, backend.layout)
    once = memory.clone()
    first, second = torch.stack([helpers.tokens(size) for _ in range(4)]).unflatten(0, (2, 2))
    append(memory, *first, evict=evict)
    append(memory, *second, evict=evict)
    append(memory, *second, evict=evict)
    append(once, *second, evict=evict)
    helpers.assert_same_memory(memory, once)


@pytest.mark.parametrize("ids", [[2, 0], [1], [0, 1, 2, 3], [3, 2, 1, 0], []], ids=str)
def test_only_the_named_streams_change(backend, ids):
    """Unequal steps, ids in any order, also none at all."""
    size = helpers.size(streams=4, frames=3)
    memory = helpers.filled_memory(size, [0, 2, 3, 8], FP32, backend.layout)
    expected, streams = memory.clone(), torch.tensor(ids, dtype=torch.int64)
    k, v = (helpers.tokens(size, batch=len(ids)) for _ in range(2))
    append(memory, k, v, streams)
    for row, stream in enumerate(ids):
        rows = slice(row * size.windows, (row + 1) * size.windows)
        expect(expected, k[rows], v[rows], torch.tensor([stream]))
    helpers.assert_same_memory(memory, expected)


@pytest.mark.parametrize("dtype", [FP32, BF16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("strides", [*STRIDED, "fused"])
def test_strides_do_not_matter(backend, strides, dtype):
    size = helpers.size(streams=2, dim=16)
    memory = helpers.filled_memory(size, [5, 1], FP32, backend.layout)
    expected = memory.clone()
    if strides == "fused":
        _, k, v = helpers.fused(size, dtype)
    else:
        k, v = (STRIDED[strides](helpers.tokens(size, dtype)) for _ in range(2))
    assert not k.is_contiguous()
    append(memory, k, v)
    append(expected, k.contiguous(), v.contiguous())
    helpers.assert_same_memory(memory, expected)


@pytest.mark.parametrize("dtype", [FP32, BF16], ids=["fp32", "bf16"])
def test_padded_tokens_are_not_stored(backend, dtype):
    """All paddings of a window at once, also windows without a picture; NaN stays where nothing belongs."""
    side = 3
    size = helpers.size(streams=1, windows=(side + 1) ** 2, side=side, frames=2)
    real = torch.cartesian_prod(torch.arange(side + 1), torch.arange(side + 1)).int()
    memory = helpers.empty_memory(size, dtype, backend.layout)
    inside = helpers.inside(size, real)[None, :, None]  # [1, W, 1, n, n]
    for _ in range(5):
        k, v = helpers.tokens(size), helpers.tokens(size)
        append(memory, k, v, real=real)
        memory.step.add_(1)
        newest = (int(memory.cursor[0, 0, 0, 0]) - 1) % size.frames
        for pool, frame in ((memory.k, k), (memory.v, v)):
            grid = frame.to(dtype).unflatten(2, (side, side))[None]  # [1, W, H, n, n, D]
            expected = grid.masked_fill(~inside[..., None], NAN)
            helpers.assert_same(memory.frames(pool)[:, :, :, newest], expected)


def test_what_was_stored_is_detached(backend):
    size = helpers.size()
    memory = helpers.empty_memory(size, FP32, backend.layout)
    k, v = (helpers.tokens(size).requires_grad_() for _ in range(2))
    append(memory, k, v)
    assert not memory.k.requires_grad
    assert not memory.v.requires_grad


def test_autograd_is_told_of_the_change(backend):
    """The kernels write behind autograd's back; a backward over the old contents must still be found out."""
    size = helpers.size()
    memory = helpers.empty_memory(size, FP32, backend.layout)
    before = [tensor._version for tensor in memory.pools]
    append(memory, helpers.tokens(size), helpers.tokens(size))
    assert all(tensor._version > old for tensor, old in zip(memory.pools, before, strict=True))


def test_nan_is_stored_not_hidden(backend):
    size = helpers.size(streams=1, frames=2)
    memory = helpers.filled_memory(size, [2], FP32, backend.layout)
    k, v = helpers.tokens(size), helpers.tokens(size)
    k[0, 0, 3, 2] = v[1, 1, 0, 0] = NAN
    append(memory, k, v)
    assert memory.k.isnan().sum() == 1
    assert memory.v.isnan().sum() == 1


def test_steps_beyond_int32(backend):
    """A camera at 60 frames a second passes 2^31 after 414 days."""
    size = helpers.size(streams=1, frames=3)
    memory = helpers.filled_memory(size, [2**33 + 1], FP32, backend.layout)
    expected = memory.clone()
    k, v = helpers.tokens(size), helpers.tokens(size)
    append(memory, k, v)
    expect(expected, k, v)
    helpers.assert_same_memory(memory, expected)
    assert memory.cursor[0, 0, 0].tolist() == [2**33 + 2, 2**33 + 1]


def test_same_input_same_bits(backend):
    """Whatever the number of threads."""
    size = helpers.size(streams=4, windows=3, heads=3, side=7, dim=32)
    memory = helpers.filled_memory(size, [0, 3, 4, 9], FP32, backend.layout)
    start, (_, k, v) = memory.clone(), helpers.fused(size)
    append(memory, k, v)
    for count in (2, 3):
        other = start.clone()
        with helpers.threads(count):
            append(other, k, v)
        helpers.assert_same_memory(memory, other)
