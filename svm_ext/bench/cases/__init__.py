"""Which rows there are: one module an op, with its byte and FLOP formulas, its contenders and its right
result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from ..case import Case, Room, Shape, short_name
from . import clip_attend, memory_append, memory_attend, nms, stream_step

_WITH_SHAPE = {
    "memory_append": memory_append,
    "memory_attend": memory_attend,
    "stream_step": stream_step,
    "clip_attend": clip_attend,
}
OPS = (*_WITH_SHAPE, "nms")
QUICK_UNITS, QUICK_FRAMES, QUICK_BOXES = (12,), (1, 8, 32), (300,)
_QUICK_CLIP_FRAMES = (2, 8)


@dataclass(frozen=True)
class Entry:
    """A row that can be measured; building it allocates its memories, so that is left to the moment."""

    name: str
    build: Callable[[Room], Case]
    weight: float  # share of the whole run's time, roughly


def entries(
    ops: Sequence[str] = OPS,
    dtypes: Sequence[torch.dtype] = (torch.float32,),
    units: Sequence[int] | None = None,
    frames: Sequence[int] | None = None,
    boxes: Sequence[int] | None = None,
    *,
    quick: bool = False,
    device: str = "cpu",
) -> list[Entry]:
    """Return the rows of a table in its order; None takes the shapes of the op's module, or few of them where it
    shall be quick."""
    found: list[Entry] = []
    for op in ops:
        if op == "nms":
            found += [_box_entry(count, device) for count in boxes or (QUICK_BOXES if quick else nms.BOXES)]
            continue
        module = _WITH_SHAPE[op]
        few_frames = _QUICK_CLIP_FRAMES if op == "clip_attend" else QUICK_FRAMES
        shapes = [
            Shape(count, length, dtype, device=device)
            for dtype in dtypes
            for count in units or (QUICK_UNITS if quick else module.UNITS)
            for length in frames or (few_frames if quick else module.FRAMES)
        ]
        found += [
            entry(op, replace(shape, evict=evict))
            for shape in shapes
            for evict in getattr(module, "EVICTIONS", ("merge",))
        ]
    return found


def entry(op: str, shape: Shape) -> Entry:
    """Return the row of one shape."""
    name = f"{op} {short_name(shape.dtype)} {shape.units} units {shape.frames} frames"
    if hasattr(_WITH_SHAPE[op], "EVICTIONS"):
        name += f" {shape.evict}"
    return Entry(name, partial(_WITH_SHAPE[op].build, shape), 1 + shape.units * shape.frames / 1000)


def _box_entry(count: int, device: str) -> Entry:
    return Entry(f"nms {count} boxes", lambda _: nms.build(count, device), 1)
