"""Scores as a table and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from svm_ext.evaluate import report

ROWS = {"a": {"HOTA": 0.5, "FP": 12345}, "a long name": {"HOTA": 1 / 3, "FP": 0}}


def test_columns_line_up() -> None:
    assert report.table(ROWS, ["FP", "HOTA"]).splitlines() == [
        "sequence        FP    HOTA",
        "a            12345  0.5000",
        "a long name      0  0.3333",
    ]


def test_the_first_column_has_a_name_of_choice_and_values_may_be_negative() -> None:
    assert report.table({"8": {"MOTA": -12.5}}, ["MOTA"], "frames").splitlines() == [
        "frames      MOTA",
        "8       -12.5000",
    ]


def test_json_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    report.write_json(ROWS, path)
    assert json.loads(path.read_text()) == ROWS
    with pytest.raises(TypeError):
        report.write_json({"a": {"HOTA": {1, 2}}}, path)  # type: ignore[dict-item]
    assert json.loads(path.read_text()) == ROWS
    assert [it.name for it in tmp_path.iterdir()] == ["scores.json"]
