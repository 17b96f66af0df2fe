"""memory_attend: a frame's queries over a full memory."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import ops
from ...ops import reference
from .. import baselines, inputs
from ..case import Case, Contender, Room, Shape

UNITS, FRAMES = (12, 96, 336, 672), (1, 2, 8, 16, 32)


def bytes_moved(shape: Shape) -> int:
    """Read K and V of all frames once and q once, write out."""
    return shape.pool_bytes + 2 * shape.frame_bytes


def flops(shape: Shape) -> int:
    """Each of n*n queries meets n keys a frame in each of 2 planes, and with each does D multiply-adds for the
    logit and D for the value; a multiply-add counts as 2. At n = 14 and D = 64: 1,404,928 * T a unit."""
    return shape.units * shape.frames * 2 * (shape.tokens * shape.side) * (2 * shape.dim) * 2


def build(shape: Shape, room: Room) -> Case:
    """Return the case: ours, library attention on views, the reference model's way."""
    room.reserve("memory_attend", shape.pool_bytes)
    memory = inputs.memory(shape)
    q, _, _ = inputs.frame(shape)
    contenders = [Contender("memory_attend", lambda: ops.memory_attend(q, *memory.pools), by_unit)]
    if room.take("sdpa", shape.pool_bytes):
        pools = baselines.RowPools(inputs.row_pool(memory.k), inputs.row_pool(memory.v), shape.frames)
        contenders.append(Contender("sdpa", lambda: pools.attend(q), by_unit))
        if shape.device != "cpu" and room.take("flex", 0):
            contenders.append(_flex(shape, pools, q))
    # Its list of frames, and while it runs the stack, two rearranged copies and the logits.
    if room.take("eager", 4 * shape.pool_bytes):
        lists = baselines.FrameLists(inputs.frame_list(memory.k), inputs.frame_list(memory.v), shape.frames)
        contenders.append(Contender("eager", lambda: lists.attend(q), by_unit))

    def expected(units: Tensor) -> tuple[Tensor, Tensor]:
        return attended(inputs.few(memory, units), inputs.tokens_of(q, units), shape.dtype)

    sizes = {"units": shape.units, "frames": shape.frames}
    moved, work = bytes_moved(shape), flops(shape)
    return Case("memory_attend", shape.dtype, sizes, moved, work, contenders, expected, shape.units, room.left_out)


def by_unit(out: Tensor) -> Tensor:
    """View [B*W, H, N, D] as [units, N, D]."""
    return out.flatten(0, 1)


def attended(few: inputs.Memory, q: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return what the queries of some units get, [units, N, D]: in fp64, and by plain torch in a narrower type."""
    rest = (*few.pools, None, None, None, None, q.shape[-1] ** -0.5, False)
    truth, plain = (reference.memory_attend(q, *rest, dtype=kind)[0] for kind in (torch.float64, dtype))
    return truth.flatten(0, 1), plain.to(dtype).flatten(0, 1)


def _flex(shape: Shape, pools: baselines.RowPools, q: Tensor) -> Contender:
    attend = baselines.flex_attend((shape.side, shape.frames), q.device)
    return Contender("flex", lambda: attend(q, pools.keys, pools.values), by_unit)
