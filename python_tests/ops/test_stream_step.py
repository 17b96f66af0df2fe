"""stream_step_: the same memory and the same output as memory_append_ and memory_attend one after the other."""

from __future__ import annotations

import pytest
import torch

import helpers
from helpers import BF16, DTYPE_IDS, DTYPES, EVICTIONS, FP32, NAN, STRIDED, Memory
from svm_ext import ops
from svm_ext.ops import _check, reference

SCALE = 0.3


def check(memory: Memory, q, k, v, *, streams=None, real=None, pad=(None, None), evict="merge") -> torch.Tensor:
    """One step against the oracle: the memory bit for bit, the output by the tolerance rule."""
    expected = memory.clone()
    out = ops.stream_step_(*memory.pools, q, k, v, memory.step, streams, real, *pad, SCALE, evict)
    reference.memory_append_(*expected.pools, k, v, expected.step, streams, real, _check.EVICTIONS[evict])
    helpers.assert_same_memory(memory, expected)
    options = dict(streams=streams, real=real, pad=pad, scale=SCALE)
    truth, plain = helpers.oracle_attend(q, expected, **options)[0], helpers.plain_attend(q, expected, **options)[0]
    assert out.dtype == q.dtype
    helpers.assert_close(out, truth, plain)
    return out


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("evict", EVICTIONS)
@pytest.mark.parametrize(("dtype", "pool_dtype"), DTYPES, ids=DTYPE_IDS)
def test_equals_append_and_attend(backend, dtype, pool_dtype, evict, padded):
    """Streams at unequal steps, over two rounds of the ring."""
    size = helpers.size(streams=3, windows=2, side=4, frames=2, dim=16)
    real = helpers.real_sizes(size) if padded else None
    pad = helpers.pads(size) if padded else (None, None)
    memory = helpers.filled_memory(size, [0, 1, 5], pool_dtype, backend.layout, real)
    for _ in range(4):
        q, k, v = (helpers.tokens(size, dtype) for _ in range(3))
        check(memory, q, k, v, real=real, pad=pad, evict=evict)
        memory.step.add_(1)


@pytest.mark.parametrize("side", [1, 3, 7, 8, 14, 16, 17])
@pytest.mark.parametrize("dim", [8, 16, 32, 64, 96, 128])
@pytest.mark.parametrize("pool_dtype", [FP32, BF16], ids=["fp32", "bf16pool"])
def test_every_size(side, dim, pool_dtype):
    """One oracle, all instruction sets; a full memory, so that merge has work to do."""
    size = helpers.size(streams=1, windows=1, heads=1, side=side, dim=dim, frames=2)
    start = helpers.filled_memory(size, [3], pool_dtype)
    q, k, v = helpers.fused(size)
    expected = start.clone()
    reference.memory_append_(*expected.pools, k, v, expected.step, None, None, 0)
    truth, plain = helpers.oracle_attend(q, expected)[0], helpers.plain_attend(q, expected)[0]
    for backend in helpers.compiled_backends():
        memory = start.clone()
        with backend.selected():
            out = ops.stream_step_(*memory.pools, q, k, v, memory.step, scale=SCALE)
        helpers.assert_same_memory(memory, expected)
        helpers.assert_close(out, truth, plain, f"out, {backend.isa}")


@pytest.mark.parametrize("strides", [*STRIDED, "fused"])
def test_strides_do_not_matter(backend, strides):
    size = helpers.size(dim=16)
    memory = helpers.filled_memory(size, [2, 6], FP32, backend.layout)
    other = memory.clone()
    if strides == "fused":
        q, k, v = helpers.fused(size)
    else:
        q, k, v = (STRIDED[strides](helpers.tokens(size)) for _ in range(3))
    out = check(memory, q, k, v)
    contiguous = (x.contiguous() for x in (q, k, v))
    same = ops.stream_step_(*other.pools, *contiguous, other.step, scale=SCALE)
    helpers.assert_same(out, same)


@pytest.mark.parametrize("ids", [[2, 0], [1], [2, 1, 0], []], ids=str)
def test_only_the_named_streams_take_part(backend, ids):
    size = helpers.size(streams=3, dim=16)
    memory = helpers.filled_memory(size, [0, 4, 9], FP32, backend.layout)
    q, k, v = (helpers.tokens(size, batch=len(ids)) for _ in range(3))
    check(memory, q, k, v, streams=torch.tensor(ids, dtype=torch.int64))


def test_with_a_gradient_it_is_two_ops(backend):
    """The output is differentiable, and k and v stay detached."""
    size = helpers.size(dim=16)
    memory = helpers.filled_memory(size, [2, 6], FP32, backend.layout)
    q, k, v = (helpers.tokens(size).requires_grad_() for _ in range(3))
    out = ops.stream_step_(*memory.pools, q, k, v, memory.step, scale=SCALE)
    dout = helpers.tokens(size)
    out.backward(dout)
    options = dict(scale=SCALE)
    truth, plain = (f(dout, q, memory, **options) for f in (helpers.oracle_gradient, helpers.plain_gradient))
    helpers.assert_close(q.grad, truth, plain.detach(), "dq")
    assert k.grad is None
    assert v.grad is None
    assert not memory.k.requires_grad


def test_without_q_no_gradient_flows(backend):
    size = helpers.size(dim=16)
    memory = helpers.empty_memory(size, FP32, backend.layout)
    k, v = (helpers.tokens(size).requires_grad_() for _ in range(2))
    out = ops.stream_step_(*memory.pools, helpers.tokens(size), k, v, memory.step)
    assert not out.requires_grad
    assert not memory.k.requires_grad


def test_second_step_replaces_the_first(backend):
    size = helpers.size(streams=1, dim=16, frames=3)
    memory = helpers.filled_memory(size, [5], FP32, backend.layout)
    once = memory.clone()
    first, second = torch.stack([helpers.tokens(size) for _ in range(6)]).unflatten(0, (2, 3))
    ops.stream_step_(*memory.pools, *first, memory.step)
    out = ops.stream_step_(*memory.pools, *second, memory.step)
    helpers.assert_same(out, ops.stream_step_(*once.pools, *second, once.step))
    helpers.assert_same_memory(memory, once)


def test_autograd_is_told_of_the_change(backend):
    size = helpers.size(dim=16)
    memory = helpers.filled_memory(size, [1, 1], FP32, backend.layout)
    out = ops.memory_attend(helpers.tokens(size).requires_grad_(), *memory.pools)
    q, k, v = (helpers.tokens(size) for _ in range(3))
    ops.stream_step_(*memory.pools, q, k, v, memory.step)
    with pytest.raises(RuntimeError, match="overwritten before its backward"):
        out.sum().backward()


def test_same_input_same_bits(backend):
    """Whatever the number of threads."""
    size = helpers.size(streams=4, windows=3, heads=3, side=7, dim=32)
    start, tokens = helpers.filled_memory(size, [0, 3, 4, 9], FP32, backend.layout), helpers.fused(size)
    results = []
    for count in (1, 2, 3) if backend.name == "cpu" else (1, 1):
        memory = start.clone()
        with helpers.threads(count):
            results.append((ops.stream_step_(*memory.pools, *tokens, memory.step), memory))
    for out, memory in results[1:]:
        helpers.assert_same(out, results[0][0])
        helpers.assert_same_memory(memory, results[0][1])


def test_nan_is_passed_through_not_hidden(backend):
    size = helpers.size(streams=1, windows=1, heads=1, side=3, frames=2, dim=16)
    memory = helpers.filled_memory(size, [0], FP32, backend.layout)
    q, k, v = (helpers.tokens(size) for _ in range(3))
    v[0, 0, 4] = NAN  # the middle: its row and its column
    out = ops.stream_step_(*memory.pools, q, k, v, memory.step)
    assert out.isnan().all(-1)[0, 0].tolist() == [False, True, False, True, True, True, False, True, False]
