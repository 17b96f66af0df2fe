"""`svm-ext eval`: scores against ground truth; each kind of score has its own module."""

from __future__ import annotations

import argparse
import importlib

# What to evaluate -> what is measured. The module is eval_NAME, made as commands are.
KINDS = {
    "mot": "run a model and its tracker over annotated videos: AP, HOTA, MOTA, IDF1, for one memory or several",
    "tracks": "score tracks in MOTChallenge text: HOTA, MOTA, IDF1 and their parts, as TrackEval gives them",
}
EXAMPLES = """\
examples:
  svm-ext eval tracks --gt MOT17/train --pred results
  svm-ext eval mot --data MOT17/train --weights model.safetensors --memory-frames 1,8,32
  svm-ext eval tracks --help     its options, with examples
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.epilog = EXAMPLES
    kinds = parser.add_subparsers(dest="kind", metavar="WHAT", title="what to evaluate", required=True)
    for name, purpose in KINDS.items():
        kind = kinds.add_parser(
            name, help=purpose, description=purpose, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module = importlib.import_module(f".eval_{name}", __package__)
        module.add_arguments(kind)
        kind.set_defaults(evaluate=module.run)


def run(args: argparse.Namespace) -> int:
    """Evaluate what was chosen."""
    return args.evaluate(args)
