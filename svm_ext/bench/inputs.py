"""Random inputs: projections' outputs, and full memories in our layout and in those of the baselines.

Strides are those of real models: q, k and v are views [B*W, H, n*n, D] of tokens-first projections, for ours and for
the baselines alike. Random numbers only: multiplying zeros is faster on some machines.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..ops import _pool, reference
from .case import Shape


def frame(shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    """Return q of its own projection, and k and v of a fused q, k, v projection."""
    rows = (shape.streams * shape.windows, shape.tokens)
    kind = dict(dtype=shape.dtype, device=shape.device)
    q = torch.randn(*rows, shape.heads, shape.dim, **kind).transpose(1, 2)
    _, k, v = torch.randn(*rows, 3, shape.heads, shape.dim, **kind).permute(2, 0, 3, 1, 4)  # [B*W, H, N, D]
    return q, k, v


def clip(shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    """Return q (a leaf that needs a gradient), k and v of a clip, [B, T, W, H, n*n, D]."""
    sizes = (shape.streams, shape.frames, shape.windows, shape.tokens)
    kind = dict(dtype=shape.dtype, device=shape.device)
    q = torch.randn(*sizes, shape.heads, shape.dim, **kind).transpose(3, 4)
    _, k, v = torch.randn(*sizes, 3, shape.heads, shape.dim, **kind).permute(4, 0, 1, 2, 5, 3, 6)
    return q.requires_grad_(), k, v


@dataclass(frozen=True)
class Memory:
    """The memory of one layer as the ops take it; full, so that every append evicts."""

    k: Tensor
    v: Tensor
    cursor: Tensor
    step: Tensor

    @property
    def pools(self) -> tuple[Tensor, Tensor, Tensor]:
        """The arguments k_pool, v_pool and cursor."""
        return self.k, self.v, self.cursor

    def advance(self) -> Tensor:
        """End the frame, so that the next append is a new one."""
        return self.step.add_(1)


def memory(shape: Shape) -> Memory:
    """Return a full memory of random frames."""
    device = torch.device(shape.device)
    size = _pool.PoolSize(shape.streams, shape.windows, shape.heads, shape.side, shape.frames, shape.dim)
    k, v = _pool.empty_pool(size, shape.dtype, device)
    cursor = _pool.empty_cursor(size, device)
    cursor[..., 0], cursor[..., 1] = shape.frames, shape.frames - 1
    step = torch.full((shape.streams,), shape.frames, dtype=torch.int64, device=device)
    return Memory(k.normal_(), v.normal_(), cursor, step)


def _frames(pool: Tensor) -> Tensor:
    """View a pool of either layout as [B, H, T, n, n, D/g, g], B the windows of all streams."""
    return _pool.frames_view(pool).flatten(0, 1)


def frame_list(pool: Tensor) -> list[Tensor]:
    """Copy a pool into a list of frames [B, H, n*n, D]."""
    frames = _frames(pool)
    return [frames[:, :, t].flatten(-2).flatten(2, 3).contiguous() for t in range(frames.shape[2])]


def row_pool(pool: Tensor) -> Tensor:
    """Copy a pool to [B, H, n (row), T, n (column), D]; one that lies like that is viewed."""
    if pool.ndim == 7:
        return pool.flatten(0, 1)
    frames = _frames(pool)
    windows, heads, count, side, _, pairs, group = frames.shape
    rows = pool.new_empty(windows, heads, side, count, side, pairs * group)
    rows.transpose(2, 3).unflatten(-1, (pairs, group)).copy_(frames)
    return rows


def frame_pool(pool: Tensor) -> Tensor:
    """Copy a pool to [B, T, H, n*n, D]."""
    return torch.stack(frame_list(pool), dim=1)


def units_of(pool: Tensor, units: Tensor) -> Tensor:
    """Copy some units of a pool as a pool of as many streams in fp64, one window and head each; the layout is
    `tokens`, which any type can have."""
    frames = _frames(pool).flatten(0, 1)[units].flatten(-2).double()  # [units, T, n, n, D]
    return frames.transpose(1, 2).contiguous()[:, None, None]  # [units, 1, 1, n, T, n, D]


def few(memory: Memory, units: Tensor) -> Memory:
    """Copy some units of a memory, in fp64; all streams of a benchmark stand at the same frame."""
    cursor = memory.cursor.flatten(0, 2)[units][:, None, None]
    step = memory.step[:1].expand(len(units)).contiguous()
    return Memory(units_of(memory.k, units), units_of(memory.v, units), cursor, step)


def tokens_of(x: Tensor, units: Tensor) -> Tensor:
    """Copy some units of tokens [B, H, n*n, D] as [units, 1, n*n, D] in fp64."""
    return x.flatten(0, 1)[units][:, None].double()


def append_few(few: Memory, k: Tensor, v: Tensor, evict: int) -> None:
    """Append to a memory of few units by the reference."""
    reference.memory_append_(*few.pools, k, v, few.step, None, None, evict)
