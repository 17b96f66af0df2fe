"""`svm-ext convert`: says what was written, what was kept and what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import video_folders as folders
from svm_ext.cli import main


def test_mot17(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders.sequence(tmp_path / "in" / "train" / "a", rows=["1,1,2,3,9,9,1,1,1"])
    source, output = str(tmp_path / "in"), str(tmp_path / "out")
    assert main.main(["convert", "mot17", "--input", source, "--output", output, "--split-train"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == [f"wrote {output}/{name}_cocoformat.json" for name in ("train", "half-train", "half-val")]


def test_crowdhuman(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders.save(tmp_path / "in" / "val" / "Images" / "x.jpg", folders.picture(1))
    entry = {"ID": "x", "gtboxes": [{"fbox": [1, 2, 3, 4], "vbox": [1, 2, 3, 4]}]}
    (tmp_path / "in" / "annotation_val.odgt").write_text(json.dumps(entry))
    arguments = ["convert", "crowdhuman", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    for words in ("wrote", "kept"):
        assert main.main(arguments) == 0
        assert capsys.readouterr().out.startswith(f"{words} {tmp_path}/out/crowdhuman_val.json")
    assert main.main([*arguments, "--overwrite"]) == 0
    assert capsys.readouterr().out.startswith("wrote")


def test_motsynth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    image = {"id": 1, "frame_n": 1, "height": 90, "width": 160}
    (tmp_path / "in" / "000.json").write_text(json.dumps({"images": [image], "annotations": []}))
    arguments = ["convert", "motsynth", "--annotations", str(tmp_path / "in"), "--output", str(tmp_path / "all.json")]
    for words in ("wrote", "kept"):
        assert main.main([*arguments, "--jobs", "1"]) == 0
        assert capsys.readouterr().out.startswith(words)


def test_motsynth_frames(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "000.mp4").write_text("no video")
    arguments = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--jobs", "1"]
    assert main.main(["convert", "motsynth-frames", *arguments]) == 1
    first, problem = capsys.readouterr().out.splitlines()
    assert first.startswith("1 videos, 0 pictures in ")
    assert problem.startswith("000: ")


def test_what_is_wrong_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["convert", "mot17", "--input", str(tmp_path / "none"), "--output", str(tmp_path)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("svm-ext convert: input: expected a folder that exists")
    with pytest.raises(SystemExit) as stop:
        main.main(["convert", "mot18"])
    assert stop.value.code == 2
    assert "motsynth-frames" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["mot17", "crowdhuman", "motsynth", "motsynth-frames"])
def test_every_data_set_has_help(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main.main(["convert", what, "--help"])
    assert stop.value.code == 0
    assert "--output" in capsys.readouterr().out
