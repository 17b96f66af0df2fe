"""The benchmark of the data measures every way in which pictures come, and writes what it found."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

import benchmark_scripts


@pytest.fixture
def bench():
    return benchmark_scripts.load("bench_data")


def test_a_rate_counts_the_second_half(bench, monkeypatch: pytest.MonkeyPatch):
    seen, clock = [], iter([10.0, 12.0])
    monkeypatch.setattr(time, "process_time", lambda: next(clock))
    assert bench.rate(seen.append, 4, 5) == 4 * 5 / 2.0
    assert seen == list(range(10))


def test_figures_are_printed_and_written(
    bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(bench, "rate", lambda step, pictures, rounds: float(bool(step(0) or True)) * pictures)
    bench.main(["--quick", "--json", str(tmp_path / "data.json")])
    told = json.loads((tmp_path / "data.json").read_text())
    names = list(told["pictures_per_second"])
    assert len(names) == 8
    assert told["machine"]["command"].startswith("python benchmarks/bench_data.py --quick")
    printed = capsys.readouterr().out.splitlines()
    assert [line.startswith(name) for line, name in zip(printed, names, strict=True)] == [True] * 8
