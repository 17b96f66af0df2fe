"""`svm-ext train`: trains a model; one sub-command a task."""

from __future__ import annotations

import argparse

from ._arguments import setting

EXAMPLES = """\
examples:
  svm-ext train mot --output runs/scenes                        on generated scenes, from nothing
  svm-ext train mot --output runs/scenes --resume               goes on after an interrupt, to the same numbers
  svm-ext train mot --config mine.yaml --set batch=8 --output runs/mine
  svm-ext train mot --show --set model=svit_small_mot           what would be trained, as YAML for --config
  torchrun --nproc-per-node 8 -m svm_ext.train.mot --config mot17 --set data=MOT17 --output runs/mot17
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.epilog = EXAMPLES
    tasks = parser.add_subparsers(dest="task", metavar="TASK", required=True)
    mot = tasks.add_parser(
        "mot",
        help="a detector that remembers, for tracking",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = mot.add_argument_group("what to train")
    what.add_argument("--config", default="scenes", metavar="FILE|PRESET", help="scenes (default), mot17, or YAML")
    what.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="change a setting of training or model"
    )
    what.add_argument("--show", action="store_true", help="print the settings as YAML, and train nothing")
    where = mot.add_argument_group("where to")
    where.add_argument("--output", metavar="DIR", help="folder for weights, checkpoints, figures and curves")
    where.add_argument("--resume", action="store_true", help="go on with the training in DIR")
    where.add_argument("--threads", type=int, metavar="N", help="threads of the CPU (default: torch's choice)")


def run(args: argparse.Namespace) -> int:
    """Train, or show what would be trained."""
    from ..train.config import config_from

    config = config_from(args.config).with_settings(dict(setting(text, "batch=8") for text in args.set))
    if args.show:
        print(config)
        return 0
    if not args.output:
        raise ValueError("--output: expected a folder, got none; add --output runs/NAME")
    import torch

    from ..train.mot import train

    if args.threads:
        torch.set_num_threads(args.threads)
    print(f"weights: {train(config, args.output, resume=args.resume)}")
    return 0
