"""The log can be read by people and programs, survives a kill, and is drawn."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from svm_ext.train import log


def test_one_line_for_people_and_one_for_programs(tmp_path: Path) -> None:
    told = io.StringIO()
    book = log.Log(tmp_path, total=200, stream=told)
    book.report(49, {"loss": 1.23456789, "lr": 1e-4})
    assert log.read(tmp_path / "metrics.jsonl") == [{"iteration": 49, "loss": 1.234568, "lr": 1e-4}]
    line = told.getvalue()
    assert line.startswith("    50/200   25%  loss 1.23  lr 0.0001")
    assert line.endswith(" left\n")


def test_a_resumed_training_tells_nothing_twice(tmp_path: Path) -> None:
    book = log.Log(tmp_path, total=100, stream=io.StringIO())
    for iteration in range(10):
        book.report(iteration, {"loss": 1.0})
    again = log.Log(tmp_path, total=100, done=6, stream=io.StringIO())
    again.report(6, {"loss": 2.0})
    assert [line["iteration"] for line in log.read(tmp_path / "metrics.jsonl")] == [0, 1, 2, 3, 4, 5, 6]


def test_a_line_cut_by_a_kill_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"iteration": 0, "loss": 1.0}\n{"iteration": 1, "lo')
    assert [line["iteration"] for line in log.read(path)] == [0]
    assert log.read(tmp_path / "none.jsonl") == []


def test_other_ranks_keep_silent() -> None:
    told = io.StringIO()
    book = log.Log(None, total=10, stream=told)
    book.report(0, {"loss": 1.0})
    book.close()
    assert told.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3600, "1:00:00"), (86399, "23:59:59")]
)
def test_clock(seconds: float, text: str) -> None:
    assert log.clock(seconds) == text


def test_the_curves_are_drawn(tmp_path: Path) -> None:
    book = log.Log(tmp_path, total=10, stream=io.StringIO())
    for iteration in range(10):
        book.report(iteration, {"loss": 2.0 / (iteration + 1), "loss_cls": 1.0 / (iteration + 1), "lr": 1e-3})
    log.draw(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
