"""memory_append_: a frame's K and V into a full memory."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import ops
from ...ops import _check, _pool
from .. import baselines, inputs
from ..case import Case, Contender, Room, Shape

UNITS, FRAMES, EVICTIONS = (12, 96, 336, 672), (1, 2, 8, 16, 32), ("merge", "fifo")


def bytes_moved(shape: Shape) -> int:
    """Read k and v and write them to their slots; merging also reads two old frames and writes their average."""
    new = 2 * (shape.frame_bytes + shape.frame_bytes)
    merged = 2 * (2 * shape.frame_bytes + shape.frame_bytes) if merges(shape) else 0
    return new + merged


def merges(shape: Shape) -> bool:
    """Return whether an append averages: a memory of one frame has no next-oldest one."""
    return shape.evict == "merge" and shape.frames > 1


def touched(pool: Tensor, shape: Shape) -> Tensor:
    """Copy the two slots that an append to a full ring may change, [B*W*H, 2, n*n, D]."""
    slots = [shape.frames % shape.frames, (shape.frames + 1) % shape.frames]
    frames = _pool.frames_view(pool)[:, :, :, slots]  # [S, W, H, 2, n, n, D/g, g]
    return frames.flatten(-2).flatten(4, 5).flatten(0, 2)


def build(shape: Shape, room: Room) -> Case:
    """Return the case: ours, index assignment into the two usual layouts, and their common inputs."""
    room.reserve("memory_append_", shape.pool_bytes)
    memory = inputs.memory(shape)
    _, k, v = inputs.frame(shape)

    def ours() -> None:
        ops.memory_append_(*memory.pools, k, v, memory.step, evict=shape.evict)

    def seen(_: object) -> Tensor:
        return torch.stack([touched(memory.k, shape), touched(memory.v, shape)], 1)  # [units, 2, 2, N, D]

    contenders = [Contender("memory_append_", ours, seen, memory.advance)]
    if room.take("index", shape.pool_bytes):
        contenders.append(_index(shape, memory, k, v))
    if room.take("index_rows", shape.pool_bytes):
        contenders.append(_index_rows(shape, memory, k, v))

    def expected(units: Tensor) -> tuple[Tensor, Tensor]:
        few = inputs.few(memory, units)
        inputs.append_few(few, inputs.tokens_of(k, units), inputs.tokens_of(v, units), _check.evict_code(shape.evict))
        truth = torch.stack([touched(few.k, shape), touched(few.v, shape)], 1)
        return truth, truth.to(shape.dtype)

    sizes = {"units": shape.units, "frames": shape.frames, "evict": shape.evict}
    return Case(
        "memory_append", shape.dtype, sizes, bytes_moved(shape), 0, contenders, expected, shape.units, room.left_out
    )


def _index(shape: Shape, memory: inputs.Memory, k: Tensor, v: Tensor) -> Contender:
    """Return the append to pools [B, T, H, n*n, D]."""
    pools = baselines.FramePools(inputs.frame_pool(memory.k), inputs.frame_pool(memory.v), shape.frames, shape.evict)
    slots = [0, 1 % shape.frames]

    def seen(_: object) -> Tensor:
        k, v = (x[:, slots].transpose(1, 2).flatten(0, 1) for x in (pools.keys, pools.values))
        return torch.stack([k, v], 1)

    return Contender("index", lambda: pools.append(k, v), seen)


def _index_rows(shape: Shape, memory: inputs.Memory, k: Tensor, v: Tensor) -> Contender:
    """Return the append to pools [B, H, n, T, n, D]."""
    pools = baselines.RowPools(
        inputs.row_pool(memory.k).clone(), inputs.row_pool(memory.v).clone(), shape.frames, shape.evict
    )
    slots = [0, 1 % shape.frames]

    def seen(_: object) -> Tensor:
        views = (x[:, :, :, slots].transpose(2, 3).flatten(3, 4).flatten(0, 1) for x in (pools.keys, pools.values))
        return torch.stack(list(views), 1)

    return Contender("index_rows", lambda: pools.append(k, v), seen)
