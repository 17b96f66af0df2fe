"""Every choice that depends on the size of the work, with its reason; plain functions of numbers.

A tile is `rows` x `frames` x 16 columns of keys, and rows * frames is 16: the least that a tensor core takes as the
inner dimension of the column plane's second product. Few frames leave room for several rows; from nine frames on a
tile is sixteen frames of one row, whose keys are neighbours in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

KEYS = 16  # of one column in a tile
MOST_SIDE = 16  # of a window that is attended in one pass: 14 columns take 16 lanes
MOST_TILED_DIM = 128  # of a head that is attended in one pass
MOST_DIM = 512
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
    chunk: int  # dims of queries and keys that are multiplied at a time; with all of them, queries stay on the chip
    precision: str  # of products of fp32 numbers
    far: bool  # whether offsets within one unit need 64 bits


class LinePlan(NamedTuple):
    """What a kernel that goes through a window line by line is compiled for."""

    side: int  # of a window
    dim: int  # of a head
    width: int  # of a head, padded to a power of two
    part: int  # of it that one program computes of the results
    queries: int  # of a line that one program does
    keys: int  # of a line in a tile
    stages: int  # tiles under way
    chunk: int  # dims of queries and keys that are multiplied at a time; with all of them, queries stay on the chip
    precision: str  # of products of fp32 numbers


@dataclass(frozen=True)
class Launch:
    """How an attention kernel is launched."""

    plan: Plan | LinePlan
    splits: int  # programs that share one unit, each with its own rows or lines
    num_warps: int

    @property
    def parts(self) -> int:
        """Programs that share the head dim of one unit's results."""
        return self.plan.width // self.plan.part


def padded_dim(dim: int) -> int:
    """The head dim as Triton sees it: a power of two, 16 at least."""
    return max(16, 1 << (dim - 1).bit_length())


def shared_memory(gpu: Gpu) -> int:
    """Bytes of shared memory that a program may take."""
    if gpu.kind != "cuda":
        return 64 << 10
    large = {80: 163, 87: 163, 90: 227, 100: 227, 103: 227}  # the others have 99 kB, Turing 64
    return (large.get(gpu.generation, 99) if gpu.generation >= 80 else 64) << 10


def one_pass(side: int, dim: int) -> bool:
    """Whether one program holds a whole window's queries and attends both planes in one pass."""
    return side <= MOST_SIDE and dim <= MOST_TILED_DIM


def precision(gpu: Gpu, element_size: int) -> str:
    """How fp32 numbers are multiplied: on tensor cores, in three products, where these know TF32."""
    return "ieee" if element_size == 2 or gpu.kind != "cuda" or gpu.generation < 80 else "tf32x3"


def stages(gpu: Gpu, width: int, part: int, element_size: int, backward: bool) -> int:
    """Tiles of keys and values under way: two where the next one finds room beside queries and scratch.

    In fp32 there is none: every number takes part in three products. On AMD two programs on one processor, which share
    its memory then, hide the waiting better than one that spills registers for a second tile.
    """
    tile = KEYS * MOST_SIDE * (width + part) * element_size
    queries = (2 if backward else 1) * MOST_SIDE * MOST_SIDE * width * element_size
    fits = tile + queries + (41 << 10) <= shared_memory(gpu)
    return 2 if fits and gpu.kind == "cuda" and element_size == 2 else 1


def attend(
    gpu: Gpu,
    units: int,
    side: int,
    frames: int,
    dim: int,
    element_size: int,
    *,
    backward: bool = False,
    coded: bool = False,
    far: bool = False,
) -> Launch:
    """Choose for an attention over up to `frames` frames; `element_size` is that of the products' type.

    Splits: a unit's rows are dealt to as many programs as it takes to give every multiprocessor one; the column
    plane's shares are then merged by a second kernel, which costs a few microseconds and pays only where units are few.

    Parts: with 64 dims (32 in fp32) a program's three sums of 8 x 16 queries fill 96 of a thread's 255 registers;
    what is wider is shared among programs, which all need the whole keys.

    Chunks: in fp32 every number takes part in three products and fills three times the registers, so that queries and
    keys of 16 dims at a time is all there is room for; they come from the cache again for every tile. So do those of
    over 64 dims where keys are codes of fp8, which take registers while they become numbers.

    Warps: eight, one for each column of half a tile: what a warp needs, it has itself.
    """
    tile = max(2, min(KEYS, 1 << (frames - 1).bit_length()))
    width = padded_dim(dim)
    part = min(width, 64 if element_size == 2 else 32)
    rows = KEYS // tile
    splits = min(-(-side // rows), max(1, gpu.processors // max(units * width // part, 1)))
    under_way = stages(gpu, width, part, element_size, backward)
    chunk = min(width, 64 if coded else 128) if element_size == 2 else min(width, 16)
    how = precision(gpu, element_size)
    return Launch(Plan(side, dim, width, part, rows, tile, under_way, chunk, how, far), splits, 8)


def attend_any(gpu: Gpu, side: int, dim: int, element_size: int) -> Launch:
    """Choose for an attention of a window of any side, and of heads of up to 512 dims.

    Queries: 32, so that most lines are one block and their keys are read once; 16, the least that a tensor core takes,
    where no line is longer than that.

    Parts: sums of 4096 numbers are 32 registers a thread of four warps; in fp32, where an operand fills three times
    the registers, half of that.

    Chunks: heads of up to 128 dims are multiplied at once, and their queries stay on the chip, 32 registers of them.
    Wider ones come in chunks of 64, and those of fp32 numbers of 32, whose queries come from the cache for every tile.

    Stages: two tiles of 32 keys and values of up to 128 dims under way are 32 kB, which every GPU has; in fp32, one.
    """
    width, queries = padded_dim(dim), 16 if side <= 16 else 32
    part = min(width, (4096 if element_size == 2 else 2048) // queries)
    chunk = min(width, 32) if element_size == 4 else width if width <= 128 else 64
    under_way = 2 if element_size == 2 else 1
    plan = LinePlan(side, dim, width, part, queries, 32, under_way, chunk, precision(gpu, element_size))
    return Launch(plan, side * -(-side // queries), 4)


def append(side: int, dim: int, element_size: int, *, far: bool = False) -> Launch:
    """Choose for an append: as many warps as a few rows of a frame keep busy, and fewer rows where heads are wide."""
    width = padded_dim(dim)
    rows = max(1, min(APPEND_ROWS, APPEND_ROWS * MOST_TILED_DIM // width))
    pieces = rows * MOST_SIDE * width * element_size // 16
    return Launch(Plan(side, dim, width, width, rows, KEYS, 1, width, "ieee", far), 1, max(1, min(8, pieces // 128)))
