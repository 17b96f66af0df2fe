"""How fast the ops are meant to be, and how fast they are: the goals of the CPU kernels with the figures beside
them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from . import machine, overhead
from .case import Contender, Room, Shape, short_name
from .cases import entry, memory_append, memory_attend
from .measure import Plan, Timing, interleave, rounds_for
from .refcheck import WrongResultError, check
from .rows import Failure, Row, run_entry

UNITS, FRAMES = 336, 32  # one picture of 800 x 1440, and the memory of the reference's evaluation
CLIP_UNITS, CLIP_FRAMES = 12, 16  # a clip of 224 x 224 pictures
PLAN = Plan(seconds=8.0, least=5, most=60)

# (what, type) -> (comparison, limit, unit)
GOALS = {
    ("attend over sdpa", "fp32"): (">=", 2.5, "x"),
    ("attend over sdpa", "bf16"): (">=", 3.5, "x"),
    ("attend over eager", "fp32"): (">=", 18.0, "x"),
    ("attend over eager", "bf16"): (">=", 14.0, "x"),
    ("attend, share of peak", "fp32"): (">=", 50.0, "%"),
    ("attend, share of peak", "bf16"): (">=", 35.0, "%"),
    ("append (merge), share of attend", "fp32"): ("<=", 4.0, "%"),
    ("append (merge), share of attend", "bf16"): ("<=", 4.0, "%"),
    ("append (fifo), share of attend", "fp32"): ("<=", 4.0, "%"),
    ("append (fifo), share of attend", "bf16"): ("<=", 4.0, "%"),
    ("step over append + attend", "fp32"): ("<=", 1.0, "x"),
    ("step over append + attend", "bf16"): ("<=", 1.0, "x"),
    ("clip both ways over eager", "fp32"): (">=", 8.0, "x"),
    ("clip both ways over eager", "bf16"): (">=", 8.0, "x"),
    ("op call, tiny tensors", ""): ("<=", 5.0, "us"),
}


@dataclass(frozen=True)
class Target:
    """One goal and what was measured."""

    what: str
    dtype: str
    shape: str
    comparison: str
    limit: float
    unit: str
    measured: float | None  # None where the row failed
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        if self.measured is None:
            return False
        return self.measured >= self.limit if self.comparison == ">=" else self.measured <= self.limit


@dataclass(frozen=True)
class Scale:
    """At which sizes to measure; the goals are meant for the ones above."""

    units: int = UNITS
    frames: int = FRAMES
    clip_units: int = CLIP_UNITS
    clip_frames: int = CLIP_FRAMES


def measure(
    plan: Plan, scale: Scale, dtypes: list[torch.dtype], told: Callable[[str], None] = lambda what: None
) -> Iterator[Target | Row | Failure | overhead.Overhead]:
    """Measure all goals, each as it comes, and in between the rows that they are taken from; `told` hears what
    comes next."""
    for dtype in dtypes:
        shape = Shape(scale.units, scale.frames, dtype)
        told(f"attend {short_name(dtype)}")
        yield from _attend(shape, plan)
        told(f"append {short_name(dtype)}")
        yield from _append(shape, plan)
        told(f"step {short_name(dtype)}")
        yield from _step(shape, plan)
        told(f"clip {short_name(dtype)}")
        yield from _clip(Shape(scale.clip_units, scale.clip_frames, dtype), plan)
    told("op calls")
    yield from _overhead()


def _target(what: str, shape: Shape | None, measured: float | None, note: str = "") -> Target:
    dtype = short_name(shape.dtype) if shape else ""
    size = f"{shape.units} units {shape.frames} frames" if shape else ""
    return Target(what, dtype, size, *GOALS[what, dtype], measured, note)


def _row(
    op: str, shape: Shape, plan: Plan, wanted: set[str], goals: dict[str, Callable[[Row], float | None]]
) -> Iterator[Target | Row | Failure]:
    """Measure a row, and take from it one figure a goal."""
    row = run_entry(entry(op, shape), plan, wanted=wanted)
    yield row
    for what, figure in goals.items():
        if isinstance(row, Failure):
            yield _target(what, shape, None, row.reason)
        else:
            yield _target(what, shape, figure(row), "; ".join(f"{k} {v}" for k, v in row.left_out.items()))


def _ratio(baseline: str) -> Callable[[Row], float | None]:
    def figure(row: Row) -> float | None:
        return row.baselines[baseline].ratio if baseline in row.baselines else None

    return figure


def _attend(shape: Shape, plan: Plan) -> Iterator[Target | Row | Failure]:
    goals: dict[str, Callable[[Row], float | None]] = {
        "attend over sdpa": _ratio("sdpa"),
        "attend over eager": _ratio("eager"),
        "attend, share of peak": lambda row: row.peak_share and 100 * row.peak_share,
    }
    return _row("memory_attend", shape, plan, {"sdpa", "eager", "copy"}, goals)


def _step(shape: Shape, plan: Plan) -> Iterator[Target | Row | Failure]:
    goals = {"step over append + attend": lambda row: 1 / row.baselines["append+attend"].ratio}
    return _row("stream_step", shape, plan, set(), goals)


def _clip(shape: Shape, plan: Plan) -> Iterator[Target | Row | Failure]:
    return _row("clip_attend", shape, plan, {"eager"}, {"clip both ways over eager": _ratio("eager")})


def _append(shape: Shape, plan: Plan) -> Iterator[Target | Failure]:
    """Measure appends and an attend in turns: a share of figures from different minutes would be luck."""
    try:
        timings = _append_timings(shape, plan)
    except (WrongResultError, MemoryError) as error:
        yield Failure(f"append {short_name(shape.dtype)}", str(error), isinstance(error, WrongResultError))
        timings = {}
    for evict in memory_append.EVICTIONS:
        what = f"append ({evict}), share of attend"
        if timings:
            part, whole = timings[evict].ms, timings["attend"].ms
            yield _target(what, shape, 100 * part / whole, f"{part:.3g} of {whole:.3g} ms")
        else:
            yield _target(what, shape, None)


def _append_timings(shape: Shape, plan: Plan) -> dict[str, Timing]:
    room = Room(machine.available_bytes("cpu"), wanted=())
    cases = [memory_attend.build(shape, room)]
    cases += [memory_append.build(replace(shape, evict=evict), room) for evict in memory_append.EVICTIONS]
    for case in cases:
        check(case, lambda contender: contender.run())
    names = ("attend", *memory_append.EVICTIONS)
    contenders = [
        Contender(name, case.ours.run, prepare=case.ours.prepare) for name, case in zip(names, cases, strict=True)
    ]
    warm = interleave(contenders, dict.fromkeys(names, 2))[0]
    return interleave(contenders, dict.fromkeys(names, rounds_for(plan, warm["attend"].ms)))[0]


def _overhead() -> Iterator[Target | overhead.Overhead]:
    calls = overhead.measure()
    yield from calls
    slowest = max(calls, key=lambda call: call.op_us)
    yield _target("op call, tiny tensors", None, slowest.op_us, f"the slowest: {slowest.op}")
