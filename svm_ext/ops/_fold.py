"""vmap rules: the vmapped axis becomes part of the batch axis that the ops already have.

Letters as in reference.py; X is the size of the vmapped axis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Rule = Callable[..., tuple[Any, Any]]


def rule(
    op: str,
    *,
    rows: tuple[int, ...],
    fixed: tuple[int, ...],
    memory: tuple[int, ...] = (),
    for_backward: int | None = None,
) -> Rule:
    """Return the vmap rule of an op, given the positions of its arguments.

    `rows` have the batch in front; `memory` are k_pool, v_pool and cursor, with the streams in front, and
    are followed by the stream ids; `fixed` (real, pad_k, pad_v) hold for all rows: where one of them is
    vmapped, a loop takes over.
    """

    def folded(ops: Any, info: Any, in_dims: tuple[int | None, ...], *given: Any) -> tuple[Any, Any]:
        call, args = getattr(ops, op).default, list(given)
        # A vmapped tensor does not say that what it wraps needs a gradient; only here it shows.
        if for_backward is not None and torch.is_grad_enabled() and args[rows[0]].requires_grad:
            args[for_backward] = True
        if any(in_dims[i] is not None for i in fixed):
            return _loop(call, info.batch_size, in_dims, args)
        for i in rows:
            args[i] = _fold(args[i], in_dims[i], info.batch_size)
        if memory:
            _fold_memory(args, in_dims, info.batch_size, memory)
        return _unfold(call(*args), info.batch_size)

    return folded


def _fold(x: Tensor, dim: int | None, count: int) -> Tensor:
    """Move the vmapped axis in front, or repeat what has none, and fold it: [X, B, ..] -> [X*B, ..]."""
    x = x.expand(count, *x.shape) if dim is None else x.movedim(dim, 0)
    return x.flatten(0, 1)


def _fold_memory(args: list[Any], in_dims: tuple[int | None, ...], count: int, memory: tuple[int, ...]) -> None:
    """Fold the stream ids, and X memories, where each x has its own, into one of X*S streams."""
    cursor, at = args[memory[2]], memory[2] + 1
    cursor_dim, ids_dim = in_dims[memory[2]], in_dims[at]
    streams = cursor.movedim(cursor_dim, 0).shape[1] if cursor_dim is not None else cursor.shape[0]
    ids = torch.arange(streams, device=cursor.device) if args[at] is None else args[at]
    ids = ids.expand(count, -1) if ids_dim is None else ids.movedim(ids_dim, 0)  # [X, B]
    if any(in_dims[i] is not None for i in memory):
        ids = ids + streams * torch.arange(count, device=ids.device)[:, None]
        for i in memory:
            args[i] = _fold(args[i], in_dims[i], count).contiguous()
    args[at] = ids.flatten()


def _unfold(results: Any, count: int) -> tuple[Any, Any]:
    """Give the results their vmapped axis back; those that nobody wanted are not there."""
    if isinstance(results, Tensor):
        return results.unflatten(0, (count, -1)), 0
    dims = tuple(None if r is None else 0 for r in results)
    return tuple(r if r is None else r.unflatten(0, (count, -1)) for r in results), dims


def _loop(call: Any, count: int, in_dims: tuple[int | None, ...], args: list[Any]) -> tuple[Any, Any]:
    """Call the op once for each x and stack the results."""
    calls = [
        call(*(a if d is None else a.select(d, x) for a, d in zip(args, in_dims, strict=True))) for x in range(count)
    ]
    if isinstance(calls[0], Tensor):
        return torch.stack(calls), 0
    dims = tuple(None if r is None else 0 for r in calls[0])
    return tuple(None if r[0] is None else torch.stack(r) for r in zip(*calls, strict=True)), dims
