"""stream_step_: append and attend of one frame in one launch."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import backend
from . import _check, _library, _triton, reference
from ._outputs import like_tokens
from .memory_append import mark_changed, memory_append_
from .memory_attend import autocast, memory_attend


def stream_step_(
    k_pool: Tensor,
    v_pool: Tensor,
    cursor: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    step: Tensor,
    streams: Tensor | None = None,
    real: Tensor | None = None,
    pad_k: Tensor | None = None,
    pad_v: Tensor | None = None,
    scale: float | None = None,
    evict: str = "merge",
) -> Tensor:
    """Store one frame's k and v and attend the memory, this frame included, in one launch.

    Arguments as in memory_append_ and memory_attend. The new frame is read once. An op that changes its
    inputs cannot carry an autograd formula: where q needs a gradient, the two ops run one after the other
    instead. With a pool of fp8 an append must know all of a frame first: these are two launches.
    """
    q, k, v = autocast(q, k, v)
    code = _check.evict_code(evict)
    if torch.is_grad_enabled() and q.requires_grad:
        # All of it, before the first of the two writes.
        _check.step(k_pool, v_pool, cursor, q, k, v, step, streams, real, pad_k, pad_v, code)
        memory_append_(k_pool, v_pool, cursor, k, v, step, streams, real, evict)
        return memory_attend(q, k_pool, v_pool, cursor, streams, real, pad_k, pad_v, scale)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if k.requires_grad or v.requires_grad:
        k, v = k.detach(), v.detach()
    op = backend.ops_for("stream_step_", k_pool).stream_step_.default
    out = op(k_pool, v_pool, cursor, q, k, v, step, streams, real, pad_k, pad_v, scale, code)
    mark_changed(k_pool, v_pool, cursor)
    return out


def _fake(
    k_pool: Tensor,
    v_pool: Tensor,
    cursor: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    step: Tensor,
    streams: Tensor | None,
    real: Tensor | None,
    pad_k: Tensor | None,
    pad_v: Tensor | None,
    scale: float,
    evict: int,
) -> Tensor:
    _check.step(k_pool, v_pool, cursor, q, k, v, step, streams, real, pad_k, pad_v, evict)
    return like_tokens(q)


_library.add_op("stream_step_", fake=_fake, reference=reference.stream_step_, triton=_triton.stream_step_)
