"""memory_attend and its backward against the fp64 oracle: types, sizes, padding, strides, and what must not matter."""

from __future__ import annotations

import pytest
import torch

import helpers
from helpers import BF16, DTYPE_IDS, DTYPES, FP32, FP64, NAN, STRIDED, Memory
from svm_ext import ops, use_backend
from svm_ext.ops import _pool, reference

SCALE = 0.3


def check(q, memory: Memory, dout=None, *, streams=None, real=None, pad=(None, None), scale=SCALE, factor=2) -> None:
    """Forward, log-sum-exp and gradient against the oracle, by the one tolerance rule."""
    options = dict(streams=streams, real=real, pad=pad, scale=scale)
    leaf = q.detach().requires_grad_()  # q's own strides
    out = ops.memory_attend(leaf, *memory.pools, streams, real, *pad, scale)
    assert out.dtype == q.dtype
    truth, _, lse64 = helpers.oracle_attend(q, memory, **options)
    plain, _, plain_lse = helpers.plain_attend(q, memory, **options)
    helpers.assert_close(out.detach(), truth, plain, factor=factor)
    lse = out.grad_fn.saved_tensors[-1]
    helpers.assert_close(lse, lse64, plain_lse, "lse", factor)

    dout = torch.randn(q.shape).to(q.dtype) if dout is None else dout
    dq = torch.autograd.grad(out, leaf, dout)[0]
    truth = helpers.oracle_gradient(dout, q, memory, **options)
    plain = helpers.plain_gradient(dout, q, memory, **options)
    helpers.assert_close(dq, truth, plain, "dq", factor)

    with torch.no_grad():
        helpers.assert_same(ops.memory_attend(q, *memory.pools, streams, real, *pad, scale), out.detach(), "no_grad")


@pytest.mark.parametrize("padding", ["none", "masked", "biases"])
@pytest.mark.parametrize(("dtype", "pool_dtype"), DTYPES, ids=DTYPE_IDS)
def test_equals_the_oracle(backend, dtype, pool_dtype, padding):
    """Streams that have seen nothing, little, just enough and more than the memory holds."""
    size = helpers.size(streams=4, windows=3, side=5, frames=3, dim=16)
    real = None if padding == "none" else helpers.real_sizes(size)
    pad = helpers.pads(size, pool_dtype) if padding == "biases" else (None, None)
    memory = helpers.filled_memory(size, [0, 1, 3, 8], pool_dtype, backend.layout, real)
    check(helpers.tokens(size, dtype), memory, real=real, pad=pad)


@pytest.mark.parametrize("side", [1, 3, 7, 8, 14, 16, 17])
@pytest.mark.parametrize("dim", [8, 16, 32, 64, 96, 128])
@pytest.mark.parametrize(("dtype", "pool_dtype"), [(FP32, FP32), (FP32, BF16), (BF16, BF16)])
def test_every_size_equals_the_oracle(side, dim, dtype, pool_dtype):
    """One oracle, all instruction sets; the window's last row and column may be padding."""
    size = helpers.size(streams=1, windows=2, heads=1, side=side, dim=dim, frames=2)
    real = torch.tensor([[side, side], [(side + 1) // 2, side - side // 3]], dtype=torch.int32)
    memory = helpers.filled_memory(size, [3], pool_dtype, real=real)
    q, dout = helpers.tokens(size, dtype), helpers.tokens(size, dtype)
    options = dict(real=real, pad=helpers.pads(size), scale=dim**-0.5)
    truth, plain = helpers.oracle_attend(q, memory, **options)[0], helpers.plain_attend(q, memory, **options)[0]
    truth_dq, plain_dq = (f(dout, q, memory, **options) for f in (helpers.oracle_gradient, helpers.plain_gradient))
    for backend in helpers.compiled_backends():
        leaf = q.clone().requires_grad_()
        with backend.selected():
            out = ops.memory_attend(leaf, *memory.pools, None, real, *options["pad"], options["scale"])
            out.backward(dout)
        helpers.assert_close(out.detach(), truth, plain, f"out, {backend.isa}")
        helpers.assert_close(leaf.grad, truth_dq, plain_dq, f"dq, {backend.isa}")


@pytest.mark.parametrize("side", [3, 14])
@pytest.mark.parametrize("pool_dtype", [FP32, BF16], ids=["fp32", "bf16pool"])
@pytest.mark.parametrize("biases", [True, False], ids=["biases", "masked"])
def test_every_padding(backend, side, pool_dtype, biases):
    """Every number of real rows and columns of a window, also none, each in a window of its own."""
    lines = torch.arange(side + 1) if side < 8 else torch.tensor([0, 1, 6, 13, 14])
    real = torch.cartesian_prod(lines, lines).int()
    size = helpers.size(streams=1, windows=len(real), heads=1, side=side, frames=2, dim=16)
    memory = helpers.filled_memory(size, [2], pool_dtype, backend.layout, real)
    q = helpers.tokens(size)
    pad = helpers.pads(size) if biases else (None, None)
    check(q, memory, real=real, pad=pad)
    outside = ~helpers.inside(size, real).flatten(1)  # [W, N]
    assert bool((ops.memory_attend(q, *memory.pools, None, real, *pad)[:, 0][outside] == 0).all())


@pytest.mark.parametrize("count", range(9))
def test_every_cursor(backend, count):
    """Slots beyond what is held are NaN here, so that a look at one of them shows."""
    size = helpers.size(streams=1, windows=1, heads=1, side=4, frames=4, dim=16)
    memory = helpers.filled_memory(size, [count], FP32, backend.layout)
    check(helpers.tokens(size), memory)


def test_nothing_held(backend):
    """A stream without frames gives 0, a log-sum-exp of -inf and no gradient, not NaN."""
    size = helpers.size(streams=2, dim=16)
    memory = helpers.filled_memory(size, [0, 0], FP32, backend.layout)
    real, (pad_k, pad_v) = helpers.real_sizes(size), helpers.pads(size)
    q = helpers.tokens(size).requires_grad_()
    out = ops.memory_attend(q, *memory.pools, None, real, pad_k, pad_v)
    assert bool((out == 0).all())
    assert bool((out.grad_fn.saved_tensors[-1] == float("-inf")).all())
    out.sum().backward()
    assert bool((q.grad == 0).all())


@pytest.mark.parametrize("ids", [[2, 0], [1], [0, 1, 2], [2, 1, 0], [1, 1, 0, 1], []], ids=str)
def test_stream_ids(backend, ids):
    """Any order, also none, also the same memory several times: attending changes nothing."""
    size = helpers.size(streams=3, dim=16)
    memory = helpers.filled_memory(size, [1, 4, 7], FP32, backend.layout)
    q = helpers.tokens(size, batch=len(ids))
    check(q, memory, streams=torch.tensor(ids, dtype=torch.int64))


@pytest.mark.parametrize(("dtype", "pool_dtype"), [(FP32, FP32), (BF16, BF16)], ids=["fp32", "bf16"])
@pytest.mark.parametrize("strides", [*STRIDED, "fused"])
def test_strides_do_not_matter(backend, strides, dtype, pool_dtype):
    """Of q and of dout, in all the ways a tensor can lie; the expanded ones are what sum().backward() makes."""
    size = helpers.size(dim=16)
    memory = helpers.filled_memory(size, [2, 6], pool_dtype, backend.layout)
    if strides == "fused":
        q, dout, _ = helpers.fused(size, dtype)
    else:
        q, dout = (STRIDED[strides](helpers.tokens(size, dtype)) for _ in range(2))
    assert not q.is_contiguous()
    assert not dout.is_contiguous()
    check(q, memory, dout)
    with torch.no_grad():
        ours, contiguous = (ops.memory_attend(x, *memory.pools) for x in (q, q.contiguous()))
    helpers.assert_same(ours, contiguous)


def test_merging_heads_is_free(backend):
    size = helpers.size(dim=16)
    memory = helpers.filled_memory(size, [2, 6], FP32, backend.layout)
    q = helpers.tokens(size).requires_grad_()
    out = ops.memory_attend(q, *memory.pools)
    out.sum().backward()
    assert out.transpose(1, 2).is_contiguous()
    assert torch.autograd.grad(ops.memory_attend(q, *memory.pools).sum(), q)[0].transpose(1, 2).is_contiguous()


@pytest.mark.parametrize("scale", [10.0, 1e-6, 0.0, -1.0])
def test_extreme_logits(backend, scale):
    """A softmax that is all one key, and one that knows no difference.

    Large logits magnify the rounding of the products that they are made of, here and there by another factor.
    """
    size = helpers.size(dim=16)
    memory = helpers.filled_memory(size, [2, 6], FP32, backend.layout)
    check(helpers.tokens(size), memory, scale=scale, factor=8)


def test_nan_is_passed_through_not_hidden(backend):
    """A NaN query spoils itself; a NaN key spoils its row and its column; nothing else."""
    size = helpers.size(streams=1, windows=1, heads=1, side=3, frames=2, dim=16)
    memory = helpers.filled_memory(size, [2], FP32, backend.layout)
    q = helpers.tokens(size)
    q[0, 0, 4, 3] = NAN
    spoilt = ops.memory_attend(q, *memory.pools).isnan().any(-1)[0, 0]
    assert spoilt.tolist() == [i == 4 for i in range(9)]

    q = helpers.tokens(size)
    _pool.frames_view(memory.k)[0, 0, 0, 1, 0, 2] = NAN  # row 0, column 2
    spoilt = ops.memory_attend(q, *memory.pools).isnan().all(-1)[0, 0].view(3, 3)
    assert spoilt.tolist() == [[True, True, True], [False, False, True], [False, False, True]]


@pytest.mark.parametrize("pad", [False, True], ids=["whole", "padded"])
def test_gradcheck(backend, pad):
    size = helpers.size(streams=2, windows=1, heads=1, side=3, frames=2, dim=4)
    real = torch.tensor([[2, 3]], dtype=torch.int32) if pad else None
    pair = helpers.pads(size, FP64) if pad else (None, None)
    memory = helpers.filled_memory(size, [1, 3], FP64, backend.layout, real)
    q = helpers.tokens(size, FP64).requires_grad_()
    assert torch.autograd.gradcheck(lambda q: ops.memory_attend(q, *memory.pools, None, real, *pair, SCALE), q)


def test_oracle_backward_is_its_own_derivative():
    """The oracle's formula for dq against autograd through the oracle's forward."""
    size = helpers.size(windows=3, side=4, dim=8)
    real, pad = helpers.real_sizes(size), helpers.pads(size, FP64)
    memory = helpers.filled_memory(size, [1, 9], FP64, "tokens", real)
    q, dout = helpers.tokens(size, FP64), helpers.tokens(size, FP64)
    truth = helpers.oracle_gradient(dout, q, memory, real=real, pad=pad)
    results = reference.memory_attend(q, *memory.pools, None, real, *pad, SCALE, True)
    dq = reference.memory_attend_backward(dout, q, *memory.pools, None, real, *pad, *results, SCALE)
    torch.testing.assert_close(dq, truth, rtol=1e-12, atol=1e-12)


def test_same_input_same_bits(backend):
    """Whatever the number of threads: each number has one writer."""
    size = helpers.size(streams=3, windows=3, heads=3, side=7, dim=32)
    memory = helpers.filled_memory(size, [1, 4, 9], FP32, backend.layout)
    leaf, dout = helpers.tokens(size).requires_grad_(), helpers.tokens(size)
    results = []
    for count in (2, 2, 1, 3):
        with helpers.threads(count):
            out = ops.memory_attend(leaf, *memory.pools)
            results.append((out.detach(), torch.autograd.grad(out, leaf, dout)[0]))
    # torch's own matrix products may choose by the number of threads.
    for out, dq in results[1:] if backend.name == "cpu" else results[1:2]:
        helpers.assert_same(out, results[0][0])
        helpers.assert_same(dq, results[0][1])


@pytest.mark.parametrize("namespace", ["svm_ext", "svm_ext_reference"])
def test_without_a_backward_only_out_comes(namespace):
    size = helpers.size(dim=16)
    memory, q = helpers.filled_memory(size, [2, 2], FP32), helpers.tokens(size)
    op, settings = getattr(torch.ops, namespace).memory_attend, (None, None, None, None, SCALE)
    out, *rest = op(q, *memory.pools, *settings, False)
    helpers.assert_same(out, op(q, *memory.pools, *settings, True)[0])
    assert rest == [None, None]


def test_only_q_has_a_gradient(backend):
    size = helpers.size(dim=16)
    memory = helpers.filled_memory(size, [2, 2], FP32, backend.layout)
    q, (pad_k, pad_v) = helpers.tokens(size).requires_grad_(), (p.requires_grad_() for p in helpers.pads(size))
    real = helpers.real_sizes(size)
    ops.memory_attend(q, *memory.pools, None, real, pad_k, pad_v).sum().backward()
    assert q.grad is not None
    assert pad_k.grad is None
    assert pad_v.grad is None
    assert not ops.memory_attend(q.detach(), *memory.pools, None, real, pad_k, pad_v).requires_grad


@pytest.mark.parametrize("change", ["append", "reset"])
def test_backward_over_a_changed_memory_is_refused(backend, change):
    size = helpers.size(dim=16)
    memory = helpers.filled_memory(size, [2, 2], FP32, backend.layout)
    out = ops.memory_attend(helpers.tokens(size).requires_grad_(), *memory.pools)
    if change == "append":
        ops.memory_append_(*memory.pools, helpers.tokens(size), helpers.tokens(size), memory.step)
    else:
        memory.cursor.zero_()
    with pytest.raises(RuntimeError, match="overwritten before its backward.*clip_attend"):
        out.sum().backward()


def test_back_end_of_the_forward_does_the_backward(backend):
    size = helpers.size(dim=16)
    memory = helpers.filled_memory(size, [2, 2], FP32, backend.layout)
    q = helpers.tokens(size).requires_grad_()
    out = ops.memory_attend(q, *memory.pools)
    with use_backend("triton"):  # carries nothing: asking it would fail
        out.sum().backward()
    assert q.grad is not None
