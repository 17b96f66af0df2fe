"""`svm-ext eval mot`: a model and its tracker over annotated videos."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ._progress import Progress
from .eval_tracks import BENCHMARKS

EXAMPLES = """\
data            MOTChallenge folders (SEQ/img1, SEQ/gt/gt.txt), COCO-VID JSON, or COCO pictures
scores          AP50 and AP of the detections; HOTA, MOTA, IDF1 of the tracks; fractions

examples:
  svm-ext eval mot --data MOT17/train --weights model.safetensors
  svm-ext eval mot --data MOT17/train --weights model.safetensors --memory-frames 1,2,4,8,16,32 --plot memory.png
  svm-ext eval mot --data mine --weights model.safetensors --size 640 360 --set high=0.5 --json -
"""
COLUMNS = ("AP50", "AP", "HOTA", "DetA", "AssA", "MOTA", "IDF1", "IDSW", "FP", "FN")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.epilog = EXAMPLES
    what = parser.add_argument_group("what to evaluate")
    what.add_argument("--data", type=Path, required=True, metavar="DIR", help="annotated videos")
    what.add_argument("--weights", type=Path, required=True, metavar="FILE", help="the model")
    what.add_argument("--sequences", nargs="+", metavar="SEQ", help="only these; default: all")
    how = parser.add_argument_group("how")
    how.add_argument("--memory-frames", metavar="N,N,...", help="frames that the model remembers; several are compared")
    how.add_argument(
        "--size",
        nargs=2,
        type=int,
        metavar=("LONG", "SHORT"),
        help="scale pictures to these sides (default: as the model was trained)",
    )
    how.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change a rule of the tracker")
    how.add_argument("--benchmark", choices=BENCHMARKS, default="MOT17", help="whose rules (default: MOT17)")
    how.add_argument("--jobs", type=int, default=1, metavar="N", help="processes that share the sequences (default: 1)")
    where = parser.add_argument_group("where to")
    where.add_argument("--json", metavar="FILE", help="write all scores; - prints them instead of the table")
    where.add_argument("--plot", type=Path, metavar="FILE", help="draw scores over memory frames, PNG or SVG")


def run(args: argparse.Namespace) -> int:
    """Evaluate once for each memory, print tables or JSON, draw."""
    lengths = _lengths(args.memory_frames)
    _check_outputs(args, lengths)
    from ..evaluate import report
    from ..evaluate.mot import MotPlan, evaluate_mot
    from ..stream.track import find_model
    from ..tracking import TrackerRules

    if args.size and min(args.size) < 1:
        raise ValueError(f"--size: expected two sides in pixels, got {args.size[0]} {args.size[1]}")
    rules = TrackerRules(**dict(_rule(text, TrackerRules.__dataclass_fields__) for text in args.set))
    model, _ = find_model(args.weights)
    runs = {}
    for length in lengths:
        plan = MotPlan(length, tuple(args.size) if args.size else None, rules, args.benchmark)
        title = "the model's own memory" if length is None else f"a memory of {length} frames"
        with _Sequences(title) as told:
            found = evaluate_mot(
                model, args.data, plan, sequences=args.sequences, jobs=args.jobs, on_sequence=told.ended
            )
        runs["default" if length is None else str(length)] = found.as_dict()
        if args.json != "-":
            columns = [name for name in COLUMNS if name in runs[next(reversed(runs))]["COMBINED"]]
            print(f"{title}, {found.frames_per_second:.1f} frames/s")
            print(report.table(found.as_dict(), columns), end="\n\n")
    if args.json == "-":
        print(report.as_json(_plain(runs)).rstrip())
    elif args.json:
        report.write_json(_plain(runs), Path(args.json))
        print(f"wrote {args.json}")
    if args.plot:
        draw(runs, args.plot)
        print(f"wrote {args.plot}")
    return 0


def _lengths(text: str | None) -> list[int | None]:
    if text is None:
        return [None]
    parts = text.split(",")
    if not all(part.strip().isdigit() and int(part) >= 1 for part in parts):
        raise ValueError(f"--memory-frames: expected numbers like 1,2,4,8, got {text!r}")
    return [int(part) for part in parts]


def _check_outputs(args: argparse.Namespace, lengths: list[int | None]) -> None:
    """Say before the work begins what would keep its results from being written."""
    for name, path in (("--json", args.json if args.json != "-" else None), ("--plot", args.plot)):
        if path and not Path(path).absolute().parent.is_dir():
            raise ValueError(f"{name}: expected a file in a folder that exists, got {str(path)!r}; make the folder")
    if args.plot:
        from ..bench.plot import require

        require(args.plot)
        if len(lengths) < 2:
            raise ValueError("--plot: expected several memories to compare, got one; add --memory-frames 1,2,4,8")


def _rule(text: str, known: Any) -> tuple[str, float | int]:
    name, _, value = text.partition("=")
    if name not in known:
        raise ValueError(f"--set: expected a rule of the tracker ({', '.join(known)}), got {text!r}")
    try:
        return name, int(value) if value.lstrip("-").isdigit() else float(value)
    except ValueError:
        raise ValueError(f"--set: expected a number, got {text!r}; write for example {name}=0.5") from None


def _plain(runs: dict[str, Any]) -> dict[str, Any]:
    """Replace nan by null: JSON knows no nan."""
    return {
        run: {
            name: {score: None if value != value else value for score, value in scores.items()}
            for name, scores in of.items()
        }
        for run, of in runs.items()
    }


def draw(runs: dict[str, dict[str, dict[str, float]]], path: Path) -> None:
    """Draw the combined scores over the number of remembered frames."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lengths = sorted(map(int, runs))
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for name in ("AP50", "HOTA", "MOTA", "IDF1"):
        values = [runs[str(length)]["COMBINED"].get(name, float("nan")) for length in lengths]
        axes.plot(lengths, values, marker="o", label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(lengths, [str(length) for length in lengths])
    axes.set_xlabel("frames remembered")
    axes.set_ylabel("score")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


class _Sequences:
    """Tells how many sequences are done."""

    def __init__(self, title: str) -> None:
        self._title, self._line = title, None

    def __enter__(self) -> _Sequences:
        return self

    def __exit__(self, *error: object) -> None:
        if self._line is not None:
            self._line.clear()

    def ended(self, name: str, number: int, total: int) -> None:
        """Count a sequence as done."""
        if self._line is None:
            self._line = Progress(total)
        self._line.end(1)
        if number + 1 < total:
            self._line.begin(f"{self._title}: {name} done")
