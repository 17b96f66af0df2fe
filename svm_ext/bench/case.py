"""What one row of a benchmark is made of: a shape, the contenders, the bytes and the arithmetic, the right
result."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

SIDE, DIM, HEADS = 14, 64, 12  # of ViT-B/16 in windows of 14 x 14 tokens
WINDOWS = 28  # of a picture of 800 x 1440; more than that are several streams


@dataclass(frozen=True)
class Shape:
    """How large a memory is; a unit is one window of one stream in one head."""

    units: int
    frames: int  # capacity, and frames held: all rows are measured on a full memory
    dtype: torch.dtype = torch.float32  # of q, k, v and of the pool
    evict: str = "merge"
    side: int = SIDE
    dim: int = DIM
    device: str = "cpu"

    @property
    def heads(self) -> int:
        """Heads; a number of units that is no multiple of them is taken as heads of one window."""
        return HEADS if self.units % HEADS == 0 else self.units

    @property
    def streams(self) -> int:
        """Streams: two from 672 units on."""
        windows = self.units // self.heads
        return windows // WINDOWS if windows % WINDOWS == 0 else 1

    @property
    def windows(self) -> int:
        """Windows a stream."""
        return self.units // self.heads // self.streams

    @property
    def tokens(self) -> int:
        """Tokens of a window."""
        return self.side * self.side

    @property
    def frame_numbers(self) -> int:
        """Numbers in one frame of one of q, k, v or out."""
        return self.units * self.tokens * self.dim

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame of one of q, k, v or out."""
        return self.frame_numbers * self.dtype.itemsize

    @property
    def pool_bytes(self) -> int:
        """Bytes of K pool and V pool together."""
        return 2 * self.frames * self.frame_bytes


def _nothing() -> None:
    """Prepare nothing."""


@dataclass(frozen=True)
class Contender:
    """One way to compute the op."""

    name: str
    run: Callable[[], Any]
    # From what `run` returns to what the refcheck compares, its first axis being the rows that are sampled;
    # None: there is no result to check (a copy).
    seen: Callable[[Any], Tensor] | None = None
    prepare: Callable[[], object] = _nothing  # before every timed call, untimed


Expected = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Case:
    """One row to measure: our op and its baselines on the same inputs."""

    op: str
    dtype: torch.dtype
    sizes: dict[str, int | str]  # what tells the rows of an op apart, in the order of the table
    bytes: int  # read and written at least, by the formula of the op's module; the caches are taken as perfect
    flops: int  # 0 where counting them says nothing
    contenders: Sequence[Contender]  # ours first
    # rows to sample -> (truth in fp64, the same by plain torch in the type of the row); called before any
    # contender has run
    expected: Expected
    count: int  # rows that can be sampled
    left_out: dict[str, str] = field(default_factory=dict)  # baseline -> why it is not among the contenders

    @property
    def ours(self) -> Contender:
        """The op of this package."""
        return self.contenders[0]

    @property
    def name(self) -> str:
        """The row's name, as in `memory_attend fp32 336 units 32 frames`."""
        sizes = (value if isinstance(value, str) else f"{value} {name}" for name, value in self.sizes.items())
        return " ".join([self.op, short_name(self.dtype), *sizes])


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def short_name(dtype: torch.dtype) -> str:
    """Return a type's name as the tables spell it."""
    return {kind: name for name, kind in DTYPES.items()}.get(dtype, str(dtype).removeprefix("torch."))


class Room:
    """Memory that contenders may take: what does not fit is left out of the row, aloud, instead of being
    killed with it."""

    def __init__(self, available: int, wanted: Container[str] | None = None) -> None:
        self.free = available * 0.8
        self.wanted = wanted  # baselines; None: all
        self.left_out: dict[str, str] = {}

    def reserve(self, name: str, need: int) -> None:
        """Reserve memory for our op; without it there is no row."""
        if need > self.free:
            raise MemoryError(f"{name}: needs {need / 1e9:.1f} GB, {self.free / 1e9:.1f} GB are free; take fewer units")
        self.free -= need

    def take(self, name: str, need: int) -> bool:
        """Reserve memory for a baseline; False where it is not wanted, or, and then noted, does not fit."""
        if self.wanted is not None and name not in self.wanted:
            return False
        if need > self.free:
            self.left_out[name] = f"needs {need / 1e9:.1f} GB, {max(self.free, 0) / 1e9:.1f} GB are free"
            return False
        self.free -= need
        return True
