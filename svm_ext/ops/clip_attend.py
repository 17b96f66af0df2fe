"""clip_attend: all frames of a clip at once, each seeing what its memory would hold."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .. import backend
from . import _check, _fold, _library, _triton, reference
from ._outputs import Results, empty_results, like_tokens
from .memory_attend import autocast, differentiably, mark_saved


def clip_attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    real: Tensor | None = None,
    pad_k: Tensor | None = None,
    pad_v: Tensor | None = None,
    scale: float | None = None,
    memory_frames: int = 32,
    evict: str = "clear",
) -> Tensor:
    """Attend a clip's frames to each other as memory_attend would frame by frame.

    q, k and v are [B, T, W, H, n*n, D], of any strides. Frame t sees the frames of its block of
    `memory_frames` up to itself (`clear`) or the last `memory_frames` frames (`fifo`). No pool is read or
    written, so one backward serves the whole clip; the gradient flows to q alone, k and v are detached as
    they are in a memory. `real`, `pad_k` and `pad_v` as in memory_attend.
    """
    q, k, v = autocast(q, k, v)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    op = backend.ops_for("clip_attend", q).clip_attend.default
    code = _check.evict_code(evict)
    return differentiably(op, q, k, v, real, pad_k, pad_v, scale, memory_frames, code)


def _fake(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    real: Tensor | None,
    pad_k: Tensor | None,
    pad_v: Tensor | None,
    scale: float,
    memory_frames: int,
    evict: int,
    for_backward: bool,
) -> Results:
    _check.clip(q, k, v, real, pad_k, pad_v, memory_frames, evict)
    return empty_results(q, for_backward)


def _fake_backward(dout: Tensor, q: Tensor, *given: Any) -> Tensor:
    *keys_and_padding, out, out_column, lse, _, memory_frames, evict = given
    _check.clip(q, *keys_and_padding, memory_frames, evict)
    _check.results(q, dout, out, out_column, lse)
    return like_tokens(q)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Results) -> None:
    *tensors, scale, memory_frames, evict, for_backward = inputs  # q, k, v, real, pad_k, pad_v
    mark_saved(ctx, output)
    ctx.save_for_backward(*tensors, *output)
    ctx.settings = (scale, memory_frames, evict)
    ctx.for_backward = for_backward


def _backward(ops: Any, ctx: Any, dout: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    nothing = (None,) * 9
    if dout is None or not ctx.needs_input_grad[0]:
        return None, *nothing
    if not ctx.for_backward:
        raise RuntimeError("for_backward: expected True for a q that requires a gradient, got False; pass True")
    dq = ops.clip_attend_backward.default(dout, *ctx.saved_tensors, *ctx.settings)
    return dq, *nothing


_library.add_op(
    "clip_attend",
    fake=_fake,
    reference=reference.clip_attend,
    triton=_triton.clip_attend,
    setup_context=_setup_context,
    backward=_backward,
    vmap=_fold.rule("clip_attend", rows=(0, 1, 2), fixed=(3, 4, 5), for_backward=9),
)
_library.add_op(
    "clip_attend_backward",
    fake=_fake_backward,
    reference=reference.clip_attend_backward,
    triton=_triton.clip_attend_backward,
    vmap=_fold.rule("clip_attend_backward", rows=(0, 1, 2, 3, 7, 8, 9), fixed=(4, 5, 6)),
)
