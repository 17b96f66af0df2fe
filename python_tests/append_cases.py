"""Appends in the tokens layout, told to a kernel and to the reference alike, and what must then be equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from svm_ext.ops import _check, _fp8, _padding, _pool, reference

Append = Callable[..., None]  # takes the arguments of the op's schema


@dataclass(frozen=True)
class Case:
    """One pool, one kind of frame, one rule; the defaults are the plainest case."""

    size: _pool.PoolSize = _pool.PoolSize(streams=3, windows=2, heads=2, side=4, frames=3, dim=16)
    frame_type: torch.dtype = torch.float32
    pool_type: torch.dtype = torch.float32
    evict: str = "merge"
    strides: str = "contiguous"  # or "qkv", a slice of a fused projection; or "odd", where no two dims are neighbours
    real: tuple[tuple[int, int], ...] | None = None  # rows and columns of each window
    streams: tuple[int, ...] | None = None

    def __str__(self) -> str:
        plain = Case()
        told = [f"{name}={value}" for name, value in vars(self).items() if value != getattr(plain, name)]
        return " ".join(told).replace("torch.", "") or "plain"


TYPES = (torch.float32, torch.bfloat16, torch.float16)
FP8 = torch.float8_e4m3fn
PLAIN = Case()
CASES = [
    *(replace(PLAIN, frame_type=f, pool_type=p, strides="qkv") for f in TYPES for p in TYPES),
    *(replace(PLAIN, evict=evict, strides=s) for evict in ("fifo", "clear") for s in ("qkv", "odd")),
    replace(PLAIN, strides="odd", frame_type=torch.bfloat16, pool_type=torch.bfloat16),
    replace(PLAIN, size=PLAIN.size._replace(dim=12), frame_type=torch.bfloat16, pool_type=torch.bfloat16),
    replace(PLAIN, size=PLAIN.size._replace(side=7, dim=5)),
    replace(PLAIN, size=PLAIN.size._replace(frames=1)),
    replace(PLAIN, size=PLAIN.size._replace(frames=1), evict="clear"),
    replace(PLAIN, size=PLAIN.size._replace(side=14, dim=64), pool_type=torch.bfloat16),
    replace(PLAIN, real=((4, 2), (3, 4))),
    replace(PLAIN, real=((0, 4), (1, 1)), frame_type=torch.bfloat16, pool_type=torch.bfloat16, strides="qkv"),
    replace(PLAIN, streams=(2, 0)),
    replace(PLAIN, streams=(1,), evict="fifo", real=((4, 4), (2, 3))),
    replace(PLAIN, streams=()),
]
CODED = replace(PLAIN, pool_type=FP8, frame_type=torch.bfloat16)
FP8_CASES = [
    *(replace(CODED, frame_type=f, evict=evict, strides="qkv") for f in TYPES for evict in ("merge", "fifo", "clear")),
    *(replace(CODED, size=CODED.size._replace(frames=frames), evict="merge") for frames in (1, 2, 5)),
    replace(CODED, strides="odd"),
    replace(CODED, size=CODED.size._replace(side=7, dim=5)),
    replace(CODED, size=CODED.size._replace(side=14, dim=64, streams=1, windows=1)),
    replace(CODED, real=((4, 2), (3, 4))),
    replace(CODED, real=((0, 4), (1, 1)), strides="qkv"),
    replace(CODED, streams=(2, 0)),
    replace(CODED, streams=(1,), evict="fifo", real=((4, 4), (2, 3))),
    replace(CODED, streams=()),
]


def new_frame(case: Case, generator: torch.Generator, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return random k and v, [B*W, H, N, D], with the case's strides."""
    batch = case.size.streams if case.streams is None else len(case.streams)
    rows, heads, tokens, dim = batch * case.size.windows, case.size.heads, case.size.side**2, case.size.dim

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device, case.frame_type)

    if case.strides == "qkv":
        fused = random(rows, tokens, 3, heads, dim)
        return fused[:, :, 1].transpose(1, 2), fused[:, :, 2].transpose(1, 2)
    if case.strides == "odd":
        return tuple(random(dim, tokens, heads, rows, 2)[..., 1].permute(3, 2, 1, 0) for _ in range(2))
    return random(rows, heads, tokens, dim), random(rows, heads, tokens, dim)


class Memory:
    """A pool in the tokens layout whose unwritten slots are NaN, with the steps of its streams."""

    def __init__(self, case: Case, device: torch.device) -> None:
        self.case = case
        self.pools = _pool.empty_pool(case.size, case.pool_type, device, "tokens")
        for pool in self.pools:
            pool.fill_(float("nan"))
        self.cursor = _pool.empty_cursor(case.size, device, case.pool_type)
        self.step = torch.zeros(case.size.streams, dtype=torch.int64, device=device)
        self.streams = None if case.streams is None else torch.tensor(case.streams, dtype=torch.int64, device=device)
        self.real = None if case.real is None else torch.tensor(case.real, dtype=torch.int32, device=device)

    def append(self, append: Append, k: Tensor, v: Tensor) -> None:
        """Hand this memory and one frame to an op."""
        code = _check.EVICTIONS[self.case.evict]
        append(*self.pools, self.cursor, k, v, self.step, self.streams, self.real, code)

    def held(self) -> list[Tensor]:
        """Return the cursor and what counts of the pools: padded tokens set to 0, for nobody reads them."""
        windows, side = self.case.size.windows, self.case.size.side
        real = _padding.real_or_all(self.real, windows, side, self.cursor.device)
        inside = _padding.inside(real, side)  # [W, n, n]
        inside = inside[:, None, :, None, :, None]  # [W, H, n, T, n, D]
        return [self.cursor, *(_fp8.raw(pool).masked_fill(~inside, 0) for pool in self.pools)]


def check(append: Append, case: Case, device: torch.device) -> None:
    """Append frames until the ring has gone round twice, some of them twice, and compare the pools bit for bit."""
    generator = torch.Generator().manual_seed(1)
    ours, theirs = Memory(case, device), Memory(case, device)
    for frame in range(2 * case.size.frames + 2):
        for _ in range(1 + (frame % 3 == 1)):  # every third frame comes twice: the second replaces the first
            k, v = new_frame(case, generator, device)
            ours.append(append, k, v)
            theirs.append(reference.memory_append_, k, v)
        assert_same(ours, theirs)
        for memory in (ours, theirs):  # streams run apart: the last one skips every other step
            memory.step += 1
            memory.step[-1] += frame % 2


# What a frame of fp8 may be multiplied with: nothing, no number, the ends of the exponents and beyond.
SIZES = (1.0, 0.0, 1e30, 3e38, 1e-30, 1e-38, 1e-44, float("inf"), float("nan"), 57344.0)


def check_sizes(append: Append, evict: str, device: torch.device) -> None:
    """Append frames of all sizes to a pool of fp8, one head at a time, and compare the pools bit for bit."""
    case = replace(CODED, frame_type=torch.float32, evict=evict, size=CODED.size._replace(streams=1))
    generator = torch.Generator().manual_seed(9)
    ours, theirs = Memory(case, device), Memory(case, device)
    for size in (*SIZES, *reversed(SIZES)):
        k, v = new_frame(case, generator, device)
        k[:, 0, :, 3] *= size
        v[:, 1] *= size
        for memory, op in ((ours, append), (theirs, reference.memory_append_)):
            memory.append(op, k, v)
            memory.step += 1
        assert_same(ours, theirs)


def check_ignored(append: Append, device: torch.device, pool_type: torch.dtype = torch.float32) -> None:
    """Hand over values that nobody can check on a GPU: ids out of range, old steps, broken cursors write nothing."""
    case = replace(PLAIN, pool_type=pool_type, streams=(0, 7, -1, 2))
    generator = torch.Generator().manual_seed(2)
    memory, expected = Memory(case, device), Memory(replace(case, streams=(0, 2)), device)
    frame = new_frame(case, generator, device)
    memory.append(append, *frame)
    rows = [row for batch in (0, 3) for row in range(batch * case.size.windows, (batch + 1) * case.size.windows)]
    expected.append(reference.memory_append_, *(tokens[rows] for tokens in frame))
    assert_same(memory, expected)

    memory.step -= 1  # older than the newest frame
    memory.append(append, *new_frame(case, generator, device))
    assert_same(memory, expected)

    memory.step += 2
    for some in (memory, expected):
        some.cursor[..., 0] = -5
    memory.append(append, *new_frame(case, generator, device))
    assert_same(memory, expected)


def assert_same(ours: Memory, theirs: Memory) -> None:
    """Compare two memories bit for bit."""
    for a, b in zip(ours.held(), theirs.held(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
