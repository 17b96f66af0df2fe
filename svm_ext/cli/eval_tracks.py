"""`svm-ext eval tracks`: tracks against ground truth, in MOTChallenge text."""

from __future__ import annotations

import argparse
from pathlib import Path

from ._progress import Progress

BENCHMARKS = ("MOT15", "MOT17", "MOT20")  # as in svm_ext.evaluate.preprocess; --help must not wait for NumPy
EXAMPLES = """\
ground truth    DIR/SEQ/gt/gt.txt with DIR/SEQ/seqinfo.ini, or DIR/SEQ.txt, or one file
results         DIR/SEQ.txt, DIR/data/SEQ.txt, DIR/SEQ/SEQ.txt, the one text file in DIR/SEQ, or one file
a line          frame, id, left, top, width, height, score (ground truth: 0 = not to be found), class
scores          fractions; MOTP is mean overlap, larger is better

examples:
  svm-ext eval tracks --gt MOT17/train --pred results
  svm-ext eval tracks --gt MOT15/train --pred results --benchmark MOT15 --sequences PETS09-S2L1 TUD-Campus
  svm-ext eval tracks --gt gt.txt --pred tracks.txt --json - | jq .COMBINED.HOTA
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.epilog = EXAMPLES
    what = parser.add_argument_group("what to compare")
    what.add_argument("--gt", type=Path, required=True, metavar="DIR", help="ground truth")
    what.add_argument("--pred", type=Path, required=True, metavar="DIR", help="results of a tracker")
    what.add_argument("--sequences", nargs="+", metavar="SEQ", help="only these; default: all that --gt has")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--benchmark", choices=BENCHMARKS, default="MOT17", help="whose rules: which classes count (default: MOT17)"
    )
    how.add_argument("--allow-empty", action="store_true", help="a file without a line means that there is no track")
    how.add_argument("--json", metavar="FILE", help="write all scores, by sequence and COMBINED; - prints them instead")


def run(args: argparse.Namespace) -> int:
    """Evaluate, print the table or JSON, write the file."""
    path = None if args.json in (None, "-") else Path(args.json)
    if path is not None and not path.absolute().parent.is_dir():
        raise ValueError(f"--json: expected a file in a folder that exists, got {args.json!r}; make the folder")
    from ..evaluate import evaluate_tracks, report

    with _Progress() as progress:
        result = evaluate_tracks(
            args.gt,
            args.pred,
            benchmark=args.benchmark,
            sequences=args.sequences,
            allow_empty=args.allow_empty,
            on_sequence=progress.begin,
        )
    print(report.as_json(result.as_dict()).rstrip() if args.json == "-" else result.table())
    if path is not None:
        report.write_json(result.as_dict(), path)
        print(f"wrote {path}")
    return 0


class _Progress:
    """Tells which sequence is being read; how many there are is known with the first."""

    def __init__(self) -> None:
        self._line: Progress | None = None

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._line is not None:
            self._line.clear()

    def begin(self, name: str, number: int, total: int) -> None:
        """Say that a sequence begins, and so that the one before is done."""
        if self._line is None:
            self._line = Progress(total)
        elif number:
            self._line.end(1)
        self._line.begin(name)
