"""`svm-ext data`: a look at a data set, and generated ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import video_folders as folders
from svm_ext.cli import main
from svm_ext.cli._told import Told


def test_a_good_data_set_is_told_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folders.sequence(tmp_path / "mine" / "s", rows=["1,1,2,3,9,9,1,1,1"])
    monkeypatch.chdir(tmp_path)
    assert main.main(["data", "check", "mine"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("mine: 1 videos, 4 frames, 1 boxes")
    assert lines[-2:] == ["mine can be trained with", "wrote mine_sheet.jpg"]
    assert Image.open("mine_sheet.jpg").size[0] > 400


def test_a_bad_data_set_ends_with_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders.sequence(tmp_path / "mine" / "s", rows=["1,1,2,3,0,9,1,1,1"])
    sheet = tmp_path / "sheet.png"
    assert main.main(["data", "check", str(tmp_path / "mine"), "--sheet", str(sheet)]) == 1
    printed = capsys.readouterr().out
    assert "error  box without an area" in printed
    assert sheet.is_file()


def test_a_data_set_that_cannot_be_read_has_no_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "sheet.png"
    assert main.main(["data", "check", str(tmp_path), "--sheet", str(sheet)]) == 1
    assert "cannot be read" in capsys.readouterr().out
    assert not sheet.exists()


@pytest.mark.parametrize("sheet", ["sheet.txt", "none/sheet.jpg"])
def test_where_the_sheet_goes_is_checked_first(sheet: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["data", "check", str(tmp_path), "--sheet", str(tmp_path / sheet)]) == 2
    assert "--sheet: expected" in capsys.readouterr().err


def test_a_json_file_is_read_with_its_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folders.coco(tmp_path)
    moved = path.rename(tmp_path / "set.json")
    sheet = str(tmp_path / "sheet.jpg")
    assert main.main(["data", "check", str(moved), "--images", str(tmp_path), "--sheet", sheet]) == 0
    assert "2 videos, 6 frames, 6 boxes" in capsys.readouterr().out


def test_scenes_are_generated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "data",
        "generate",
        str(tmp_path),
        "--scenes",
        "2",
        "--frames",
        "3",
        "--size",
        "64",
        "96",
        "--seed",
        "4",
    ]
    assert main.main(arguments) == 0
    assert capsys.readouterr().out == f"2 scenes in {tmp_path}, 3 frames each\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scene-00004", "scene-00005"]
    assert main.main([*arguments[:3], "--size", "5", "96"]) == 2
    assert "size: expected" in capsys.readouterr().err


def test_progress_counts_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, object]] = []

    class Line:
        def __init__(self, total: int) -> None:
            calls.append(("total", total))

        def begin(self, name: str) -> None:
            calls.append(("begin", name))

        def end(self, weight: int) -> None:
            calls.append(("end", weight))

        def clear(self) -> None:
            calls.append(("clear", None))

    monkeypatch.setattr("svm_ext.cli._told.Progress", Line)
    with Told() as told:
        told.begin("a", 0, 3)
        told.begin("c", 2, 3)
    assert calls == [("total", 3), ("end", 0), ("begin", "a"), ("end", 2), ("begin", "c"), ("clear", None)]
    with Told():
        pass
