"""clip_attend: a whole clip at once equals its frames one by one through a memory, and the oracle."""

from __future__ import annotations

import pytest
import torch

import helpers
from helpers import BF16, FP32, FP64, NAN, STRIDED
from svm_ext import ops
from svm_ext.ops import _check, reference

SCALE = 0.3
RULES = ["clear", "fifo"]


def clip(batch=2, frames=5, windows=2, heads=2, side=3, dim=16, dtype=FP32) -> torch.Tensor:
    """Random q, k, v and dout, [4, B, T, W, H, N, D]."""
    return torch.randn(4, batch, frames, windows, heads, side * side, dim).to(dtype)


def oracle(q, k, v, dout, real, pad, scale, memory_frames, evict):
    """out, dq and lse in fp64, dq by autograd."""
    q64, k64, v64 = (x.detach().double() for x in (q, k, v))
    q64.requires_grad_()
    pad64 = (None if p is None else p.double() for p in pad)
    code = _check.EVICTIONS[evict]
    out, _, lse = reference.clip_attend(q64, k64, v64, real, *pad64, scale, memory_frames, code, True)
    return out.detach(), torch.autograd.grad(out, q64, dout.double())[0], lse.detach()


def plain(q, k, v, dout, real, pad, scale, memory_frames, evict):
    """out, dq and lse by plain torch in the type of q."""
    rule, options = (memory_frames, _check.EVICTIONS[evict]), dict(dtype=q.dtype)
    out, column, lse = reference.clip_attend(q, k, v, real, *pad, scale, *rule, True, **options)
    dq = reference.clip_attend_backward(dout, q, k, v, real, *pad, out, column, lse, scale, *rule, **options)
    return out, dq, lse


def check(
    q, k, v, dout, *, real=None, pad=(None, None), scale=SCALE, memory_frames=2, evict="clear", truth=None, low=None,
    factor=2,
) -> None:  # fmt: skip
    settings = (real, pad, scale, memory_frames, evict)
    leaf = q.detach().requires_grad_()
    out = ops.clip_attend(leaf, k, v, real, *pad, scale, memory_frames, evict)
    lse = out.grad_fn.saved_tensors[-1]
    dq = torch.autograd.grad(out, leaf, dout)[0]
    truth = truth or oracle(q, k, v, dout, *settings)
    low = low or plain(q, k, v, dout, *settings)
    for what, ours, ref, rough in zip(("out", "dq", "lse"), (out.detach(), dq, lse), truth, low, strict=True):
        helpers.assert_close(ours, ref, rough, what, factor)
    with torch.no_grad():
        helpers.assert_same(ops.clip_attend(q, k, v, real, *pad, scale, memory_frames, evict), out.detach())


@pytest.mark.parametrize("padding", ["none", "masked", "biases"])
@pytest.mark.parametrize("evict", RULES)
@pytest.mark.parametrize("dtype", [FP32, BF16, FP64], ids=["fp32", "bf16", "fp64"])
def test_equals_the_oracle(backend, dtype, evict, padding):
    size = helpers.size(windows=3, side=4, dim=16)
    real = None if padding == "none" else helpers.real_sizes(size)
    pad = helpers.pads(size, dtype) if padding == "biases" else (None, None)
    check(*clip(windows=3, side=4, dtype=dtype), real=real, pad=pad, memory_frames=3, evict=evict)


@pytest.mark.parametrize("evict", RULES)
@pytest.mark.parametrize("memory_frames", [1, 2, 3, 5, 6, 40])
def test_every_memory_length(backend, memory_frames, evict):
    """Shorter than the clip, as long, longer; a clip that ends within a block."""
    check(*clip(batch=1, windows=1), memory_frames=memory_frames, evict=evict)


@pytest.mark.parametrize("side", [1, 3, 7, 8, 14, 16, 17])
@pytest.mark.parametrize("dim", [8, 16, 32, 64, 96, 128])
@pytest.mark.parametrize("dtype", [FP32, BF16], ids=["fp32", "bf16"])
def test_every_size(side, dim, dtype):
    """One oracle, all instruction sets; the window's last row and column may be padding."""
    real = torch.tensor([[side - side // 3, (side + 1) // 2]], dtype=torch.int32)
    pad = helpers.pads(helpers.size(heads=1, dim=dim))
    tensors = clip(batch=1, frames=3, windows=1, heads=1, side=side, dim=dim, dtype=dtype)
    settings = dict(real=real, pad=pad, memory_frames=2, evict="fifo")
    truth = oracle(*tensors, real, pad, SCALE, 2, "fifo")
    low = plain(*tensors, real, pad, SCALE, 2, "fifo")
    for backend in helpers.compiled_backends():
        with backend.selected():
            check(*tensors, **settings, truth=truth, low=low)


@pytest.mark.parametrize("evict", RULES)
@pytest.mark.parametrize(("side", "rows", "columns"), [(14, 14, 14), (14, 13, 10), (7, 5, 6), (3, 1, 3)])
@pytest.mark.parametrize("dtype", [FP32, BF16], ids=["fp32", "bf16"])
def test_long_clips(dtype, side, rows, columns, evict):
    """Frames see more keys than one round of the kernels takes, and stretches that begin and end anywhere."""
    real = torch.tensor([[rows, columns]], dtype=torch.int32)
    pad = helpers.pads(helpers.size(heads=1, dim=32))
    tensors = clip(batch=1, frames=14, windows=1, heads=1, side=side, dim=32, dtype=dtype)
    settings = (real, pad, SCALE, 9, evict)
    truth, low = oracle(*tensors, *settings), plain(*tensors, *settings)
    for backend in helpers.compiled_backends():
        with backend.selected():
            check(*tensors, real=real, pad=pad, memory_frames=9, evict=evict, truth=truth, low=low)


@pytest.mark.parametrize("scale", [10.0, 1e-6, 0.0, -1.0])
@pytest.mark.parametrize("dim", [16, 32])
def test_extreme_logits(backend, scale, dim):
    """As in memory_attend: a softmax that is all one key, and one that knows no difference."""
    check(*clip(batch=1, frames=3, windows=1, heads=1, side=4, dim=dim), scale=scale, factor=8)


@pytest.mark.parametrize("evict", RULES)
@pytest.mark.parametrize("memory_frames", [1, 2, 3])
def test_equals_frame_by_frame(backend, memory_frames, evict):
    """The same attention by another road: append, attend, backward, advance for each frame of two streams."""
    q, k, v, dout = clip(batch=2, frames=7)
    size = helpers.size(streams=2, windows=2, heads=2, side=3, frames=memory_frames, dim=16)
    memory, real, pad = helpers.empty_memory(size, FP32, backend.layout), helpers.real_sizes(size), helpers.pads(size)
    outs, gradients = [], []
    for t in range(q.shape[1]):
        frame = [x[:, t].flatten(0, 1) for x in (q, k, v, dout)]  # [B*W, H, N, D]
        frame[0].requires_grad_()
        ops.memory_append_(*memory.pools, *frame[1:3], memory.step, None, real, evict)
        outs.append(ops.memory_attend(frame[0], *memory.pools, None, real, *pad, SCALE))
        gradients.append(torch.autograd.grad(outs[-1], frame[0], frame[3])[0])
        memory.step.add_(1)
    leaf = q.clone().requires_grad_()
    out = ops.clip_attend(leaf, k, v, real, *pad, SCALE, memory_frames, evict)
    out.backward(dout)
    for ours, frames in ((out, outs), (leaf.grad, gradients)):
        expected = torch.stack(frames, 1).unflatten(0, (2, 2)).transpose(1, 2)  # [B, T, W, H, N, D]
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [FP32, BF16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("strides", [*STRIDED, "fused"])
def test_strides_do_not_matter(backend, strides, dtype):
    if strides == "fused":  # [B, T, W, N, 3, H, D], one projection's output within a larger buffer
        flat = torch.randn(1 + 2 * 3 * 2 * 9 * 4 * 2 * 16).to(dtype)[1:]
        tensors = flat.view(2, 3, 2, 9, 4, 2, 16).permute(4, 0, 1, 2, 5, 3, 6)
    else:
        tensors = [STRIDED[strides](x) for x in clip(frames=3, dtype=dtype)]
        if strides == "one_number":  # keys that are all the same would leave no gradient but rounding
            tensors[1:3] = (STRIDED["every_other"](x) for x in clip(frames=3, dtype=dtype)[1:3])
    assert not any(x.is_contiguous() for x in tensors)
    check(*tensors)


def test_merging_heads_is_free(backend):
    q, k, v, _ = clip()
    q.requires_grad_()
    out = ops.clip_attend(q, k, v, memory_frames=2)
    assert out.transpose(3, 4).is_contiguous()
    assert torch.autograd.grad(out.sum(), q)[0].transpose(3, 4).is_contiguous()


@pytest.mark.parametrize("evict", RULES)
@pytest.mark.parametrize(("side", "dim"), [(3, 16), (5, 32), (14, 32)])
@pytest.mark.parametrize("dtype", [FP32, BF16], ids=["fp32", "bf16"])
def test_the_future_is_not_seen(backend, dtype, side, dim, evict):
    """Frames to come are NaN, and frames that the memory has lost; those in between are not, neither is their
    gradient."""
    q, k, v, dout = clip(batch=1, frames=6, windows=1, heads=1, side=side, dim=dim, dtype=dtype)
    q.requires_grad_()

    def both_ways() -> torch.Tensor:
        out = ops.clip_attend(q, k, v, memory_frames=2, evict=evict)
        return torch.stack([out.detach(), torch.autograd.grad(out, q, dout)[0]])

    clean = both_ways()
    k[:, 5], v[:, 0] = NAN, NAN
    spoilt = both_ways()
    for t in range(6):
        first = reference.first_visible(t, 2, _check.EVICTIONS[evict])
        if first == 0 or t == 5:
            assert spoilt[0, :, t].isnan().all()
        else:
            helpers.assert_same(spoilt[:, :, t], clean[:, :, t])


@pytest.mark.parametrize("evict", RULES)
def test_gradcheck(backend, evict):
    q, k, v, _ = clip(batch=1, frames=3, windows=1, heads=1, side=2, dim=3, dtype=FP64)
    q.requires_grad_()
    assert torch.autograd.gradcheck(lambda q: ops.clip_attend(q, k, v, memory_frames=2, evict=evict), q)


def test_same_input_same_bits(backend):
    """Whatever the number of threads."""
    q, k, v, dout = clip(batch=3, frames=4, windows=2, heads=3, side=7, dim=32)
    q.requires_grad_()
    results = []
    for count in (1, 2, 3) if backend.name == "cpu" else (1, 1):
        with helpers.threads(count):
            out = ops.clip_attend(q, k, v, memory_frames=3, evict="fifo")
            results.append((out.detach(), torch.autograd.grad(out, q, dout)[0]))
    for out, dq in results[1:]:
        helpers.assert_same(out, results[0][0])
        helpers.assert_same(dq, results[0][1])


@pytest.mark.parametrize("namespace", ["svm_ext", "svm_ext_reference"])
def test_without_a_backward_only_out_comes(namespace):
    q, k, v, _ = clip()
    op, settings = getattr(torch.ops, namespace).clip_attend, (None, None, None, SCALE, 2, 1)
    out, *rest = op(q, k, v, *settings, False)
    helpers.assert_same(out, op(q, k, v, *settings, True)[0])
    assert rest == [None, None]


def test_only_q_has_a_gradient(backend):
    q, k, v = (x.requires_grad_() for x in clip()[:3].unbind())
    ops.clip_attend(q, k, v).sum().backward()
    assert q.grad is not None
    assert k.grad is None
    assert v.grad is None
    assert not ops.clip_attend(q.detach(), k, v).requires_grad


def test_one_backward_serves_the_clip_more_than_once(backend):
    """Nothing is overwritten, so the graph can be kept."""
    q, k, v, dout = clip()
    q.requires_grad_()
    out = ops.clip_attend(q, k, v)
    first, second = (torch.autograd.grad(out, q, dout, retain_graph=True)[0] for _ in range(2))
    helpers.assert_same(first, second)


def test_empty_clips(backend):
    for shape in ((0, 3, 1, 1, 4, 8), (1, 0, 1, 1, 4, 8), (1, 3, 0, 1, 4, 8)):
        q = torch.randn(shape, requires_grad=True)
        out = ops.clip_attend(q, q, q)
        assert out.shape == shape
        out.sum().backward()
