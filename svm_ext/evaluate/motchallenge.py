"""Reads MOTChallenge text, ground truth and results alike, and the seqinfo.ini beside it."""

from __future__ import annotations

import configparser
from array import array
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .table import TrackTable, repeated

_COLUMNS = ("frame", "id", "left", "top", "width", "height", "conf", "class")
_NEEDED = {True: _COLUMNS, False: _COLUMNS[:-1]}  # a tracker need not say that it tracks pedestrians


def read_tracks(path: str | Path, *, ground_truth: bool = False, frames: int | None = None) -> TrackTable:
    """Read one sequence: frame, id, left, top, width, height, conf, class; commas or spaces between.

    `frames` is the sequence's length, beyond which no box may lie. A file without a line is a sequence without tracks.
    """
    rows, lines = _parse(Path(path), _NEEDED[ground_truth])
    _check(Path(path), rows, lines, frames)
    label = rows[:, 7] if rows.shape[1] > 7 else np.ones(len(rows))
    frame, id, label = (column.astype(np.int64) for column in (rows[:, 0], rows[:, 1], label))
    return TrackTable.from_columns(frame, id, rows[:, 2:6], rows[:, 6], label)


def sequence_length(path: str | Path) -> int:
    """Return seqLength of a seqinfo.ini."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(Path(path).read_text(encoding="utf-8-sig", errors="replace"))
        text = parser["Sequence"]["seqLength"]
    except (configparser.Error, KeyError) as error:
        raise ValueError(
            f"{path}: expected a section [Sequence] with seqLength, got none; is it a seqinfo.ini?"
        ) from error
    if not text.strip().isdecimal() or int(text) < 1:
        raise ValueError(f"{path}: expected seqLength to be a whole number from 1, got {text!r}")
    return int(text)


def _parse(path: Path, needed: tuple[str, ...]) -> tuple[np.ndarray, list[int]]:
    """Return the numbers [N, columns] and the line that each row stands on."""
    numbers, lines = array("d"), []
    delimiter, columns = None, 0  # white space until a line says otherwise
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for line, text in enumerate(map(str.strip, file), 1):
            if not text:
                continue
            if not lines:
                delimiter = next((mark for mark in ",;" if mark in text), None)
            fields = text.removesuffix(delimiter or " ").split(delimiter)
            if len(fields) != columns and (lines or len(fields) < len(needed)):
                as_before = f"{columns} columns as on line {lines[0]}" if lines else ""
                expected = as_before or f"at least {len(needed)} columns ({', '.join(needed)})"
                raise ValueError(f"{path}, line {line}: expected {expected}, got {len(fields)}")
            try:
                numbers.extend(map(float, fields))
            except ValueError:
                raise ValueError(f"{path}, line {line}: {_number_message(fields)}") from None
            lines.append(line)
            columns = len(fields)
    return np.array(numbers).reshape(len(lines), columns or len(needed)), lines


def _number_message(fields: list[str]) -> str:
    for column, field in enumerate(fields, 1):
        try:
            float(field)
        except ValueError:
            name = f" ({_COLUMNS[column - 1]})" if column <= len(_COLUMNS) else ""
            return f"expected a number in column {column}{name}, got {field.strip()[:40]!r}"
    raise AssertionError("every field is a number")


def _check(path: Path, rows: np.ndarray, lines: list[int], frames: int | None) -> None:
    """Refuse the first row that cannot be meant, with its line."""
    frame, id = rows[:, 0], rows[:, 1]

    def refuse(bad: np.ndarray, message: Callable[[int], str]) -> None:
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(f"{path}, line {lines[row]}: {message(row)}")

    for column, name in zip(rows.T, _COLUMNS, strict=False):
        refuse(~np.isfinite(column), lambda row, c=column, n=name: f"{n}: expected a finite number, got {c[row]}")
    refuse((frame < 1) | _fractional(frame), lambda row: f"frame: expected a whole number from 1, got {frame[row]:g}")
    if frames is not None:
        refuse(frame > frames, lambda row: f"frame: expected at most seqLength {frames}, got {frame[row]:g}")
    refuse(_fractional(id), lambda row: f"id: expected a whole number, got {id[row]:g}")
    refuse(id < 0, lambda row: f"id: expected an identity from 0, got {id[row]:g}; are these detections, not tracks?")
    if twice := repeated(frame, id):
        first, second = twice
        of = f"id {id[second]:g} a second time in frame {frame[second]:g}"
        raise ValueError(
            f"{path}, line {lines[second]}: expected each id once a frame, got {of}, first on line {lines[first]}"
        )


def _fractional(column: np.ndarray) -> np.ndarray:
    """Say where a number is not whole, or too large to tell."""
    return (column % 1 != 0) | (np.abs(column) > 2**53)
