"""The whole model against the reference's way, several streams in one call, and training on whole clips.

    python benchmarks/bench_model.py --quick                small models and pictures, under a minute
    python benchmarks/bench_model.py --json FILE            the goals and what is reached, some twenty minutes
    pytest benchmarks/bench_model.py --benchmark-only --quick

The first is the one to quote, for its contenders take turns.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import flops
import pytest
import torch
from model_rows import CONTENDERS, QUICK, ROWS, Made, Result, Row
from pytest_benchmark.fixture import BenchmarkFixture

from svm_ext._files import whole_file
from svm_ext.bench import machine, report
from svm_ext.bench.case import Contender, Room
from svm_ext.bench.measure import Plan, cpu_clock, interleave, rounds_for
from svm_ext.bench.refcheck import WrongResultError
from svm_ext.bench.targets import Target

PRECISION = 1e-4  # between two contenders' results, relative to the largest number of each tensor
FULL, BRIEF = Plan(seconds=40, least=5, most=20), Plan(seconds=0.3, least=3, most=10)


@dataclass(frozen=True)
class Figures:
    """What a contender took."""

    ms: float  # median
    best_ms: float
    rounds: int
    multiply_adds: int  # of a run, by count
    held_bytes: int  # of its memory, between runs
    extra_bytes: int | None  # in use during a run at most, beyond what was there before it


@dataclass
class Measured:
    """A row and its figures."""

    name: str
    sizes: dict[str, int]
    contenders: dict[str, Figures] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    error: float = 0.0  # largest between contenders, relative to the largest number of each tensor


def check(row: Row, wanted: Iterable[str]) -> tuple[float, dict[str, int]]:
    """Run each contender once, alone; return the largest difference between those that have to agree, and the
    multiply-adds of each, or raise one line."""
    results: dict[str, Result] = {}
    counts: dict[str, int] = {}
    for name in wanted:
        results[name], counts[name] = _first_run(row.make[name]())
    errors = [_distance(name, results[name], results[other]) for name, other in row.same if {name, other} <= {*results}]
    return max(errors, default=0.0), counts


def _first_run(made: Made) -> tuple[Result, int]:
    """Return a copy of the result, and the multiply-adds."""
    result: Result = {}
    made.prepare()
    count = flops.multiply_adds(lambda: result.update(made.run()))
    return {name: x.detach().clone() for name, x in result.items()}, count


def _distance(contender: str, found: Result, truth: Result) -> float:
    """Return the largest difference, relative to the largest number of its tensor."""
    assert found.keys() == truth.keys()
    errors = {name: ((found[name] - x).abs().max() / x.abs().max()).item() for name, x in truth.items()}
    wrong = {name: error for name, error in errors.items() if not error <= PRECISION}  # NaN is wrong too
    for name, error in wrong.items():
        raise WrongResultError(f"{contender}: {name} is {error:.2g} off, allowed {PRECISION:g}; it is not measured")
    return max(errors.values())


def measure(row: Row, plan: Plan) -> Measured:
    """Check and time a row; what does not fit into memory is left out, aloud."""
    room = Room(machine.available_bytes("cpu"))
    fitting = [name for sitting in row.sittings for name in _fitting(row, sitting, room)]
    measured = Measured(row.name, row.sizes, left_out=room.left_out)
    measured.error, counts = check(row, fitting)
    for sitting in row.sittings:
        made = {name: row.make[name]() for name in sitting if name in fitting}
        if not made:
            continue
        warm = {name: _warm(it) for name, it in made.items()}
        contenders = [Contender(name, it.run, prepare=it.prepare) for name, it in made.items()]
        timings, _ = interleave(contenders, {name: rounds_for(plan, ms) for name, (ms, _) in warm.items()})
        for name, timing in timings.items():
            measured.contenders[name] = Figures(
                ms=timing.ms,
                best_ms=timing.best_ms,
                rounds=len(timing.times),
                multiply_adds=counts[name],
                held_bytes=made[name].held_bytes,
                extra_bytes=warm[name][1],
            )
        del made, contenders  # the next sitting needs the room
    return measured


def _fitting(row: Row, sitting: tuple[str, ...], room: Room) -> list[str]:
    """Return who of a sitting fits into memory together."""
    before = room.free
    fitting = [name for name in sitting if room.take(name, row.needs[name])]
    room.free = before
    return fitting


def _warm(made: Made) -> tuple[float, int | None]:
    """Return the milliseconds and the extra memory of a run."""
    made.prepare()
    return machine.peak_memory(lambda: cpu_clock(made.run), "cpu")


def targets(row: Row, measured: Measured) -> list[Target]:
    """Return the row's goals with the figures beside them."""
    found = []
    for goal in row.goals:
        long, short = (measured.contenders.get(name) for name in (goal.long, goal.short))
        ratio = long.ms / short.ms if long and short else None
        note = "; ".join(f"{name} {why}" for name, why in measured.left_out.items())
        size = f"{row.sizes['height']} x {row.sizes['width']}, {row.sizes['frames']} frames"
        found.append(Target(goal.what, "fp32", size, goal.comparison, goal.limit, "x", ratio, note))
    return found


def size_text(sizes: dict[str, int]) -> str:
    """Return `800 x 1440 pixels, 32 frames`."""
    rest = (f"{value} {name}" for name, value in sizes.items() if name not in ("height", "width"))
    return ", ".join([f"{sizes['height']} x {sizes['width']} pixels", *rest])


def table(measured: Measured) -> list[str]:
    """Return a row's lines of the table: its name, then one contender a line."""
    lines = [f"{measured.name}, {size_text(measured.sizes)}; results within {measured.error:.1g}"]
    first = next(iter(measured.contenders.values()), None)
    for name, found in measured.contenders.items():
        extra = "--" if found.extra_bytes is None else report.number(found.extra_bytes / 1e6)
        rate = 2 * found.multiply_adds / found.ms / 1e6
        lines.append(
            f"  {name:<16}{report.number(found.ms):>8} ms{found.ms / first.ms:>7.2f} x"
            f"{found.multiply_adds / 1e9:>8.1f} G"
            f"{rate:>7.0f} GFLOP/s{found.held_bytes / 1e6:>8.0f} MB{extra:>8} MB{found.rounds:>4} rounds"
        )
    return lines + [f"  {name} left out: {why}" for name, why in measured.left_out.items()]


LEGEND = """\
ms        median of the rounds; contenders of one sitting take turns
x         times the first contender
G         10^9 multiply-adds, counted while it ran (a frame and a memory: padded tokens are counted, computed or not)
MB        memory that stays between runs; then what a run takes beyond that at most, resident"""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; 1 where a result was wrong."""
    parser = argparse.ArgumentParser(description="Time the whole model beside the reference's way.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="small models and pictures")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of torch")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    args = parser.parse_args(arguments)
    if unknown := set(args.rows) - {*ROWS}:
        parser.error(f"ROW: expected some of {', '.join(ROWS)}, got {', '.join(sorted(unknown))}")
    if args.threads:
        torch.set_num_threads(args.threads)
    words = ["python", "benchmarks/bench_model.py", *(sys.argv[1:] if arguments is None else arguments)]
    results = {
        "schema": 1,
        "machine": machine.describe("cpu", shlex.join(words)),
        "peak_gflop_s": machine.peak_probe("fma")(),
        "rows": [],
        "targets": [],
    }
    print(*report.header(results["machine"], machine.bandwidth("cpu", cpu_clock)), "", sep="\n", flush=True)
    wrong = _measure_all(args, results)
    print(LEGEND)
    if args.json:
        with whole_file(args.json) as part:
            part.write_text(json.dumps(results, indent=1) + "\n")
        print(f"wrote {args.json}")
    return 1 if wrong else 0


def _measure_all(args: argparse.Namespace, results: dict[str, Any]) -> bool:
    """Measure row by row and tell each as it is there; return whether a result was wrong."""
    wrong = False
    for name in args.rows or ROWS:
        row = (QUICK if args.quick else ROWS)[name]()
        try:
            measured = measure(row, BRIEF if args.quick else FULL)
        except WrongResultError as error:
            print(f"WRONG: {row.name}: {error}\n", flush=True)
            wrong = True
            continue
        goals = targets(row, measured)
        results["rows"].append(dataclasses.asdict(measured))
        results["targets"] += [dataclasses.asdict(goal) | {"met": goal.met} for goal in goals]
        print(*table(measured), *map(report.target_line, goals), "", sep="\n", flush=True)
        del row
        gc.collect()
    return wrong


@lru_cache(maxsize=1)
def _checked(name: str, quick: bool) -> Row:
    """Build a row and check its contenders; the row before is let go."""
    row = (QUICK if quick else ROWS)[name]()
    check(row, row.make)
    return row


@pytest.mark.parametrize(
    ("row", "contender"), [(row, contender) for row, contenders in CONTENDERS.items() for contender in contenders]
)
def test_model(benchmark: BenchmarkFixture, request: pytest.FixtureRequest, row: str, contender: str) -> None:
    quick = request.config.getoption("quick")
    checked = _checked(row, quick)
    made = checked.make[contender]()
    made.prepare()
    rounds = rounds_for(BRIEF if quick else FULL, cpu_clock(made.run))
    benchmark.group = checked.name
    benchmark.extra_info.update(contender=contender, held_bytes=made.held_bytes, **checked.sizes)
    benchmark.pedantic(made.run, setup=lambda: made.prepare() and None, rounds=rounds)


if __name__ == "__main__":
    sys.exit(main())
