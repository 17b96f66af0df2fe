"""`svm-ext info`: what was built, what was found, which back end runs."""

from __future__ import annotations

import argparse

EXAMPLES = """\
examples:
  svm-ext info
  svm-ext info --json > report.json
  SVM_EXT_BACKEND=reference svm-ext info
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.epilog = EXAMPLES
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts and bug reports")


def run(args: argparse.Namespace) -> int:
    """Print the table; 1 where the compiled ops cannot be loaded."""
    from .._info import info

    found = info()
    print(found.json() if args.json else found)
    return 0 if found else 1
