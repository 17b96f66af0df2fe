"""Every choice that depends on the size of the work, with its reason; plain functions of numbers.

A tile is `rows` x `frames` x 16 columns of keys, and rows * frames is 16: the least that a tensor core takes as the
inner dimension of the column plane's second product. Few frames leave room for several rows; from nine frames on a
tile is sixteen frames of one row, whose keys are neighbours in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

KEYS = 16  # of one column in a tile
MOST_SIDE = 16  # of a window: 14 columns take 16 lanes
MOST_DIM = 128
APPEND_ROWS = 4  # of a frame that a program stores at a time: one or two pieces of 16 bytes of K and of V a thread


class Gpu(NamedTuple):
    """What a choice depends on of the GPU."""

    kind: str  # "cuda" or "hip"
    generation: int  # of CUDA: ten times the compute capability
    processors: int


class Plan(NamedTuple):
    """What a kernel is compiled for: sizes of its tiles."""

    side: int  # of a window
    dim: int  # of a head
    width: int  # of a head, padded to a power of two
    part: int  # of it that one program computes of the results
    rows: int  # of a tile of keys
    frames: int  # of a tile of keys
    stages: int  # tiles under way
    precision: str  # of products of fp32 numbers


@dataclass(frozen=True)
class Launch:
    """How an attention kernel is launched."""

    plan: Plan
    splits: int  # programs that share one unit, each with its own rows
    num_warps: int

    @property
    def parts(self) -> int:
        """Programs that share the head dim of one unit's results."""
        return self.plan.width // self.plan.part


def padded_dim(dim: int) -> int:
    """The head dim as Triton sees it: a power of two, 16 at least."""
    return max(16, 1 << (dim - 1).bit_length())


def attend(gpu: Gpu, units: int, side: int, frames: int, dim: int, element_size: int) -> Launch:
    """Choose for an attention over up to `frames` frames; `element_size` is that of the products' type.

    Splits: a unit's rows are dealt to as many programs as it takes to give every multiprocessor one; the column
    plane's shares are then merged by a second kernel, which costs a few microseconds and pays only where units are few.

    Warps: eight, one for each column of half a tile: what a warp needs, it has itself.
    """
    tile = max(2, min(KEYS, 1 << (frames - 1).bit_length()))
    width = padded_dim(dim)
    part = min(width, 64 if element_size == 2 else 32)
    rows = KEYS // tile
    precision = "ieee" if element_size == 2 or gpu.kind != "cuda" or gpu.generation < 80 else "tf32x3"
    splits = min(-(-side // rows), max(1, gpu.processors // max(units * width // part, 1)))
    return Launch(Plan(side, dim, width, part, rows, tile, 2, precision), splits, 8)


def append(side: int, dim: int, element_size: int) -> Launch:
    """Choose for an append: as many warps as a few rows of a frame keep busy."""
    width = padded_dim(dim)
    pieces = APPEND_ROWS * MOST_SIDE * width * element_size // 16
    return Launch(Plan(side, dim, width, width, 1, KEYS, 1, "ieee"), 1, max(1, min(8, pieces // 128)))
