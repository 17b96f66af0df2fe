"""What a figure was measured on."""

from __future__ import annotations

import datetime
import subprocess
from pathlib import Path

import pytest
import torch

import svm_ext
from svm_ext.bench import machine
from svm_ext.bench.measure import cpu_clock


def test_the_description_names_everything_that_matters():
    found = machine.describe("cpu", "svm-ext bench")
    assert found["svm_ext"] == svm_ext.__version__
    assert found["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["isa"] == torch.ops.svm_ext.cpu_isa(None)
    assert found["command"] == "svm-ext bench"
    assert found["backend"] == "cpu"
    assert datetime.datetime.fromisoformat(found["date"]).tzinfo is not None
    assert all(found[name] for name in ("device", "cpu", "cores", "system", "python", "compiler"))


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with the module in it; the real one may be anywhere, or nowhere."""
    file = tmp_path / "machine.py"
    file.write_text("first")
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "machine.py"], [*author, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(machine, "__file__", str(file))
    return file


def test_the_commit_of_the_sources(repository):
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository.parent, capture_output=True, text=True)
    assert machine.commit() == head.stdout.strip()


def test_a_changed_tree_is_no_commit(repository):
    repository.write_text("second")
    assert machine.commit().endswith("+")


def test_a_package_that_only_lies_in_a_repository_has_no_commit(repository, monkeypatch):
    other = repository.with_name("other.py")
    other.write_text("installed here")
    monkeypatch.setattr(machine, "__file__", str(other))
    assert machine.commit() is None


def test_no_repository_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "machine.py"))
    assert machine.commit() is None


def test_no_git_no_commit(repository, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert machine.commit() is None


def test_peaks():
    assert machine.peak_kind(torch.float32, "cpu") == "fma"
    has_dot = torch.ops.svm_ext.cpu_peak(True, 10) > 0
    assert machine.peak_kind(torch.bfloat16, "cpu") == ("dot" if has_dot else "fma")
    assert machine.peak_probe("fma")() > 0


def test_a_gpu_has_no_peak_that_we_could_measure():
    assert machine.peak_kind(torch.float32, "cuda") == ""
    assert machine.peak_probe("") is None


@pytest.mark.parametrize("count", [0, 8, 4096])
def test_a_copy_moves_the_bytes_that_it_is_told(count):
    target = machine.copier(count, "cpu")()
    assert target.nbytes == max(4, count // 2)
    assert torch.equal(target, torch.arange(max(1, count // 8), dtype=torch.float32))


def test_bandwidth(monkeypatch):
    monkeypatch.setattr(machine, "_BANDWIDTH_BYTES", 1 << 16)
    found = machine.bandwidth("cpu", cpu_clock)
    assert set(found) == {"copy_gb_s", "read_gb_s"}
    assert all(value > 0 for value in found.values())


def test_some_memory_is_free():
    assert 1 << 20 < machine.available_bytes("cpu") < 1 << 62


def test_peak_memory_sees_what_comes_and_goes():
    def run() -> int:
        torch.ones(8 << 20)  # 32 MB, gone at once
        return 7

    found, extra = machine.peak_memory(run, "cpu")
    assert found == 7
    if extra is not None:
        assert 30e6 < extra < 100e6


def test_a_system_that_does_not_tell_is_not_guessed_at(monkeypatch):
    monkeypatch.setattr(machine, "_forget_peak", lambda: False)
    assert machine.peak_memory(lambda: 7, "cpu") == (7, None)
