"""The picture of a run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from svm_ext.bench import cases, plot, rows
from svm_ext.bench.measure import Plan

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def measured() -> list[rows.Row]:
    """All ops at two lengths of memory, the longer first."""
    plan = Plan(seconds=0.001, least=1, most=1)
    entries = cases.entries(units=[2], frames=[4, 2], boxes=[20, 10])
    return [rows.run_entry(entry, plan) for entry in entries]


def test_series_are_what_differs_in_frames_only(measured):
    found = plot.series(measured)
    assert list(found) == [
        ("memory_append", "fp32", "2 units merge"),
        ("memory_append", "fp32", "2 units fifo"),
        ("memory_attend", "fp32", "2 units"),
        ("stream_step", "fp32", "2 units"),
        ("clip_attend", "fp32", "2 units"),
        ("nms", "fp32", ""),
    ]
    assert [[row.series[3] for row in group] for group in found.values()] == [[2, 4]] * 5 + [[10, 20]]


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_both_formats(measured, tmp_path: Path, suffix, start):
    path = tmp_path / f"found{suffix}"
    plot.draw(measured, "a machine", path)
    assert path.read_bytes().startswith(start)


def test_the_picture_names_ours_and_the_baselines(measured, tmp_path: Path):
    path = tmp_path / "found.svg"
    with pytest.MonkeyPatch.context() as patch:
        import matplotlib

        patch.setitem(matplotlib.rcParams, "svg.fonttype", "none")  # letters, not their outlines
        plot.draw(measured, "a machine; svm-ext bench", path)
    text = path.read_text()
    words = (
        "svm_ext memory_attend",
        "sdpa",
        "eager",
        "copy",
        "append+attend",
        "frames in memory",
        "boxes",
        "a machine;",
    )
    for word in (*words, "share of the multiply-add peak"):
        assert word in text


def test_one_row_is_enough(measured, tmp_path: Path):
    path = tmp_path / "one.png"
    plot.draw([row for row in measured if row.op == "nms"][:1], "a machine", path)
    assert path.stat().st_size > 0


def test_nothing_measured_nothing_drawn(tmp_path: Path):
    with pytest.raises(ValueError, match="--plot: nothing was measured"):
        plot.draw([], "a machine", tmp_path / "none.png")


@pytest.mark.parametrize("name", ["found.jpeg", "found", "found.pdf"])
def test_other_formats_are_refused_before_the_work(name):
    with pytest.raises(ValueError, match=r"--plot: expected a file name with \.png or \.svg, got"):
        plot.require(Path(name))


def test_without_matplotlib_one_line_says_what_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"^--plot: needs matplotlib, found none; type: pip install matplotlib$"):
        plot.require(Path("found.png"))
