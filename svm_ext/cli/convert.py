"""`svm-ext convert`: data sets as others publish them, in the form that trainings read."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from ._told import Told

EXAMPLES = """\
mot17            DIR/train/SEQ and DIR/test/SEQ: writes OUTPUT/train_cocoformat.json and so on
crowdhuman       DIR/annotation_train.odgt and DIR/train/Images: writes OUTPUT/crowdhuman_train.json and so on
motsynth         DIR/000.json and so on: writes one file
motsynth-frames  DIR/000.mp4 and so on: writes OUTPUT/000/img1/000001.jpg and so on

examples:
  svm-ext convert mot17 --input MOT17 --output annotations --split-train
  svm-ext convert crowdhuman --input CrowdHuman --output annotations
  svm-ext convert motsynth --annotations MOTSynth/annotations --output annotations/motsynth.json
  svm-ext convert motsynth-frames --input MOTSynth/videos --output MOTSynth/frames --jobs 4
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.epilog = EXAMPLES
    sets = parser.add_subparsers(dest="what", metavar="WHAT", title="data sets", required=True)
    mot17 = sets.add_parser("mot17", help="MOT17, and data laid out like it, as COCO-VID")
    mot17.add_argument("--split-train", action="store_true", help="write the halves of the training sequences too")
    mot17.set_defaults(convert=_mot17)
    crowdhuman = sets.add_parser("crowdhuman", help="CrowdHuman as COCO")
    crowdhuman.set_defaults(convert=_crowdhuman)
    motsynth = sets.add_parser("motsynth", help="MOTSynth's annotations as one COCO-VID file")
    motsynth.add_argument("--annotations", type=Path, required=True, metavar="DIR", help="a JSON file for each video")
    motsynth.add_argument("--output", type=Path, required=True, metavar="FILE", help="the file to write")
    motsynth.set_defaults(convert=_motsynth)
    frames = sets.add_parser("motsynth-frames", help="MOTSynth's videos, and others, as pictures")
    frames.set_defaults(convert=_motsynth_frames)
    for command in (mot17, crowdhuman, frames):
        command.add_argument("--input", type=Path, required=True, metavar="DIR", help="never written to")
        command.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write to")
    for command in (crowdhuman, motsynth):
        command.add_argument("--overwrite", action="store_true", help="make files again that are there already")
    for command in (motsynth, frames):
        usual = os.cpu_count() or 1
        command.add_argument("--jobs", type=int, default=usual, metavar="N", help=f"processes (default: {usual})")


def run(args: argparse.Namespace) -> int:
    """Convert, and say what was written."""
    with Told() as told:
        lines, code = args.convert(args, told.begin)
    print(*lines, sep="\n")
    return code


Lines = tuple[list[str], int]  # what to print, and the exit code
Begin = Callable[[str, int, int], None]


def _mot17(args: argparse.Namespace, begin: Begin) -> Lines:
    from ..data.convert.mot17 import convert_mot17

    written = convert_mot17(args.input, args.output, split_train=args.split_train, on_sequence=begin)
    return [f"wrote {path}" for path in written], 0


def _crowdhuman(args: argparse.Namespace, begin: Begin) -> Lines:
    from ..data.convert.crowdhuman import convert_crowdhuman

    written, kept = convert_crowdhuman(args.input, args.output, overwrite=args.overwrite, on_picture=begin)
    return [*(f"wrote {path}" for path in written), *map(_kept, kept)], 0


def _motsynth(args: argparse.Namespace, begin: Begin) -> Lines:
    from ..data.convert.motsynth import convert_motsynth

    made = convert_motsynth(args.annotations, args.output, jobs=args.jobs, overwrite=args.overwrite, on_video=begin)
    return [f"wrote {args.output}" if made else _kept(args.output)], 0


def _motsynth_frames(args: argparse.Namespace, begin: Begin) -> Lines:
    from ..data.convert.motsynth_frames import convert_motsynth_frames

    found = convert_motsynth_frames(args.input, args.output, jobs=args.jobs, on_video=begin)
    problems = [f"{video.name}: {video.problem}" for video in found if video.problem]
    kept = sum(video.kept for video in found)
    frames = sum(video.frames for video in found)
    return [
        f"{len(found)} videos, {frames} pictures in {args.output}; {kept} videos were there already",
        *problems,
    ], 1 if problems else 0


def _kept(path: Path) -> str:
    return f"kept {path}, which was there already; --overwrite makes it again"
