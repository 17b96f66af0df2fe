"""memory_append_: one frame's K and V into their ring slots."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import backend
from . import _check, _library, _triton, reference


def memory_append_(
    k_pool: Tensor,
    v_pool: Tensor,
    cursor: Tensor,
    k: Tensor,
    v: Tensor,
    step: Tensor,
    streams: Tensor | None = None,
    real: Tensor | None = None,
    evict: str = "merge",
) -> None:
    """Store one frame's k and v [B*W, H, n*n, D], of any strides, in the memory of the given streams.

    When the memory is full, `evict` says what makes room: `merge` averages the oldest frame into the
    next-oldest, `fifo` drops the oldest, `clear` drops everything. A second append at the same `step` [S]
    replaces the first. What is stored is detached: no gradient flows to k and v through a memory. `real`
    [W, 2] are the real rows and columns of each window; tokens beyond them are not stored.
    """
    op = backend.ops_for("memory_append_", k_pool).memory_append_.default
    op(k_pool, v_pool, cursor, k, v, step, streams, real, _check.evict_code(evict))
    mark_changed(k_pool, v_pool, cursor)


def mark_changed(*tensors: Tensor) -> None:
    """Tell autograd that kernels wrote to these tensors: a backward over the old contents is refused then.

    Compiled graphs need no telling: their runtime counts the changes of its inputs.
    """
    if not torch.compiler.is_compiling():
        torch._C._increment_version(tensors)


def _fake(
    k_pool: Tensor,
    v_pool: Tensor,
    cursor: Tensor,
    k: Tensor,
    v: Tensor,
    step: Tensor,
    streams: Tensor | None,
    real: Tensor | None,
    evict: int,
) -> None:
    _check.append(k_pool, v_pool, cursor, k, v, step, streams, real, evict)


_library.add_op("memory_append_", fake=_fake, reference=reference.memory_append_, triton=_triton.memory_append_)
_library.detach_all_inputs("memory_append_")
