"""Scores for people and for scripts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from .._files import whole_file

Rows = Mapping[str, Mapping[str, float]]


def table(rows: Rows, columns: Sequence[str], first: str = "sequence") -> str:
    """Return a table with a line a row: fractions with four decimals, whole numbers as they are."""
    body = [[name, *(_cell(scores[column]) for column in columns)] for name, scores in rows.items()]
    lines = [[first, *columns], *body]
    widths = [max(len(line[index]) for line in lines) for index in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    )


def as_json(rows: Rows) -> str:
    """Return the scores as JSON text, by row and then by name."""
    return json.dumps(rows, indent=1) + "\n"


def write_json(rows: Rows, path: Path) -> None:
    """Write a JSON file, whole or not at all."""
    with whole_file(path) as part:
        part.write_text(as_json(rows))


def _cell(value: float) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
