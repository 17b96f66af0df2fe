"""Where the Triton kernels run in this process, and how a test hands them a memory that the oracle knows too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from unittest import mock

import pytest
import torch
from torch import Tensor

import helpers
import svm_ext
from helpers import BF16, Memory
from svm_ext import ops, use_backend
from svm_ext.ops import _check, _triton_launch, reference
from svm_ext.ops._pool import PoolSize

FP16 = torch.float16
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
SCALE = 0.3
NO_GPU = "NO GPU: the Triton kernels were run through their interpreter only"
MARKS = [  # of a test module
    pytest.mark.skipif(not INTERPRETED and not torch.cuda.is_available(), reason=NO_GPU),
    *([] if INTERPRETED else [pytest.mark.gpu]),
]


def skip_unless_usable() -> None:
    """Skip a test where Triton cannot run, and forget what was compiled before."""
    state = svm_ext.info().backends["triton"]
    if not state.usable:
        pytest.skip(f"TRITON BACK END NOT USABLE: {state.reason}")
    torch._dynamo.reset()


def factor(*dtypes: torch.dtype) -> float:
    """How many times the error of plain torch is allowed.

    Triton's interpreter cuts off what does not fit into bf16 where a GPU rounds: twice the error at every step, and all
    of it to one side, so that it adds up.
    """
    return 8 if INTERPRETED and BF16 in dtypes else 2


def placed(memory: Memory) -> Memory:
    """The same memory where the kernels run."""
    return Memory(*(x.to(DEVICE) for x in (memory.k, memory.v, memory.cursor, memory.step)))


def there(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    """The same tensors where the kernels run."""
    return tuple(None if x is None else x.to(DEVICE) for x in tensors)


@contextmanager
def processors(count: int) -> Iterator[None]:
    """Let the heuristics choose for a GPU with so many processors: with many, they share a unit's rows."""
    gpu = _triton_launch.kernels_of("heuristics").Gpu("cuda", 90, count)
    with mock.patch.object(_triton_launch, "gpu_of", return_value=gpu):
        yield


def check_attend(q, memory: Memory, *, dout=None, streams=None, real=None, pad=(None, None)) -> Tensor:
    """Forward, log-sum-exp and gradient against the fp64 oracle, by the one tolerance rule; returns the output."""
    options = dict(streams=streams, real=real, pad=pad, scale=SCALE)
    dout = torch.randn(q.shape).to(q.dtype) if dout is None else dout
    leaf = (q if q.device == DEVICE else q.to(DEVICE)).detach().requires_grad_()
    with use_backend("triton"):
        out = ops.memory_attend(leaf, *placed(memory).pools, *there(streams, real, *pad), SCALE)
        lse = out.grad_fn.saved_tensors[-1]
        dq = torch.autograd.grad(out, leaf, dout.to(DEVICE) if dout.device != DEVICE else dout)[0]
    assert out.dtype == dq.dtype == q.dtype
    allowed = factor(q.dtype, memory.k.dtype)
    q, dout = q.cpu(), dout.cpu()
    truth, _, lse64 = helpers.oracle_attend(q, memory, **options)
    plain, _, plain_lse = helpers.plain_attend(q, memory, **options)
    helpers.assert_close(out.detach().cpu(), truth, plain, factor=allowed)
    helpers.assert_close(lse.cpu(), lse64, plain_lse, "lse", allowed)
    truth, plain = (f(dout, q, memory, **options) for f in (helpers.oracle_gradient, helpers.plain_gradient))
    helpers.assert_close(dq.cpu(), truth, plain, "dq", allowed)
    return out.detach()


def check_clip(
    length: int, side: int, dim: int, dtype: torch.dtype, evict: str, memory_frames: int, real: list[list[int]]
) -> None:
    """Forward and gradient of a clip against the fp64 oracle."""
    windows = len(real)
    q, k, v, dout = (torch.randn(1, length, windows, side**2, 1, dim).to(dtype).transpose(3, 4) for _ in range(4))
    real, pad = torch.tensor(real, dtype=torch.int32), (torch.randn(1, dim), torch.randn(1, dim))
    settings, code = (SCALE, memory_frames), _check.EVICTIONS[evict]
    leaf = q.to(DEVICE).detach().requires_grad_()
    out = ops.clip_attend(leaf, *there(k, v, real, *pad), *settings, evict)
    dq = torch.autograd.grad(out, leaf, dout.to(DEVICE))[0]
    upcast = (*(x.double() for x in (q, k, v)), real, *(p.double() for p in pad))
    truth = reference.clip_attend(*upcast, *settings, code, True)
    plain = reference.clip_attend(q, k, v, real, *pad, *settings, code, True, dtype=dtype)
    allowed = factor(dtype)
    helpers.assert_close(out.detach().cpu(), truth[0], plain[0], factor=allowed)
    truth = reference.clip_attend_backward(dout.double(), *upcast, *truth, *settings, code)
    plain = reference.clip_attend_backward(dout, q, k, v, real, *pad, *plain, *settings, code, dtype=dtype)
    helpers.assert_close(dq.cpu(), truth, plain, "dq", allowed)


def check_steps(
    size: PoolSize,
    real: list[list[int]],
    evict: str,
    batches: list[list[int]],
    twice: list[int],
    count: int | None = None,
) -> None:
    """Streams in any order, unequal steps, a frame that comes twice, padding, the ring round and round.

    `batches` are the streams of each step; the batch `twice` comes twice at the same step.
    """
    real, pad, code = torch.tensor(real, dtype=torch.int32), helpers.pads(size), _check.EVICTIONS[evict]
    theirs = helpers.empty_memory(size, FP16, "tokens")
    ours = placed(theirs.clone())
    for ids in batches:
        streams = torch.tensor(ids)
        q, k, v = helpers.fused(size, FP16, len(ids))
        for _ in range(1 + (ids == twice)):
            with processors(count) if count else nullcontext():
                now = there(ours.step, streams, real, *pad)
                out = ops.stream_step_(*ours.pools, *there(q, k, v), *now, SCALE, evict)
            expected = reference.stream_step_(*theirs.pools, q, k, v, theirs.step, streams, real, *pad, SCALE, code)
        truth, _, _ = helpers.oracle_attend(q, theirs, streams=streams, real=real, pad=pad)
        helpers.assert_close(out.cpu(), truth, expected, factor=4)
        inside = helpers.inside(size, real)[None, :, None, :, None, :, None]  # [S, W, H, n, T, n, D]
        for a, b in ((ours.k, theirs.k), (ours.v, theirs.v)):
            helpers.assert_same(a.cpu().masked_fill(~inside, 0), b.masked_fill(~inside, 0))
        helpers.assert_same(ours.cursor.cpu(), theirs.cursor)
        for memory in (ours, theirs):
            memory.step[streams.to(memory.step.device)] += 1 + (ids == [1])
