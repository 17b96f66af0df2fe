"""A case in, a row of figures out; or the reason why there is none."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import NamedTuple

import torch

from . import machine, refcheck
from .case import Case, Contender, Room, short_name
from .cases import Entry
from .measure import Clock, Plan, Timing, cpu_clock, cuda_clock, interleave, rounds_for

COPY = "copy"


@dataclass(frozen=True)
class Baseline:
    """What a baseline took, and how often ours fits into that."""

    ms: float
    best_ms: float
    rounds: int
    ratio: float  # its median over ours
    ratio_best: float  # its best over ours
    extra_bytes: int | None  # memory in use at most during a call, beyond what was there before


@dataclass(frozen=True)
class Row:
    """One measured row; all of its figures are from the same interleaved rounds."""

    op: str
    dtype: str
    sizes: dict[str, int | str]
    bytes: int
    flops: int
    ms: float  # median
    best_ms: float
    rounds: int
    gb_s: float  # bytes over the median
    copy_share: float | None  # time of a copy of the same bytes over ours
    gflop_s: float | None  # None where the op's arithmetic is not counted
    peak_kind: str  # which multiply-adds the peak is of: fma, dot; empty where there is none to compare with
    peak_gflop_s: float | None  # the best of those measured at every round: what the machine can do, not what it did
    peak_share: float | None
    error: float  # largest distance from the reference on the sampled rows
    extra_bytes: int | None  # as in Baseline
    baselines: dict[str, Baseline]
    left_out: dict[str, str]  # baseline -> why it was not measured

    @property
    def series(self) -> tuple[str, str, dict[str, int | str], int]:
        """What a line of a plot has in common (op, type, all sizes but one), and the size that it runs over."""
        axis = "boxes" if "boxes" in self.sizes else "frames"
        rest = {name: value for name, value in self.sizes.items() if name != axis}
        return self.op, self.dtype, rest, int(self.sizes[axis])


@dataclass(frozen=True)
class Failure:
    """A row that was not measured."""

    name: str
    reason: str
    wrong: bool  # a result was wrong; else it could not run here


def run_entry(entry: Entry, plan: Plan, device: str = "cpu", wanted: Container[str] | None = None) -> Row | Failure:
    """Build, check and measure one row, against all baselines or those that are wanted."""
    room = Room(machine.available_bytes(device), wanted)
    torch.manual_seed(0)
    try:
        return run_case(entry.build(room), plan, device, room)
    except refcheck.WrongResultError as error:
        return Failure(entry.name, str(error), True)
    except (NotImplementedError, MemoryError) as error:  # no kernel for this device, too large for this machine
        return Failure(entry.name, str(error), False)


def run_case(case: Case, plan: Plan, device: str = "cpu", room: Room | None = None) -> Row:
    """Check and measure one row; the refcheck and a second call are the warm-up."""
    clock = cuda_clock if device == "cuda" else cpu_clock
    error = refcheck.check(case, lambda contender: contender.run())
    contenders = list(case.contenders)
    # As late as this, because a copy needs the least of all: whoever had to go, had to go before.
    if room is None or room.take(COPY, case.bytes):
        contenders.append(Contender(COPY, machine.copier(case.bytes, device)))
    warm = {contender.name: _warm(contender, clock, device) for contender in contenders}
    rounds = {name: rounds_for(plan, ms) for name, (ms, _) in warm.items()}
    extra = {name: count for name, (_, count) in warm.items()}
    kind = machine.peak_kind(case.dtype, device) if case.flops else ""
    timings, peaks = interleave(contenders, rounds, machine.peak_probe(kind), clock)
    return _row(case, timings, Peak(kind, max(peaks, default=None)), error, extra)


def _warm(contender: Contender, clock: Clock, device: str) -> tuple[float, int | None]:
    """Return the milliseconds and the extra memory of a second call: the first one, the refcheck's, met cold caches,
    and whatever libraries allocate once."""
    contender.prepare()
    return machine.peak_memory(lambda: clock(contender.run), device)


class Peak(NamedTuple):
    """What a row's arithmetic is compared with."""

    kind: str
    gflop_s: float | None


def _row(case: Case, timings: dict[str, Timing], peak: Peak, error: float, extra: dict[str, int | None]) -> Row:
    ours = timings[case.ours.name]
    gflop_s = case.flops / ours.ms / 1e6 if case.flops else None
    baselines = {
        name: _baseline(timing, ours, extra.get(name)) for name, timing in timings.items() if name != case.ours.name
    }
    return Row(
        op=case.op,
        dtype=short_name(case.dtype),
        sizes=dict(case.sizes),
        bytes=case.bytes,
        flops=case.flops,
        ms=ours.ms,
        best_ms=ours.best_ms,
        rounds=len(ours.times),
        gb_s=case.bytes / ours.ms / 1e6,
        copy_share=baselines[COPY].ratio if COPY in baselines else None,
        gflop_s=gflop_s,
        peak_kind=peak.kind,
        peak_gflop_s=peak.gflop_s,
        peak_share=gflop_s / peak.gflop_s if gflop_s and peak.gflop_s else None,
        error=error,
        extra_bytes=extra.get(case.ours.name),
        baselines=baselines,
        left_out=dict(case.left_out),
    )


def _baseline(timing: Timing, ours: Timing, extra: int | None) -> Baseline:
    ratio, ratio_best = timing.ms / ours.ms, timing.best_ms / ours.best_ms
    return Baseline(timing.ms, timing.best_ms, len(timing.times), ratio, ratio_best, extra)
