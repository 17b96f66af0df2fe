"""The Triton kernels for windows over 16 x 16 and heads over 128 dims against the oracles, as test_triton.py does it.

They take small shapes too, if asked to: most tests do so, for the interpreter takes a second for one window of 17 x 17.
"""

from __future__ import annotations

import pytest
import torch

import append_cases
import helpers
import triton_cases
from helpers import BF16, FP8, FP32, STRIDED
from svm_ext import ops, use_backend
from svm_ext.ops import _triton_launch, reference
from triton_cases import DEVICE, FP16, SCALE, check_attend, placed, there

pytestmark = triton_cases.MARKS
TYPES = [(FP32, FP32), (FP16, FP16), (BF16, BF16), (FP32, BF16), (BF16, FP32)]


@pytest.fixture(autouse=True)
def triton_back_end():
    triton_cases.skip_unless_usable()
    with use_backend("triton"):
        yield


@pytest.fixture
def line_by_line(monkeypatch):
    """Nothing is attended in one pass, however small."""
    monkeypatch.setattr(_triton_launch.kernels_of("heuristics"), "one_pass", lambda side, dim: False)


def test_attend_of_a_large_window():
    size = helpers.size(streams=1, windows=1, heads=1, side=20, frames=2, dim=16)
    check_attend(helpers.tokens(size, FP16), helpers.filled_memory(size, [1], FP16, "tokens"))


# Lines of two blocks, and results of two parts; padding leaves most lines nothing to do.
@pytest.mark.parametrize(("side", "dim", "real"), [(33, 16, (2, 33)), (17, 136, (17, 1))], ids=str)
def test_forward_in_several_blocks_and_parts(side, dim, real):
    size = helpers.size(streams=1, windows=1, heads=1, side=side, frames=1, dim=dim)
    real, pad = torch.tensor([real], dtype=torch.int32), helpers.pads(size)
    memory, q = helpers.filled_memory(size, [1], FP16, "tokens", real), helpers.tokens(size, FP16)
    out = ops.memory_attend(q.to(DEVICE), *placed(memory).pools, None, *there(real, *pad), SCALE)
    attends = helpers.oracle_attend, helpers.plain_attend
    truth, plain = (attend(q, memory, real=real, pad=pad)[0] for attend in attends)
    helpers.assert_close(out.cpu(), truth, plain)


@pytest.mark.parametrize(("dim", "dtype"), [(136, FP32), (136, BF16), (160, FP16), (256, FP16), (512, FP16)], ids=str)
def test_attend_of_wide_heads(dim, dtype):
    size = helpers.size(streams=1, windows=1, heads=1, side=2, frames=3, dim=dim)
    real = torch.tensor([[1, 2]], dtype=torch.int32)
    memory = helpers.filled_memory(size, [2], dtype, "tokens", real)
    check_attend(helpers.tokens(size, dtype), memory, real=real, pad=helpers.pads(size))


@pytest.mark.usefixtures("line_by_line")
@pytest.mark.parametrize(
    ("dtype", "pool_dtype", "padding"),
    [*((*types, "biases") for types in TYPES), (FP16, FP16, "none"), (FP32, BF16, "masked")],
    ids=str,
)
def test_attend_of_every_type(dtype, pool_dtype, padding):
    """A stream that has seen little, and one that has seen more than the memory holds: more keys than one tile has."""
    size = helpers.size(streams=2, windows=1, heads=1, side=3, frames=12, dim=24)
    real = None if padding == "none" else torch.tensor([[2, 3]], dtype=torch.int32)
    pad = helpers.pads(size) if padding == "biases" else (None, None)
    memory = helpers.filled_memory(size, [2, 20], pool_dtype, "tokens", real)
    check_attend(helpers.tokens(size, dtype), memory, real=real, pad=pad)


@pytest.mark.usefixtures("line_by_line")
@pytest.mark.parametrize("biases", [True, False], ids=["biases", "masked"])
def test_attend_of_every_padding(biases):
    """Every number of real rows and columns, also none, each in a window of its own."""
    real = torch.cartesian_prod(torch.tensor([0, 1, 2]), torch.tensor([0, 2])).int()
    size = helpers.size(streams=1, windows=len(real), heads=1, side=2, frames=2, dim=16)
    memory = helpers.filled_memory(size, [2], FP32, "tokens", real)
    pad = helpers.pads(size) if biases else (None, None)
    out = check_attend(helpers.tokens(size), memory, real=real, pad=pad)
    outside = ~helpers.inside(size, real).flatten(1)  # [W, N]
    assert bool((out.cpu()[:, 0][outside] == 0).all())


@pytest.mark.usefixtures("line_by_line")
def test_attend_of_nothing():
    size = helpers.size(streams=2, windows=1, heads=1, dim=16)
    real = torch.tensor([[2, 3]], dtype=torch.int32)
    memory = helpers.filled_memory(size, [0, 0], FP32, "tokens", real)
    out = check_attend(helpers.tokens(size), memory, real=real, pad=helpers.pads(size))
    assert bool((out == 0).all())


@pytest.mark.usefixtures("line_by_line")
@pytest.mark.parametrize("ids", [[2, 0], [1, 1, 0], []], ids=str)
def test_attend_of_some_streams(ids):
    size = helpers.size(streams=3, windows=1, heads=1, dim=16)
    memory = helpers.filled_memory(size, [1, 4, 7], FP32, "tokens")
    check_attend(helpers.tokens(size, batch=len(ids)), memory, streams=torch.tensor(ids, dtype=torch.int64))


@pytest.mark.parametrize(("side", "dim"), [(17, 16), (2, 136)])
def test_streams_that_do_not_exist_are_read_as_empty_and_never_written(side, dim):
    size = helpers.size(streams=2, windows=1, heads=1, side=side, frames=1, dim=dim)
    memory, q = placed(helpers.filled_memory(size, [4, 4], FP16, "tokens")), helpers.tokens(size, FP16, 3).to(DEVICE)
    ids, real = torch.tensor([2, 1, -1], device=DEVICE), torch.tensor([[side, 2]], dtype=torch.int32, device=DEVICE)
    out = ops.memory_attend(q, *memory.pools, ids, real)
    assert (out != 0).flatten(1).any(1).tolist() == [False, True, False]
    before = memory.clone()
    memory.step[1] += 1
    ops.memory_append_(*memory.pools, q, q, memory.step, ids, real)
    helpers.assert_same(memory.k[0], before.k[0])
    assert not torch.equal(memory.k[1], before.k[1])


@pytest.mark.usefixtures("line_by_line")
@pytest.mark.parametrize("strides", [*STRIDED, "fused"])
def test_strides_do_not_matter(strides):
    """Of q and of dout, in all the ways a tensor can lie."""
    size = helpers.size(streams=1, windows=1, heads=2, side=2, dim=16)
    memory = helpers.filled_memory(size, [6], FP32, "tokens")
    if strides == "fused":
        q, dout, _ = helpers.fused(size)
    else:
        q, dout = (STRIDED[strides](helpers.tokens(size).to(DEVICE)) for _ in range(2))
    check_attend(q, memory, dout=dout)


@pytest.mark.usefixtures("line_by_line")
def test_results_are_those_of_one_pass(monkeypatch):
    """A model may meet both kinds of kernels, and a backward what another forward has saved."""
    size = helpers.size(streams=1, windows=1, heads=1, dim=16)
    memory, q = placed(helpers.filled_memory(size, [3], FP32, "tokens")), helpers.tokens(size).to(DEVICE)
    real = torch.tensor([[2, 3]], dtype=torch.int32, device=DEVICE)
    given, triton = (q, *memory.pools, None, real, None, None), torch.ops.svm_ext_triton
    by_lines = triton.memory_attend(*given, SCALE, True)
    assert by_lines[0].transpose(1, 2).is_contiguous()
    gradient = triton.memory_attend_backward(q, *given, *by_lines, SCALE)
    monkeypatch.undo()
    with use_backend("triton"):
        in_one = triton.memory_attend(*given, SCALE, True)
        torch.testing.assert_close(triton.memory_attend_backward(q, *given, *by_lines, SCALE), gradient)
    torch.testing.assert_close(by_lines, in_one)


LARGE = append_cases.PLAIN.size._replace(streams=1, heads=1, side=17, frames=2, dim=5)
WIDE = LARGE._replace(side=3, dim=264)
APPENDS = [
    *(append_cases.Case(LARGE, evict=evict, real=((17, 17), (2, 16))) for evict in helpers.EVICTIONS),
    append_cases.Case(LARGE._replace(side=33, frames=1), FP16, FP16, strides="odd", real=((1, 33), (3, 20))),
    append_cases.Case(WIDE, strides="qkv"),
    append_cases.Case(WIDE._replace(dim=512), FP16, FP16, real=((2, 3), (3, 1))),
]


@pytest.mark.parametrize("case", APPENDS, ids=str)
def test_append_equals_reference(case):
    append_cases.check(torch.ops.svm_ext_triton.memory_append_, case, DEVICE)


@pytest.mark.usefixtures("line_by_line")
@pytest.mark.parametrize(
    ("evict", "side", "dim", "frames"),
    [("merge", 2, 24, 2), ("fifo", 2, 24, 2), ("clear", 2, 24, 2), ("fifo", 17, 8, 1), ("merge", 1, 136, 2)],
)
def test_step_equals_append_and_attend(evict, side, dim, frames):
    size = helpers.size(streams=2, windows=1, heads=1, side=side, frames=frames, dim=dim)
    batches = [[0], [1, 0], [0], [0], [1]] if side < 17 else [[0], [0]]
    triton_cases.check_steps(size, [[side, 1]], evict, batches, [1, 0])


@pytest.mark.usefixtures("line_by_line")
@pytest.mark.parametrize(
    ("dtype", "evict", "memory_frames"),
    [(FP32, "clear", 2), (FP32, "fifo", 1), (FP32, "fifo", 9), (FP16, "fifo", 2), (BF16, "fifo", 2)],
    ids=str,
)
def test_clip_equals_the_oracle(dtype, evict, memory_frames):
    triton_cases.check_clip(3, 2, 24, dtype, evict, memory_frames, [[2, 2], [2, 1]])


@pytest.mark.parametrize(("length", "side", "dim", "evict"), [(1, 17, 16, "clear"), (2, 2, 136, "fifo")])
def test_clip_of_large_windows_and_wide_heads(length, side, dim, evict):
    triton_cases.check_clip(length, side, dim, FP16, evict, 2, [[side, 1]])


@pytest.mark.usefixtures("line_by_line")
def test_clip_with_frames_of_any_strides():
    q, k, v = torch.randn(3, 24, 2, 1, 2, 4, 3).movedim(1, -1).transpose(1, 2).transpose(-2, -3).unbind(0)
    out = ops.clip_attend(*there(q, k, v), None, None, None, SCALE, 2, "fifo")
    expected, _, _ = reference.clip_attend(q, k, v, None, None, None, SCALE, 2, 1, False)
    torch.testing.assert_close(out.cpu(), expected, rtol=1e-5, atol=1e-5)


def test_clip_without_frames():
    q = torch.zeros(0, 2, 1, 1, 9, 136, device=DEVICE, requires_grad=True)
    out = ops.clip_attend(q, q, q, None, None, None, SCALE, 2, "fifo")
    assert torch.autograd.grad(out.sum(), q)[0].shape == out.shape == q.shape


@pytest.mark.parametrize(("side", "dim"), [(17, 8), (2, 136)])
def test_offsets_of_64_bits_within_a_unit(side, dim, monkeypatch):
    """As for tensors so large that those of 32 bits could not span one unit: the same bits come out."""
    size = helpers.size(streams=1, windows=1, heads=1, side=side, frames=2, dim=dim)
    memory, q = placed(helpers.filled_memory(size, [2], FP16, "tokens")), helpers.tokens(size, FP16).to(DEVICE)
    real = torch.tensor([[side, 2]], dtype=torch.int32, device=DEVICE)

    def results():
        ours = memory.clone()
        yield from (ops.stream_step_(*ours.pools, q, -q, q, ours.step, real=real), ours.k, ours.v)

    expected = list(results())
    monkeypatch.setattr(_triton_launch, "_FAR", 0)
    for ours, theirs in zip(results(), expected, strict=True):
        helpers.assert_same(ours, theirs)


def test_same_input_same_bits():
    size = helpers.size(streams=1, windows=1, heads=1, side=2, frames=3, dim=136)
    memory, q = helpers.filled_memory(size, [3], FP16, "tokens"), helpers.tokens(size, FP16)
    dout = torch.randn(q.shape).half()
    helpers.assert_same(check_attend(q, memory, dout=dout), check_attend(q, memory, dout=dout))


@pytest.mark.parametrize("dtype", [FP32, BF16], ids=str)
def test_attend_of_codes(dtype, line_by_line):
    """Of fp8, with an exponent of its own for each frame of a tile."""
    size = helpers.size(streams=2, windows=1, heads=1, side=3, frames=5, dim=24)
    real, pad = torch.tensor([[2, 3]], dtype=torch.int32), helpers.pads(size)
    memory = helpers.filled_memory(size, [2, 9], FP8, "tokens", real)
    memory.cursor[..., 2:].view(torch.int32).add_(torch.arange(10, dtype=torch.int32) % 7 - 3)
    check_attend(helpers.tokens(size, dtype), memory, real=real, pad=pad)


@pytest.mark.parametrize(("side", "dim"), [(17, 16), (3, 136)], ids=str)
def test_codes_of_large_windows_and_wide_heads(side, dim):
    size = helpers.size(streams=1, windows=1, heads=1, side=side, frames=2, dim=dim)
    case = append_cases.Case(size=size, frame_type=FP16, pool_type=FP8, evict="merge", real=((side, side - 1),))
    append_cases.check(torch.ops.svm_ext_triton.memory_append_, case, DEVICE)
    memory, q = helpers.filled_memory(size, [2], FP8, "tokens"), helpers.tokens(size, FP16)
    out = ops.memory_attend(q.to(DEVICE), *placed(memory).pools, None, None, None, None, SCALE)
    truth, plain = (attend(q, memory)[0] for attend in (helpers.oracle_attend, helpers.plain_attend))
    helpers.assert_close(out.cpu(), truth, plain)
