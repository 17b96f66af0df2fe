"""stream_step_: append and attend in one launch, on a full memory."""

from __future__ import annotations

from torch import Tensor

from ... import ops
from ...ops import _check
from .. import baselines, inputs
from ..case import Case, Contender, Room, Shape
from . import memory_attend
from .memory_append import merges

UNITS, FRAMES = memory_attend.UNITS, memory_attend.FRAMES
flops = memory_attend.flops  # an append's average is not worth counting


def bytes_moved(shape: Shape) -> int:
    """Read q, the new k and v, and the pool but for the slot that they go to; write that slot, and out.
    Merging also reads what that slot held and writes the average."""
    old = 2 * (shape.frames - 1) * shape.frame_bytes
    new = 2 * (shape.frame_bytes + shape.frame_bytes)
    merged = 2 * (shape.frame_bytes + shape.frame_bytes) if merges(shape) else 0
    return old + new + merged + 2 * shape.frame_bytes


def build(shape: Shape, room: Room) -> Case:
    """Return the case: ours, our two ops one after the other, library attention, the reference model's way."""
    room.reserve("stream_step_", shape.pool_bytes)
    memory = inputs.memory(shape)
    q, k, v = inputs.frame(shape)

    def ours() -> Tensor:
        return ops.stream_step_(*memory.pools, q, k, v, memory.step, evict=shape.evict)

    def two_ops() -> Tensor:
        ops.memory_append_(*memory.pools, k, v, memory.step, evict=shape.evict)
        return ops.memory_attend(q, *memory.pools)

    # On one memory: while the step stands still, the second append replaces the first and leaves the same.
    contenders = [
        Contender("stream_step_", ours, memory_attend.by_unit, memory.advance),
        Contender("append+attend", two_ops, memory_attend.by_unit, memory.advance),
    ]
    if room.take("sdpa", shape.pool_bytes):
        rows = (inputs.row_pool(memory.k).clone(), inputs.row_pool(memory.v).clone())
        pools = baselines.RowPools(*rows, shape.frames, shape.evict)
        contenders.append(Contender("sdpa", lambda: pools.step(q, k, v), memory_attend.by_unit))
    if room.take("eager", 4 * shape.pool_bytes):
        frames = (inputs.frame_list(memory.k), inputs.frame_list(memory.v))
        lists = baselines.FrameLists(*frames, shape.frames, shape.evict)
        contenders.append(Contender("eager", lambda: lists.step(q, k, v), memory_attend.by_unit))

    def expected(units: Tensor) -> tuple[Tensor, Tensor]:
        few = inputs.few(memory, units)
        inputs.append_few(few, inputs.tokens_of(k, units), inputs.tokens_of(v, units), _check.evict_code(shape.evict))
        return memory_attend.attended(few, inputs.tokens_of(q, units), shape.dtype)

    sizes = {"units": shape.units, "frames": shape.frames}
    moved, work = bytes_moved(shape), flops(shape)
    return Case("stream_step", shape.dtype, sizes, moved, work, contenders, expected, shape.units, room.left_out)
