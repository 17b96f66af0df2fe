"""The suites in benchmarks/: run when asked for, never by the way, and never with a wrong kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import svm_ext
from house import ROOT

pytest.importorskip("pytest_benchmark")
TINY = ["--quick", "--units", "2", "--frames", "2", "--dtype", "fp32"]


def run_pytest(*arguments: str | Path, cwd: Path, plugin: str = "") -> subprocess.CompletedProcess[str]:
    """Run pytest in a process of its own, with the package that is tested here."""
    if plugin:
        (cwd / "spoiler.py").write_text(plugin)
    paths = [str(Path(svm_ext.__file__).parents[1]), str(cwd)]
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    command += ["-p", "no:cacheprovider", *(["-p", "spoiler"] if plugin else []), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_every_suite_times_ours_and_the_baselines(tmp_path: Path):
    path = tmp_path / "found.json"
    done = run_pytest(ROOT / "benchmarks", "--benchmark-only", f"--benchmark-json={path}", *TINY, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    groups: dict[str, list[dict]] = {}
    for found in json.loads(path.read_text())["benchmarks"]:
        groups.setdefault(found["group"], []).append(found["extra_info"])
    contenders = {name: [found["contender"] for found in group] for name, group in groups.items()}
    assert contenders == {
        "memory_append fp32 2 units 2 frames merge": ["memory_append_", "index", "index_rows", "copy"],
        "memory_append fp32 2 units 2 frames fifo": ["memory_append_", "index", "index_rows", "copy"],
        "memory_attend fp32 2 units 2 frames": ["memory_attend", "sdpa", "eager", "copy"],
        "stream_step fp32 2 units 2 frames": ["stream_step_", "append+attend", "sdpa", "eager", "copy"],
        "clip_attend fp32 2 units 2 frames": ["clip_attend", "sdpa", "eager", "copy"],
        "nms 300 boxes": ["nms", "loop"],
        "svit_tiny frame": ["ours", "ours, 1 frame", "eager, 1 frame", "eager"],
        "svit_tiny 4 streams": ["one call", "a call a stream"],
        "svit_tiny clip step": ["ours", "frame by frame", "eager"],
    }
    attend = groups["memory_attend fp32 2 units 2 frames"][0]
    assert attend["flops"] == 2 * 2 * 1_404_928
    assert attend["gflop_s"] > 0
    assert attend["gb_s"] > 0


def test_a_suite_by_its_name_runs_once(tmp_path: Path):
    done = run_pytest(ROOT / "benchmarks/bench_nms.py", "--benchmark-only", "--quick", "-q", cwd=tmp_path)
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_a_wrong_kernel_fails_its_suite(tmp_path: Path):
    spoil = (
        "from svm_ext import ops\nright = ops.memory_attend\nops.memory_attend = lambda *given: right(*given) * 1.01\n"
    )
    suite = ROOT / "benchmarks/bench_memory_attend.py"
    done = run_pytest(suite, "--benchmark-only", *TINY, cwd=tmp_path, plugin=spoil)
    assert done.returncode == 1
    assert "4 failed" in done.stdout
    assert "away from the reference" in done.stdout


def test_an_ordinary_run_collects_no_benchmark(tmp_path: Path):
    """Nor does one that is told to look everywhere."""
    for folder in (ROOT / "python_tests/bench", ROOT):
        done = run_pytest("--collect-only", "-q", folder, cwd=tmp_path)
        assert "test_suites.py" in done.stdout
        assert "benchmarks/bench_memory_attend.py::" not in done.stdout
