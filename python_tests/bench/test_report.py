"""What people read and what the JSON holds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from svm_ext.bench import report
from svm_ext.bench.overhead import Overhead
from svm_ext.bench.rows import Baseline, Failure, Row
from svm_ext.bench.targets import Target

MACHINE = {
    "device": "A CPU",
    "threads": 2,
    "isa": "avx512_bf16",
    "load": 0.1,
    "svm_ext": "0.1.0",
    "torch": "2.13.0",
    "commit": "0123456789abcdef+",
    "date": "2026-01-02T03:04:05+00:00",
    "command": "svm-ext bench",
}
BANDWIDTH = {"copy_gb_s": 50.0, "read_gb_s": 40.04}
ROW = Row(
    op="memory_attend",
    dtype="fp32",
    sizes={"units": 336, "frames": 32},
    bytes=1_000_000,
    flops=2_000_000,
    ms=61.23,
    best_ms=60.0,
    rounds=9,
    gb_s=17.64,
    copy_share=0.412,
    gflop_s=246.6,
    peak_kind="fma",
    peak_gflop_s=450.0,
    peak_share=0.548,
    error=1e-6,
    extra_bytes=17_000_000,
    baselines={
        "sdpa": Baseline(165.0, 160.0, 9, 2.695, 2.67, 20_000_000),
        "copy": Baseline(25.0, 24.0, 9, 0.41, 0.4, None),
    },
    left_out={"eager": "needs 9.0 GB, 3.0 GB are free"},
)
TARGET = Target("attend over sdpa", "fp32", "336 units 32 frames", ">=", 2.5, "x", 2.695)


def results() -> report.Results:
    found = report.Results(MACHINE, BANDWIDTH)
    for item in (ROW, Failure("nms 300 boxes", "nms: 1 away", True), Overhead("nms_mask", 2.5, 4.5), TARGET):
        found.add(item)
    return found


def test_a_line_of_the_table():
    line = report.line(ROW)
    assert line.split()[:7] == ["memory_attend", "fp32", "336", "units", "32", "frames", "61.2"]
    for part in ("17.6", "41 %", "247", "55 %", "17", "2.69 x sdpa", "no eager: needs 9.0 GB, 3.0 GB are free"):
        assert part in line
    assert "x copy" not in line


def test_lines_stand_under_their_columns():
    head, line = report.columns(), report.line(ROW)
    for name, value in (("ms", "61.2"), ("GB/s", "17.6"), ("of copy", "41 %"), ("of peak", "55 %"), ("extra MB", "17")):
        end = head.index(f" {name}") + 1 + len(name)
        assert line[:end].endswith(value), name


def test_what_was_not_measured_is_told_as_such():
    bare = replace(ROW, gflop_s=None, peak_share=None, copy_share=None, extra_bytes=None, baselines={}, left_out={})
    assert report.line(bare).split()[-4:] == ["--"] * 4


@pytest.mark.parametrize(
    ("value", "text"), [(None, "--"), (0.012345, "0.0123"), (1.5, "1.5"), (99.9, "99.9"), (1234.5, "1234")]
)
def test_numbers_have_three_digits(value, text):
    assert report.number(value) == text


def test_the_header_says_what_it_was_measured_on():
    text = "\n".join(report.header(MACHINE, BANDWIDTH))
    for part in ("A CPU", "2 threads", "avx512_bf16", "commit 0123456789+", "2.13.0", "copies 50.0 GB/s", "reads 40.0"):
        assert part in text
    assert "commit" not in "\n".join(report.header(MACHINE | {"commit": None}, BANDWIDTH))


def test_failures_say_which_and_why():
    wrong, absent = Failure("a", "is wrong", True), Failure("b", "no kernel", False)
    assert report.failure_lines([wrong, absent]) == ["WRONG: a: is wrong", "left out: b: no kernel"]


def test_the_legend_explains_every_column_that_needs_it():
    for name, _, _ in report._COLUMNS:
        assert name in ("op", "type", "size", "GFLOP/s") or f"\n{name} " in f"\n{report.LEGEND}"


@pytest.mark.parametrize(
    ("comparison", "measured", "verdict"),
    [(">=", 2.5, "ok"), (">=", 2.4, "below"), ("<=", 2.5, "ok"), ("<=", 2.6, "above"), (">=", None, "below")],
)
def test_a_goal_is_met_or_not(comparison, measured, verdict):
    target = replace(TARGET, comparison=comparison, measured=measured)
    line = report.target_line(target)
    assert line.split()[-1] == verdict
    assert target.met == (verdict == "ok")
    assert ("not measured" in line) == (measured is None)


def test_a_goal_names_its_note():
    assert report.target_line(replace(TARGET, note="2 of 60 ms")).endswith("ok     2 of 60 ms")


def test_overheads_are_a_table():
    head, first, second = report.overhead_lines([Overhead("nms_mask", 2.5, 4.5), Overhead("backward", 5.0, None)])
    assert head.split()[-2:] == ["op", "public"]
    assert first.split() == ["nms_mask", "2.50", "us", "4.50", "us"]
    assert second.split() == ["backward", "5.00", "us", "--"]


def test_json_schema(tmp_path: Path):
    results().write(tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["schema"] == 1
    assert found["complete"] is False
    assert found["machine"] == MACHINE
    assert found["bandwidth"] == BANDWIDTH
    [row] = found["rows"]
    assert set(row) == set(Row.__dataclass_fields__)
    assert row["sizes"] == {"units": 336, "frames": 32}
    assert row["baselines"]["sdpa"]["ratio"] == 2.695
    assert found["failures"] == [{"name": "nms 300 boxes", "reason": "nms: 1 away", "wrong": True}]
    assert found["overheads"] == [{"op": "nms_mask", "op_us": 2.5, "public_us": 4.5}]
    [target] = found["targets"]
    assert target["met"] is True
    assert target["limit"] == 2.5


def test_json_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "found.json"
    path.write_text("of yesterday")
    found = results()
    monkeypatch.setitem(found.machine, "load", object())  # nothing that JSON knows
    with pytest.raises(TypeError):
        found.write(path)
    assert path.read_text() == "of yesterday"


def test_wrong_is_wrong_and_absent_is_not():
    found = report.Results(MACHINE, BANDWIDTH)
    found.add(Failure("b", "no kernel", False))
    assert not found.wrong
    found.add(Failure("a", "is wrong", True))
    assert found.wrong
