"""The Triton back end against the oracles: on a GPU where there is one, else through Triton's interpreter.

The interpreter must be asked for before Triton is imported: test_triton_interpreted.py runs this file so, in a process
of its own. Shapes are small, for it takes a tenth of a second for one unit.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import append_cases
import helpers
import svm_ext
import triton_cases
from helpers import BF16, FP32, FP64, STRIDED
from svm_ext import backend, ops, use_backend
from svm_ext.ops import _reference_nms, _triton_launch, reference
from triton_cases import DEVICE, FP16, INTERPRETED, SCALE, check_attend, placed, there

pytestmark = triton_cases.MARKS
on_a_gpu = pytest.mark.skipif(INTERPRETED, reason=triton_cases.NO_GPU)
TYPES = [(FP32, FP32), (FP16, FP16), (BF16, BF16), (FP32, BF16), (BF16, FP32)]


@pytest.fixture(autouse=True)
def triton_back_end():
    triton_cases.skip_unless_usable()
    with use_backend("triton"):
        yield


@pytest.mark.parametrize("padding", ["none", "masked", "biases"])
@pytest.mark.parametrize(("dtype", "pool_dtype"), TYPES, ids=str)
def test_attend_of_every_type(dtype, pool_dtype, padding):
    """A stream that has seen little, and one that has seen more than the memory holds."""
    size = helpers.size(streams=2, windows=1, heads=1, side=5, frames=3, dim=16)
    real = None if padding == "none" else torch.tensor([[3, 4]], dtype=torch.int32)
    pad = helpers.pads(size) if padding == "biases" else (None, None)
    memory = helpers.filled_memory(size, [2, 8], pool_dtype, "tokens", real)
    check_attend(helpers.tokens(size, dtype), memory, real=real, pad=pad)


@pytest.mark.parametrize("dtype", [FP32, FP16, BF16], ids=str)
@pytest.mark.parametrize("dim", [8, 24, 32, 64, 96, 128])
def test_attend_of_every_head_dim(dim, dtype):
    """Wide heads are shared among programs, and padded to a power of two."""
    size = helpers.size(streams=1, windows=1, heads=1, side=3, frames=2, dim=dim)
    check_attend(helpers.tokens(size, dtype), helpers.filled_memory(size, [2], dtype, "tokens"))


@pytest.mark.parametrize("side", [1, 2, 7, 8, 9, 14, 16])
def test_attend_of_every_window(side):
    size = helpers.size(streams=1, windows=1, heads=1, side=side, frames=2, dim=16)
    check_attend(helpers.tokens(size, FP16), helpers.filled_memory(size, [2], FP16, "tokens"))


@pytest.mark.parametrize(("frames", "count"), [(1, 1), (2, 1), (4, 3), (5, 9), (8, 6), (9, 9), (17, 16), (33, 40)])
def test_attend_of_every_tile(frames, count):
    """Few frames make tiles of several rows, many make several tiles; slots that nothing was written to are NaN."""
    size = helpers.size(streams=1, windows=1, heads=1, side=3, frames=frames, dim=16)
    check_attend(helpers.tokens(size), helpers.filled_memory(size, [count], FP32, "tokens"))


@pytest.mark.parametrize("biases", [True, False], ids=["biases", "masked"])
def test_attend_of_every_padding(biases):
    """Every number of real rows and columns, also none, each in a window of its own."""
    real = torch.cartesian_prod(torch.tensor([0, 1, 3]), torch.tensor([0, 2, 3])).int()
    size = helpers.size(streams=1, windows=len(real), heads=1, side=3, frames=2, dim=16)
    memory = helpers.filled_memory(size, [2], FP32, "tokens", real)
    pad = helpers.pads(size) if biases else (None, None)
    out = check_attend(helpers.tokens(size), memory, real=real, pad=pad)
    outside = ~helpers.inside(size, real).flatten(1)  # [W, N]
    assert bool((out.cpu()[:, 0][outside] == 0).all())


def test_attend_of_nothing():
    size = helpers.size(streams=2, windows=1, heads=1, dim=16)
    real = torch.tensor([[2, 3]], dtype=torch.int32)
    memory = helpers.filled_memory(size, [0, 0], FP32, "tokens", real)
    out = check_attend(helpers.tokens(size), memory, real=real, pad=helpers.pads(size))
    assert bool((out == 0).all())


@pytest.mark.parametrize("ids", [[2, 0], [1, 1, 0], []], ids=str)
def test_attend_of_some_streams(ids):
    size = helpers.size(streams=3, windows=1, heads=2, dim=16)
    memory = helpers.filled_memory(size, [1, 4, 7], FP32, "tokens")
    check_attend(helpers.tokens(size, batch=len(ids)), memory, streams=torch.tensor(ids, dtype=torch.int64))


def test_streams_that_do_not_exist_are_read_as_empty():
    size = helpers.size(streams=2, windows=1, heads=1, dim=16)
    memory, q = helpers.filled_memory(size, [4, 4], FP32, "tokens"), helpers.tokens(size, batch=3).to(DEVICE)
    out = ops.memory_attend(q, *placed(memory).pools, torch.tensor([2, 1, -1], device=DEVICE))
    assert (out != 0).flatten(1).any(1).tolist() == [False, True, False]


@pytest.mark.parametrize("strides", [*STRIDED, "fused"])
def test_strides_do_not_matter(strides):
    """Of q and of dout, in all the ways a tensor can lie; the expanded ones are what sum().backward() makes."""
    size = helpers.size(streams=1, windows=1, heads=2, dim=16)
    memory = helpers.filled_memory(size, [6], FP32, "tokens")
    if strides == "fused":
        q, dout, _ = helpers.fused(size)
    else:
        q, dout = (STRIDED[strides](helpers.tokens(size).to(DEVICE)) for _ in range(2))
    check_attend(q, memory, dout=dout)


def test_a_backward_takes_what_the_forward_saved_in_any_strides():
    """Whoever calls the ops may have copied one of the results: `out` and `out_column` need not lie alike."""
    size = helpers.size(streams=1, windows=1, heads=2, dim=16)
    memory, q = placed(helpers.filled_memory(size, [3], FP32, "tokens")), helpers.tokens(size).to(DEVICE)
    clip = q.unflatten(0, (1, 1, -1))  # [B, T, W, H, N, D]
    triton = torch.ops.svm_ext_triton
    for forward, backward, given, settings in (
        (triton.memory_attend, triton.memory_attend_backward, (q, *memory.pools, None, None, None, None), (SCALE,)),
        (triton.clip_attend, triton.clip_attend_backward, (clip, clip, -clip, None, None, None), (SCALE, 2, 1)),
    ):
        out, column, lse = forward(*given, *settings, True)
        expected = backward(out, *given, out, column, lse, *settings)
        other = column.contiguous()
        assert other.stride() != out.stride()
        helpers.assert_same(backward(out, *given, out, other, lse, *settings), expected)


@pytest.mark.parametrize("count", [4, 100])
@pytest.mark.parametrize(("dtype", "frames"), [(FP32, 2), (FP16, 3), (FP16, 9)], ids=str)
def test_programs_that_share_a_unit(dtype, frames, count):
    """Some rows each, down to one tile of them; a merge adds up the column plane."""
    size = helpers.size(streams=1, windows=2, heads=1, side=5, frames=frames, dim=64)
    real = torch.tensor([[5, 5], [2, 3]], dtype=torch.int32)
    memory = helpers.filled_memory(size, [frames], dtype, "tokens", real)
    with triton_cases.processors(count):
        check_attend(helpers.tokens(size, dtype), memory, real=real, pad=helpers.pads(size))


@pytest.mark.parametrize("frames", [3, 17])
def test_offsets_of_64_bits_within_a_unit(frames, monkeypatch):
    """As for tensors so large that those of 32 bits could not span one unit: the same bits come out."""
    size = helpers.size(streams=1, windows=1, heads=2, side=3, frames=frames, dim=24)
    memory, q = placed(helpers.filled_memory(size, [frames], FP16, "tokens")), helpers.tokens(size, FP16).to(DEVICE)
    clip = [torch.randn(1, 3, 1, 9, 2, 24, device=DEVICE).half().transpose(3, 4) for _ in range(3)]

    def results():
        ours, leaf = memory.clone(), q.clone().requires_grad_()
        out = ops.memory_attend(leaf, *ours.pools, scale=SCALE)
        yield from (out, *torch.autograd.grad(out, leaf, q))
        first = clip[0].clone().requires_grad_()
        out = ops.clip_attend(first, *clip[1:], None, None, None, SCALE, frames, "fifo")
        yield from (out, *torch.autograd.grad(out, first, clip[0]))
        ops.memory_append_(*ours.pools, q, -q, ours.step)
        yield from (ops.stream_step_(*ours.pools, q, q, q, ours.step + 1), ours.k, ours.v)

    expected = list(results())
    monkeypatch.setattr(_triton_launch, "_FAR", 0)
    for ours, theirs in zip(results(), expected, strict=True):
        helpers.assert_same(ours, theirs)


def test_what_32_bits_can_span():
    near = torch.empty(1, dtype=BF16).expand(2, 1, 196, 64)
    edge = torch.empty_strided((2, 1, 2, 64), (0, 0, 2**31 - 64, 1), device="meta")
    beyond = torch.empty_strided((2, 1, 2, 64), (0, 0, 2**31 - 63, 1), device="meta")
    assert [_triton_launch.far_apart(near, x) for x in (near, edge, beyond)] == [False, False, True]
    clip = torch.empty(1, 2, 1, 1, 9, 16, device="meta").as_strided((1, 2, 1, 1, 9, 16), (1, 2**31, 1, 1, 16, 1))
    pool = torch.empty(2**20, 1, 1, 2, 2, 2, 2**12, device="meta")
    assert [_triton_launch.far_apart(x) for x in (clip, pool, pool[:, :, :, :, :0])] == [True, False, False]


def test_merging_heads_is_free_and_only_out_comes_without_a_backward():
    size = helpers.size(streams=1, windows=1, heads=2, dim=16)
    memory, q = placed(helpers.filled_memory(size, [2], FP32, "tokens")), helpers.tokens(size).to(DEVICE)
    out, *rest = torch.ops.svm_ext_triton.memory_attend(q, *memory.pools, None, None, None, None, SCALE, False)
    assert out.transpose(1, 2).is_contiguous()
    assert rest == [None, None]


def test_same_input_same_bits():
    size = helpers.size(streams=1, windows=1, heads=1, side=5, frames=3, dim=16)
    memory, q = helpers.filled_memory(size, [3], FP16, "tokens"), helpers.tokens(size, FP16)
    dout = torch.randn(q.shape).half()
    helpers.assert_same(check_attend(q, memory, dout=dout), check_attend(q, memory, dout=dout))


# Through the interpreter only those of one pool and one kind of frame: the others differ in what the compiler sees.
APPENDS = [case for case in append_cases.CASES if not INTERPRETED or case.size.side == 4 or case.size.dim == 5]


@pytest.mark.parametrize("case", APPENDS, ids=str)
def test_append_equals_reference(case):
    if INTERPRETED and BF16 in (case.frame_type, case.pool_type) and case.frame_type != case.pool_type:
        pytest.skip("the interpreter cuts off what a GPU rounds")
    if INTERPRETED and BF16 in (case.frame_type, case.pool_type):
        case = replace(case, evict="fifo")  # an average is rounded too
    if INTERPRETED:
        case = replace(case, size=case.size._replace(windows=len(case.real or (1,)), heads=1))
    append_cases.check(torch.ops.svm_ext_triton.memory_append_, case, DEVICE)


def test_append_of_senseless_values_writes_nothing():
    append_cases.check_ignored(torch.ops.svm_ext_triton.memory_append_, DEVICE)


@pytest.mark.parametrize("dim", [24, 128])
@pytest.mark.parametrize("count", [1, 100])
@pytest.mark.parametrize("evict", helpers.EVICTIONS)
def test_step_equals_append_and_attend(evict, count, dim):
    size = helpers.size(streams=3, windows=1, heads=1, side=3, frames=2, dim=dim)
    batches = [[0, 1], [2, 0], [0], [0, 2], [1], [0, 1]]
    triton_cases.check_steps(size, [[3, 2]], evict, batches, [0, 2], count)


@pytest.mark.parametrize(("evict", "memory_frames"), [("clear", 2), ("fifo", 1), ("fifo", 2), ("fifo", 9)])
@pytest.mark.parametrize("dtype", [FP32, FP16, BF16], ids=str)
def test_clip_equals_the_oracle(dtype, evict, memory_frames):
    triton_cases.check_clip(3, 3, 24, dtype, evict, memory_frames, [[3, 3], [2, 1]])


def test_clip_with_wide_heads_and_frames_of_any_strides():
    q, k, v = torch.randn(3, 128, 2, 1, 2, 4, 3).movedim(1, -1).transpose(1, 2).transpose(-2, -3).unbind(0)
    out = ops.clip_attend(*there(q, k, v), None, None, None, SCALE, 2, "fifo")
    expected, _, _ = reference.clip_attend(q, k, v, None, None, None, SCALE, 2, 1, False)
    torch.testing.assert_close(out.cpu(), expected, rtol=1e-5, atol=1e-5)


def test_clip_without_frames():
    q = torch.zeros(0, 2, 1, 1, 9, 16, device=DEVICE, requires_grad=True)
    out = ops.clip_attend(q, q, q, None, None, None, SCALE, 2, "fifo")
    assert torch.autograd.grad(out.sum(), q)[0].shape == out.shape == q.shape


@pytest.mark.parametrize("dtype", [FP32, FP64], ids=str)
@pytest.mark.parametrize("count", [0, 1, 5, 33, 130])
def test_nms_equals_the_oracle(count, dtype):
    corners = torch.rand(count, 2, dtype=dtype) * 60
    boxes = torch.cat([corners, corners + torch.rand(count, 2, dtype=dtype) * 30 - 2], 1).round()
    scores, groups = (torch.rand(count) * 8).round() / 8, torch.randint(-3, 2, (count,))  # many equal ones
    if count > 5:
        scores[3], scores[4], scores[5], boxes[2, 1], boxes[4] = NAN, INF, -INF, NAN, INF
    for threshold in (0.5, 0.0, 1.0, -1.0):
        kept = torch.ops.svm_ext_triton.nms_mask(*there(boxes, scores, groups), threshold)
        assert torch.equal(kept.cpu(), _reference_nms.nms_mask(boxes, scores, groups, threshold))


NAN, INF = float("nan"), float("inf")


def test_nms_of_more_boxes_than_one_chunk_of_words():
    """Far apart but for the last, which only the first overlaps."""
    count = 32 * 513 + 1 if not INTERPRETED else 70
    at = torch.arange(count, dtype=FP32)[:, None] * 10
    boxes = torch.cat([at, at, at + 1, at + 1], 1)
    boxes[-1] = boxes[0]
    kept = ops.nms_mask(boxes.to(DEVICE), -torch.arange(count, dtype=FP32, device=DEVICE))
    assert kept.cpu().nonzero().flatten().tolist() == list(range(count - 1))


def test_ops_pass_opcheck():
    size = helpers.size(streams=1, windows=1, heads=1, dim=16)
    memory, own = placed(helpers.filled_memory(size, [2], FP32, "tokens")), torch.ops.svm_ext_triton
    q, k, v = (x.to(DEVICE) for x in helpers.fused(size))
    nothing = (None,) * 4
    torch.library.opcheck(own.memory_append_.default, (*memory.pools, k, v, memory.step, None, None, 0))
    torch.library.opcheck(own.stream_step_.default, (*memory.pools, q, k, v, memory.step, *nothing, SCALE, 0))
    torch.library.opcheck(own.memory_attend.default, (q.requires_grad_(), *memory.pools, *nothing, SCALE, True))


def test_compiles_into_one_graph_and_not_anew_for_every_frame():
    size = helpers.size(streams=1, windows=1, heads=1, frames=2, dim=16)
    memory = placed(helpers.empty_memory(size, FP32, "tokens"))
    plain = memory.clone()

    def frame(q, k, v, memory):
        ops.memory_append_(*memory.pools, k, v, memory.step)
        out = ops.memory_attend(q, *memory.pools)
        memory.step.add_(1)
        return out

    compiled = torch.compile(frame, fullgraph=True, backend="aot_eager" if INTERPRETED else "inductor")
    with torch._dynamo.config.patch(error_on_recompile=True), torch.no_grad():
        for _ in range(3):
            q, k, v = (x.to(DEVICE) for x in helpers.fused(size))
            helpers.assert_same(compiled(q, k, v, memory), frame(q, k, v, plain))


def test_autocast_narrows_the_queries():
    size = helpers.size(streams=1, windows=1, heads=1, dim=16)
    memory = placed(helpers.filled_memory(size, [2], BF16, "tokens"))
    with torch.autocast(DEVICE.type, dtype=BF16):
        assert ops.memory_attend(helpers.tokens(size).to(DEVICE), *memory.pools).dtype == BF16


def test_chosen_where_there_is_no_compiled_cuda(monkeypatch):
    monkeypatch.delitem(backend._announced, "cuda", raising=False)
    with use_backend("auto"):
        assert backend.backend_for("cuda") == "triton"
        assert svm_ext.info().backends["triton"].built
    monkeypatch.setitem(backend._announced, "cuda", backend.BackEnd("cuda", "svm_ext", ("cuda",), frozenset()))
    with use_backend("auto"):
        assert backend.backend_for("cuda") == "cuda"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": FP64}, "q: expected float32, bfloat16 or float16 for Triton, got float64; convert it"),
        ({"dim": 520}, "q: expected a head dim of at most 512 for Triton, got 520; use more heads"),
        ({"layout": "columns"}, r"k_pool: expected the GPU's layout \[S, W, H, n, T, n, D\] for Triton, got shape"),
    ],
    ids=["fp64", "dim", "layout"],
)
def test_what_the_kernels_do_not_take_is_told_in_one_line(change, message):
    dtype, layout = change.pop("dtype", FP32), change.pop("layout", "tokens")
    size = helpers.size(streams=1, windows=1, heads=1, **({"dim": 16} | change))
    memory, q = placed(helpers.filled_memory(size, [1], dtype, layout)), helpers.tokens(size, dtype).to(DEVICE)
    for call in (
        lambda: ops.memory_attend(q, *memory.pools),
        lambda: ops.memory_append_(*memory.pools, q, q, memory.step),
        lambda: ops.stream_step_(*memory.pools, q, q, q, memory.step),
    ):
        with pytest.raises(ValueError, match=message.replace("q: expected float", "(q|k): expected float")):
            call()


@on_a_gpu
def test_frames_replay_in_a_graph():
    size = helpers.size(streams=2, windows=2, heads=2, side=14, frames=3, dim=64)
    memory = placed(helpers.empty_memory(size, BF16, "tokens"))
    plain = memory.clone()
    q, k, v = (x.to(DEVICE) for x in helpers.fused(size, BF16))

    def frame(memory):
        out = ops.stream_step_(*memory.pools, q, k, v, memory.step)
        memory.step.add_(1)
        return out

    frame(memory.clone())  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = frame(memory)
    for _ in range(7):
        for held, new in zip((q, k, v), helpers.fused(size, BF16), strict=True):
            held.copy_(new)
        graph.replay()
        helpers.assert_same(out, frame(plain))


@on_a_gpu
def test_offsets_beyond_32_bits():
    """A pool of more than 2^31 numbers: its last unit lies where a 32-bit offset cannot reach."""
    frames = 2**31 // (196 * 128) + 1
    pool = torch.zeros(2, 1, 1, 14, frames, 14, 128, dtype=BF16, device=DEVICE)
    cursor = torch.tensor([frames - 1, frames - 2], device=DEVICE).expand(2, 1, 1, 2).contiguous()
    step, ids = torch.full((2,), frames, device=DEVICE), torch.tensor([1], device=DEVICE)
    k = torch.randn(1, 1, 196, 128, device=DEVICE).to(BF16)
    ops.memory_append_(pool, pool, cursor, k, k, step, ids, None, "fifo")
    assert torch.equal(pool[1, 0, 0, :, -1].flatten(0, 1), k[0, 0])


def test_the_first_launch_names_the_gpu_that_it_is_for():
    assert _triton_launch.gpu_of(DEVICE).kind in ("cuda", "hip")
