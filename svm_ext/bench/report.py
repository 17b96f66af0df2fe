"""How results are told: lines of a table for people, JSON for everything else."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .overhead import Overhead
from .rows import COPY, Failure, Row
from .targets import Target

SCHEMA = 1  # raised when a field of the JSON changes its meaning


@dataclass
class Results:
    """Everything that one run measured."""

    machine: dict[str, Any]
    bandwidth: dict[str, float]
    rows: list[Row] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    overheads: list[Overhead] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    complete: bool = False  # False where the run was interrupted

    def add(self, found: Row | Failure | Overhead | Target) -> None:
        """Put a result where it belongs."""
        homes = {Row: self.rows, Failure: self.failures, Overhead: self.overheads, Target: self.targets}
        homes[type(found)].append(found)

    @property
    def wrong(self) -> bool:
        """Whether a result was wrong."""
        return any(failure.wrong for failure in self.failures)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, as in the JSON file."""
        targets = [dataclasses.asdict(target) | {"met": target.met} for target in self.targets]
        return {"schema": SCHEMA, **dataclasses.asdict(self), "targets": targets}

    def write(self, path: Path) -> None:
        """Write the JSON file, whole or not at all."""
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(self.as_dict(), indent=1) + "\n")
        os.replace(part, path)


_COLUMNS = (
    ("op", "<", 14),
    ("type", "<", 5),
    ("size", "<", 27),
    ("ms", ">", 9),
    ("GB/s", ">", 7),
    ("of copy", ">", 8),
    ("GFLOP/s", ">", 8),
    ("of peak", ">", 8),
    ("extra MB", ">", 9),
)
LEGEND = """\
ms        median of the rounds
GB/s      bytes that must be read and written, by the op's formula, over ms
of copy   time of a copy that moves as many bytes, over ms
of peak   GFLOP/s over the multiply-adds that this machine did between the rounds (fp32: FMA; bf16: dot product, where
          the CPU has it)
extra MB  memory in use during a call, beyond what was there before it
N x NAME  how many calls of ours take as long as one of this baseline"""


def header(machine: dict[str, Any], bandwidth: dict[str, float]) -> list[str]:
    """Return the lines that say what the figures were measured on."""
    commit = f", commit {machine['commit'][:10]}{'+' * machine['commit'].endswith('+')}" if machine["commit"] else ""
    return [
        f"{machine['device']}, {machine['threads']} threads, instruction set {machine['isa']}, load {machine['load']}",
        f"svm_ext {machine['svm_ext']}{commit}, torch {machine['torch']}, {machine['date']}",
        f"copies {bandwidth['copy_gb_s']:.1f} GB/s (read + written), reads {bandwidth['read_gb_s']:.1f} GB/s",
    ]


def columns() -> str:
    """Return the table's first line."""
    return " ".join(f"{name:{side}{width}}" for name, side, width in _COLUMNS) + "  baselines"


def line(row: Row) -> str:
    """Return a row of the table."""
    values = (
        row.op,
        row.dtype,
        size_text(row.sizes),
        number(row.ms),
        number(row.gb_s),
        percent(row.copy_share),
        number(row.gflop_s),
        percent(row.peak_share),
        "--" if row.extra_bytes is None else number(row.extra_bytes / 1e6),
    )
    cells = (f"{value:{side}{width}}" for value, (_, side, width) in zip(values, _COLUMNS, strict=True))
    ratios = [f"{number(found.ratio)} x {name}" for name, found in row.baselines.items() if name != COPY]
    missing = [f"no {name}: {why}" for name, why in row.left_out.items()]
    return "  ".join([" ".join(cells), ", ".join(ratios + missing)])


def size_text(sizes: dict[str, int | str]) -> str:
    """Return `336 units 32 frames merge`."""
    return " ".join(value if isinstance(value, str) else f"{value} {name}" for name, value in sizes.items())


def number(value: float | None) -> str:
    """Return three digits that count."""
    if value is None:
        return "--"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def percent(share: float | None) -> str:
    """Return a share as people read it."""
    return "--" if share is None else f"{100 * share:.0f} %"


def failure_lines(failures: Sequence[Failure]) -> list[str]:
    """Return what was not measured, and why."""
    return [f"{'WRONG' if failure.wrong else 'left out'}: {failure.name}: {failure.reason}" for failure in failures]


def target_line(target: Target) -> str:
    """Return one line of the goals' table."""
    goal = f"{target.comparison} {target.limit:g} {target.unit}"
    measured = "not measured" if target.measured is None else f"{number(target.measured)} {target.unit}"
    verdict = "ok" if target.met else "below" if target.comparison == ">=" else "above"
    cells = f"{target.what:<33}{target.dtype:<6}{target.shape:<21}{goal:>10}{measured:>14}  {verdict:<6}"
    return f"{cells} {target.note}".rstrip()


def overhead_lines(overheads: Sequence[Overhead]) -> list[str]:
    """Return the table of what calls cost."""
    lines = [f"{'call on tiny tensors':<24}{'op':>10}{'public':>10}"]
    for call in overheads:
        public = "--" if call.public_us is None else f"{call.public_us:.2f} us"
        lines.append(f"{call.op:<24}{f'{call.op_us:.2f} us':>10}{public:>10}")
    return lines
