"""`svm-ext data`: a look at a data set before anything is trained with it, and generated ones to begin with."""

from __future__ import annotations

import argparse
from pathlib import Path

from ._told import Told

EXAMPLES = """\
examples:
  svm-ext data check MOT17/train
  svm-ext data check annotations/train_cocoformat.json --images MOT17/train --sheet train.jpg
  svm-ext data check mine --every-picture
  svm-ext data generate scenes --scenes 4 --frames 300 --size 320 576
"""
LAYOUTS = """\
layouts that are understood:
  DIR/SEQ/img1/000001.jpg, DIR/SEQ/gt/gt.txt    videos as in the MOTChallenge; gt.txt: frame, id, left, top, width,
                                                height, conf, class, visibility; id -1: unknown
  FILE.json or DIR/annotations.json             COCO with videos, or COCO without: each picture is a video of one frame
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.epilog = EXAMPLES
    actions = parser.add_subparsers(dest="action", metavar="WHAT", title="what to do", required=True)
    check = actions.add_parser(
        "check",
        help="say what is wrong with a data set, and draw some of its pictures with their boxes",
        description="Says what is wrong with a data set, and draws some of its pictures with their boxes.",
        epilog=f"{LAYOUTS}\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("data", type=Path, metavar="DIR", help="folder, or JSON file")
    check.add_argument("--images", type=Path, metavar="DIR", help="folder that a JSON file's names are below")
    check.add_argument("--sheet", type=Path, metavar="FILE", help="picture to draw (default: NAME_sheet.jpg, here)")
    check.add_argument("--every-picture", action="store_true", help="read every picture whole, not some of each video")
    check.set_defaults(act=_check)
    generate = actions.add_parser(
        "generate",
        help="write generated street scenes as MOTChallenge folders",
        description="Writes generated street scenes with exact ground truth to DIR/scene-SEED.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    generate.add_argument("output", type=Path, metavar="DIR", help="folder to write to; scenes there already are kept")
    for name, usual, text in (("scenes", 1, "how many"), ("frames", 300, "of each"), ("seed", 0, "of the first")):
        generate.add_argument(f"--{name}", type=int, default=usual, metavar="N", help=f"{text} (default: {usual})")
    generate.add_argument("--size", type=int, nargs=2, default=(320, 576), metavar=("H", "W"), help="default: 320 576")
    generate.set_defaults(act=_generate)


def run(args: argparse.Namespace) -> int:
    """Do what was chosen."""
    with Told() as told:
        return args.act(args, told)


def _check(args: argparse.Namespace, told: Told) -> int:
    """Check, print what was found, draw the sheet; 1 if something has to be mended."""
    sheet = args.sheet or Path(f"{args.data.absolute().stem}_sheet.jpg")
    if sheet.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise ValueError(f"--sheet: expected a name that ends in .jpg or .png, got {str(sheet)!r}")
    if not sheet.absolute().parent.is_dir():
        raise ValueError(f"--sheet: expected a file in a folder that exists, got {str(sheet)!r}; make the folder")
    from ..data.check import check_data

    report = check_data(args.data, images=args.images, every_picture=args.every_picture, on_video=told.begin)
    told.clear()
    print(*report.lines(), sep="\n")
    if report.videos is not None:
        from ..data.sheet import draw_sheet

        print(f"wrote {draw_sheet(report.videos, sheet)}")
    return 1 if report.grave else 0


def _generate(args: argparse.Namespace, told: Told) -> int:
    """Write the scenes and say where they are."""
    from ..data.export import write_scenes
    from ..data.scenes import SceneConfig

    config = SceneConfig(size=tuple(args.size))
    written = write_scenes(
        args.output, config, seed=args.seed, scenes=args.scenes, frames=args.frames, on_frame=told.begin
    )
    told.clear()
    print(f"{len(written)} scenes in {args.output}, {args.frames} frames each")
    return 0
