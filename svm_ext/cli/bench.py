"""`svm-ext bench`: how fast the ops are here, and how fast what they stand for would be."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..bench.report import Results

# As in svm_ext.bench.cases; written here, because --help must not wait for torch.
OPS = ("memory_append", "memory_attend", "stream_step", "clip_attend", "nms")
EXAMPLES = """\
examples:
  svm-ext bench --quick                     every op on a small picture, under a minute
  svm-ext bench --ops memory_attend --units 336 --frames 8 32 --dtype bf16
  svm-ext bench --json result.json --plot result.png
  svm-ext bench --targets                   how fast the ops are meant to be, and are
  svm-ext bench --quick --isa avx2 --threads 1
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.epilog = EXAMPLES
    what = parser.add_argument_group("what to measure")
    what.add_argument("--ops", nargs="+", choices=OPS, default=list(OPS), metavar="OP", help=f"of {', '.join(OPS)}")
    what.add_argument("--units", nargs="+", type=_count, metavar="N", help="windows x heads x streams")
    what.add_argument("--frames", nargs="+", type=_count, metavar="T", help="frames in memory, or in the clip")
    what.add_argument("--boxes", nargs="+", type=_count, metavar="N", help="for nms")
    what.add_argument("--dtype", nargs="+", choices=("fp32", "bf16"), help="default: both; with --quick fp32")
    what.add_argument("--quick", action="store_true", help="few shapes, few rounds")
    what.add_argument("--targets", action="store_true", help="print the goals of the CPU kernels beside the figures")
    how = parser.add_argument_group("where")
    how.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    how.add_argument("--isa", metavar="NAME", help="instruction set of the CPU kernels; `svm-ext info` lists them")
    how.add_argument("--threads", type=_count, metavar="N", help="threads of torch, for ours and for the baselines")
    out = parser.add_argument_group("results")
    out.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    out.add_argument("--plot", type=Path, metavar="FILE", help="draw milliseconds against frames, .png or .svg")


def _count(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return count


def run(args: argparse.Namespace) -> int:
    """Measure, print each row as it is there, write the files; 1 where a result was wrong."""
    _require(args)
    import torch

    from ..bench import machine, measure, report

    before = torch.get_num_threads(), torch.ops.svm_ext.cpu_isa(None)
    try:
        if args.threads:
            torch.set_num_threads(args.threads)
        if args.isa:
            torch.ops.svm_ext.cpu_isa(args.isa)
        clock = measure.cuda_clock if args.device == "cuda" else measure.cpu_clock
        found = machine.describe(args.device, command(args))
        results = report.Results(found, machine.bandwidth(args.device, clock))
        print(*report.header(results.machine, results.bandwidth), "", sep="\n", flush=True)
        _measure(args, results)
    finally:
        torch.set_num_threads(before[0])
        torch.ops.svm_ext.cpu_isa(before[1])
    return 1 if results.wrong else 0


def _require(args: argparse.Namespace) -> None:
    """Find out before anything is measured what would lose the results."""
    for option, path in (("--json", args.json), ("--plot", args.plot)):
        if path is not None and not path.absolute().parent.is_dir():
            raise ValueError(f"{option}: expected a file in a folder that exists, got {str(path)!r}; make the folder")
    if args.plot is not None:
        from ..bench import plot

        plot.require(args.plot)
    if args.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ValueError("--device: expected a device that is there, got cuda; torch finds no GPU")


def command(args: argparse.Namespace) -> str:
    """Return the command line that measures the same again."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    words = ["svm-ext", "bench"]
    for name, default in vars(parser.parse_args([])).items():
        value = getattr(args, name)
        if value == default:
            continue
        words.append(f"--{name}")
        if value is not True:
            words += [str(item) for item in (value if isinstance(value, list) else [value])]
    return shlex.join(words)


def _measure(args: argparse.Namespace, results: Results) -> None:
    """Measure and tell; what was measured before an interruption is written too."""
    try:
        for found in _targets(args) if args.targets else _rows(args):
            results.add(found)
            _tell(found, args.targets)
        results.complete = True
    finally:
        if args.json is not None:
            results.write(args.json)
    _conclude(args, results)


def _rows(args: argparse.Namespace) -> Iterator[Any]:
    from ..bench import cases, measure, overhead, report, rows
    from ._progress import Progress

    entries = cases.entries(
        args.ops, _dtypes(args), args.units, args.frames, args.boxes, quick=args.quick, device=args.device
    )
    progress = Progress(sum(entry.weight for entry in entries))
    print(report.columns(), flush=True)
    for entry in entries:
        progress.begin(entry.name)
        found = rows.run_entry(entry, measure.QUICK if args.quick else measure.FULL, args.device)
        progress.end(entry.weight)
        yield found
    if args.device == "cpu":
        yield from overhead.measure()


def _targets(args: argparse.Namespace) -> Iterator[Any]:
    from ..bench import measure, targets
    from ._progress import Progress

    scale = targets.Scale()
    if args.units:
        scale = targets.Scale(args.units[0], scale.frames, args.units[0], scale.clip_frames)
    if args.frames:
        scale = targets.Scale(scale.units, args.frames[0], scale.clip_units, args.frames[0])
    dtypes = _dtypes(args)
    progress = Progress(4 * len(dtypes) + 1)
    first = True

    def told(what: str) -> None:
        nonlocal first
        if not first:
            progress.end(1)
        first = False
        progress.begin(what)

    for found in targets.measure(measure.QUICK if args.quick else targets.PLAN, scale, dtypes, told):
        progress.clear()
        yield found


def _dtypes(args: argparse.Namespace) -> list[Any]:
    from ..bench.case import DTYPES

    names = args.dtype or (["fp32"] if args.quick and not args.targets else list(DTYPES))
    return [DTYPES[name] for name in names]


def _tell(found: Any, targets_only: bool) -> None:
    """Print a row, or why there is none; of the goals' run only the goals, for the rows stand in the JSON."""
    from ..bench import report
    from ..bench.rows import Failure, Row
    from ..bench.targets import Target

    if isinstance(found, Failure):
        print(*report.failure_lines([found]), sep="\n", flush=True)
    elif isinstance(found, Row) and not targets_only:
        print(report.line(found), flush=True)
    elif isinstance(found, Target):
        print(report.target_line(found), flush=True)


def _conclude(args: argparse.Namespace, results: Results) -> None:
    """Print what belongs under the table and write the plot."""
    from ..bench import plot, report

    if not args.targets:
        print("", report.LEGEND, sep="\n")
    if results.overheads:
        print("", *report.overhead_lines(results.overheads), sep="\n")
    if args.plot is not None:
        title = f"{results.machine['device']}, {results.machine['threads']} threads; {results.machine['command']}"
        plot.draw(results.rows, title, args.plot)
    for path in (args.json, args.plot):
        if path is not None:
            print(f"wrote {path}")
