"""`svm-ext`: routes to the commands, and turns errors into one line."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

# Command -> what it is for. The command itself is the module of the same name, imported when it is called; it imports
# torch in its `run`, so that --help answers at once.
COMMANDS = {
    "demo": "track people through a generated street: no download, no GPU, half a minute",
    "info": "say what was built, what was found, and which back end runs",
    "track": "follow what a detector finds in videos, cameras and addresses",
    "recognize": "tell what happens in videos, cameras and addresses",
    "eval": "score results against ground truth",
    "train": "train a model: on generated scenes, or on your own videos",
    "convert": "turn MOT17, CrowdHuman or MOTSynth into COCO files",
    "data": "say what is wrong with a data set, and show its boxes",
    "bench": "measure the ops on this machine, against what users of torch would write",
}

EXAMPLES = """\
examples:
  svm-ext info             what runs on this machine, and why
  svm-ext info --json      the same for a bug report
  svm-ext COMMAND --help   the options of a command, with examples
"""


def build_parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """Return the parser; only the chosen command's arguments are loaded."""
    parser = argparse.ArgumentParser(
        prog="svm-ext",
        description="A streaming video transformer that sees a live video one frame at a time and remembers.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the full traceback of an error")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, purpose in COMMANDS.items():
        command = commands.add_parser(
            name, help=purpose, description=purpose, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name == chosen:
            module = importlib.import_module(f".{name}", __package__)
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 done with a finding, 2 wrong use, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    chosen = next((argument for argument in arguments if not argument.startswith("-")), None)
    parser = build_parser(chosen)
    args = parser.parse_args(arguments)
    if args.command is None:
        parser.print_help()
        return 2
    try:
        code = args.run(args) or 0
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("svm-ext: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has gone, as in `svm-ext info | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError, ImportError, NotImplementedError) as error:  # what the library raises at its users
        if args.debug:
            raise
        print(f"svm-ext {args.command}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
