"""gpu_check.py as far as it goes without a GPU: its words, its limits, and its rows at a small scale on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import benchmark_scripts
from house import ROOT
from svm_ext.bench.measure import Plan
from svm_ext.bench.rows import Failure, Row
from svm_ext.bench.targets import Target

gpu_check = benchmark_scripts.load("gpu_check")
gpu_rows = benchmark_scripts.load("gpu_rows")
SMALL = gpu_rows.Scale(
    device="cpu", units=(2, 4), frames=3, few_units=2, few_frames=2, clip_units=2, clip_frames=2,
    model="svit_tiny_mot", picture=(128, 160), plan=Plan(seconds=0.01, least=1, most=2),
)  # fmt: skip


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/gpu_check.py")], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    [line] = done.stdout.splitlines()
    assert line.startswith("NO GPU: torch")
    assert list(tmp_path.iterdir()) == []


def test_rows_are_measured_and_told(tmp_path: Path) -> None:
    """The whole of it, small: every part gives its goals, the JSON comes back as it was written."""
    results = gpu_rows.results(SMALL, "it")
    for found in gpu_rows.measure(SMALL):
        results.add(found)
    assert [failure for failure in results.failures if failure.wrong] == []
    assert {row.op for row in results.rows} == {"memory_attend", "clip_attend"}
    assert results.failures == []
    found = {target.what for target in results.targets}
    assert found == {*gpu_rows.GOALS, "step in a graph"}
    missing = {target.what for target in results.targets if target.measured is None}
    assert missing == {"attend over flex"}  # which is for GPUs
    results.write(tmp_path / "rows.json")
    *lines, last = gpu_check.summary(json.loads((tmp_path / "rows.json").read_text()))
    assert len(lines) == len(results.targets) + len(results.rows)
    assert last.endswith(f"of {len(results.targets)} goals reached")


def test_a_part_that_fails_leaves_the_rest_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(scale: object) -> object:
        raise gpu_rows.refcheck.WrongResultError("it is off")
        yield

    def dead(scale: object) -> object:
        raise RuntimeError("CUDA error: it broke\nsecond line")
        yield

    for name, part in (("_attend", broken), ("_step", dead), ("_few", dead), ("_fp8", dead), ("_model", dead)):
        monkeypatch.setattr(gpu_rows, name, part)
    found = list(gpu_rows.measure(SMALL))
    assert [(one.reason, one.wrong) for one in found if isinstance(one, Failure)] == [
        ("it is off", True), *[("CUDA error: it broke", False)] * 4,
    ]  # fmt: skip
    assert [one.what for one in found if isinstance(one, Target)] == ["clip both ways over eager"]
    assert any(isinstance(one, Row) for one in found)


def test_a_wrong_model_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_rows, "_PRECISION", -1.0)
    with pytest.raises(gpu_rows.refcheck.WrongResultError, match=r"model: .* off, allowed"):
        list(gpu_rows._model(SMALL))


@pytest.mark.parametrize(
    ("code", "output", "right", "told"),
    [
        (0, "12 passed, 3 skipped in 4s", True, "12 passed, 3 skipped"),
        (1, "2 failed, 12 passed in 4s", False, "2 failed, 12 passed"),
        (0, "3 skipped in 4s", False, "3 skipped"),
        (None, "....", False, "out of time; no test ran"),
        (5, "no tests ran", False, "no test ran"),
    ],
)
def test_what_pytest_says_is_judged(code: int | None, output: str, right: bool, told: str) -> None:
    assert gpu_check.judged(code, output) == (right, told)


def test_children_run_away_from_the_sources_and_end_in_time(tmp_path: Path) -> None:
    machine = gpu_check.Machine(python_path=str(tmp_path))
    code, output = machine.run([sys.executable, "-c", "import os, sys; print(os.getcwd(), sys.path); sys.exit(3)"], 60)
    assert code == 3
    assert str(tmp_path) in output
    assert not output.startswith(str(ROOT))
    code, output = machine.run([sys.executable, "-uc", "import time; print('begun'); time.sleep(60)"], 6)
    assert (code, output) == (None, "begun\n")
    machine.started = time.monotonic() - gpu_check.SECONDS
    assert machine.run([sys.executable, "-c", ""], 60) == (None, "no time is left for it")


def test_a_step_that_fails_tells_its_last_words(capsys: pytest.CaptureFixture[str]) -> None:
    output = "\n".join(f"line {i}" for i in range(100))
    step = gpu_check.timed("tests", lambda: (False, "1 failed", output))
    assert (step.right, step.told) == (False, "1 failed")
    assert step.last_words.splitlines() == [f"line {i}" for i in range(60, 100)]
    assert "WRONG" in capsys.readouterr().out


@pytest.mark.parametrize(("code", "right", "told"), [("0", True, "clean"), ("9", False, "NOT CLEAN")])
def test_the_sanitizer_is_told_our_kernels(tmp_path: Path, monkeypatch, code: str, right: bool, told: str) -> None:
    """A program of that name stands in for it, and tells what it was given."""
    tool = tmp_path / "compute-sanitizer"
    tool.write_text(f'#!/bin/sh\necho "$@"\nexit {code}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found, line, output = gpu_check.sanitizer(gpu_check.Machine())
    assert (found, line) == (right, f"memcheck {told}, synccheck {told}, racecheck {told}")
    assert right or "--kernel-name kns=3svm4cuda" in output


def test_the_limits_fit_into_eight_minutes() -> None:
    assert gpu_check.SECONDS < 8 * 60


def test_graphs_are_loops_without_a_gpu() -> None:
    calls = []
    run = gpu_rows.captured(lambda: calls.append(0) or len(calls), "cpu", 3)
    assert run() == 3
