"""memory_attend: one frame's queries over all frames in memory, in both axial planes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import backend
from . import _check, _fold, _library, _triton, reference
from ._outputs import Results, empty_results, like_tokens


def memory_attend(
    q: Tensor,
    k_pool: Tensor,
    v_pool: Tensor,
    cursor: Tensor,
    streams: Tensor | None = None,
    real: Tensor | None = None,
    pad_k: Tensor | None = None,
    pad_v: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Attend the memory of the given streams with q [B*W, H, n*n, D], of any strides; returns q's shape.

    The query of token (r, c) attends the keys of its column (t, r', c) and, separately normalised, of its
    row (t, r, c'), of all frames t in memory; the two results are added. The sum's gradient flows to q
    alone. Queries beyond `real` give 0; keys beyond it count as (pad_k, pad_v) [H, D], the projection's
    biases, or not at all without them.
    """
    (q,) = autocast(q)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    op = backend.ops_for("memory_attend", q).memory_attend.default
    return differentiably(op, q, k_pool, v_pool, cursor, streams, real, pad_k, pad_v, scale)


def autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Convert to autocast's type where autocast is on for the device; fp64 stays, as in torch's own ops."""
    kind = "cpu" if tensors[0].is_cpu else tensors[0].device.type
    if kind == "meta" or not torch.is_autocast_enabled(kind):
        return tensors
    narrow = torch.get_autocast_dtype(kind)
    return tuple(x if x.dtype == torch.float64 else x.to(narrow) for x in tensors)


def differentiably(op: Any, q: Tensor, *args: Any) -> Tensor:
    """Call an attend op and return its `out`; only where q needs a gradient it keeps what that takes."""
    for_backward = torch.is_grad_enabled() and q.requires_grad
    if for_backward or torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return op(q, *args, for_backward)[0]
    # The autograd formula is Python: passing it by where there is nothing to differentiate saves more than
    # half of a small call's time.
    with torch._C._AutoDispatchBelowAutograd():
        return op(q, *args, False)[0]


def mark_saved(ctx: Any, output: Results) -> None:
    """Tell autograd that of an attend's results only `out` has a gradient."""
    ctx.mark_non_differentiable(*(saved for saved in output[1:] if saved is not None))
    ctx.set_materialize_grads(False)


def _fake(
    q: Tensor,
    k_pool: Tensor,
    v_pool: Tensor,
    cursor: Tensor,
    streams: Tensor | None,
    real: Tensor | None,
    pad_k: Tensor | None,
    pad_v: Tensor | None,
    scale: float,
    for_backward: bool,
) -> Results:
    _check.attend(q, k_pool, v_pool, cursor, streams, real, pad_k, pad_v)
    return empty_results(q, for_backward)


def _fake_backward(dout: Tensor, q: Tensor, *given: Any) -> Tensor:
    *memory_and_padding, out, out_column, lse, _ = given
    _check.attend(q, *memory_and_padding)
    _check.results(q, dout, out, out_column, lse)
    return like_tokens(q)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Results) -> None:
    q, k_pool, v_pool, cursor, streams, real, pad_k, pad_v, scale, for_backward = inputs
    mark_saved(ctx, output)
    ctx.save_for_backward(q, streams, real, pad_k, pad_v, *output)
    # The memory is kept as it is, not as a saved tensor: hooks must not copy gigabytes of it, and a change
    # since then shall be told in our words. Its versions are plain numbers of this forward: under
    # activation checkpointing the tensors above come from the recompute, but this context, and so the
    # question what changed since, is the first forward's.
    ctx.memory = (k_pool, v_pool, cursor)
    ctx.versions = _versions(ctx.memory)
    ctx.scale, ctx.for_backward = scale, for_backward


def _versions(memory: tuple[Tensor, ...]) -> tuple[int, ...]:
    return tuple(tensor._version for tensor in memory)


def _backward(ops: Any, ctx: Any, dout: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    nothing = (None,) * 9
    if dout is None or not ctx.needs_input_grad[0]:
        return None, *nothing
    if not ctx.for_backward:
        raise RuntimeError("for_backward: expected True for a q that requires a gradient, got False; pass True")
    if _versions(ctx.memory) != ctx.versions:
        raise RuntimeError(
            "the memory of this frame was overwritten before its backward;"
            " call backward before the next append, or use clip_attend"
        )
    q, streams, real, pad_k, pad_v, out, out_column, lse = ctx.saved_tensors
    dq = ops.memory_attend_backward.default(
        dout, q, *ctx.memory, streams, real, pad_k, pad_v, out, out_column, lse, ctx.scale
    )
    return dq, *nothing


_library.add_op(
    "memory_attend",
    fake=_fake,
    reference=reference.memory_attend,
    triton=_triton.memory_attend,
    setup_context=_setup_context,
    backward=_backward,
    vmap=_fold.rule("memory_attend", rows=(0,), memory=(1, 2, 3), fixed=(5, 6, 7), for_backward=9),
)
_library.add_op(
    "memory_attend_backward",
    fake=_fake_backward,
    reference=reference.memory_attend_backward,
    triton=_triton.memory_attend_backward,
    vmap=_fold.rule("memory_attend_backward", rows=(0, 1, 9, 10, 11), memory=(2, 3, 4), fixed=(6, 7, 8)),
)
