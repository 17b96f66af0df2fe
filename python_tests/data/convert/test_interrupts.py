"""Whatever ends a conversion, nothing is there in half, and the next one goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import video_folders as folders
from spread_work import die, double, fail
from svm_ext.data.convert import _files
from svm_ext.data.convert.crowdhuman import convert_crowdhuman
from svm_ext.data.convert.mot17 import convert_mot17
from svm_ext.data.convert.motsynth import convert_motsynth


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_order(jobs: int) -> None:
    assert list(_files.spread(jobs, double, range(6))) == [0, 2, 4, 6, 8, 10]
    with pytest.raises(ValueError, match="number: expected another, got 3"):
        list(_files.spread(jobs, fail, [3, 4]))


def test_a_process_that_is_killed_is_told() -> None:
    with pytest.raises(OSError, match="jobs: expected processes to live"):
        list(_files.spread(2, die, [1, 2]))


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupted_motsynth_leaves_parts_and_no_result(jobs: int, tmp_path: Path) -> None:
    for name in ("000", "001", "002"):
        folders.motsynth(tmp_path / "in", name)
    with pytest.raises(KeyboardInterrupt):
        convert_motsynth(tmp_path / "in", tmp_path / "all.json", jobs=jobs, on_video=interrupted)
    assert not (tmp_path / "all.json").exists()
    convert_motsynth(tmp_path / "in", tmp_path / "all.json", jobs=jobs)
    assert len(json.loads((tmp_path / "all.json").read_text())["videos"]) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.json", "in"]


def test_other_interrupted_conversions_leave_nothing(tmp_path: Path) -> None:
    folders.sequence(tmp_path / "mot" / "train" / "a", rows=["1,1,2,3,9,9,1,1,1"])
    folders.save(tmp_path / "crowd" / "val" / "Images" / "x.jpg", folders.picture(1))
    entry = {"ID": "x", "gtboxes": []}
    (tmp_path / "crowd" / "annotation_val.odgt").write_text(json.dumps(entry))
    conversions: list[Callable[[], object]] = [
        lambda: convert_mot17(tmp_path / "mot", tmp_path / "out", on_sequence=interrupted),
        lambda: convert_crowdhuman(tmp_path / "crowd", tmp_path / "out", on_picture=interrupted),
    ]
    for convert in conversions:
        with pytest.raises(KeyboardInterrupt):
            convert()
        assert not list(tmp_path.glob("out/*"))


def test_a_full_disk_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    _files.write_json(path, {"old": 1})

    def full(self: Path, text: str) -> None:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        _files.write_json(path, {"new": 2})
    assert json.loads(path.read_bytes()) == {"old": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.slow
def test_ctrl_c_ends_all_processes_in_silence(tmp_path: Path) -> None:
    for number in range(40):
        folders.motsynth(tmp_path / "in", f"{number:03}", frames=400, people=60)
    command = [sys.executable, "-m", "svm_ext.cli.main", "convert", "motsynth", "--jobs", "2"]
    command += ["--annotations", str(tmp_path / "in"), "--output", str(tmp_path / "all.json")]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    parts = tmp_path / ".all.json.parts"
    deadline = time.monotonic() + 30
    while not list(parts.glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    _, errors = running.communicate(timeout=20)
    assert running.returncode == 130
    assert errors.splitlines()[-1] == "svm-ext: interrupted"
    assert "Traceback" not in errors
    assert not (tmp_path / "all.json").exists()
    assert 0 < len(list(parts.glob("[0-9]*.json"))) < 40
