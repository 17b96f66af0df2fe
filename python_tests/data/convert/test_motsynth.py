"""MOTSynth is large: a conversion that was stopped goes on, and nothing is there in half."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import video_folders as folders
from svm_ext.data.convert import motsynth
from svm_ext.data.convert.motsynth import convert_motsynth, read_video


def test_frames_and_people_are_counted_over_all_videos(tmp_path: Path) -> None:
    folders.motsynth(tmp_path / "in", "010")
    folders.motsynth(tmp_path / "in", "002", frames=3, people=1)
    convert_motsynth(tmp_path / "in", tmp_path / "all.json")
    told = json.loads((tmp_path / "all.json").read_text())
    assert [(entry["id"], entry["name"]) for entry in told["videos"]] == [(1, "002"), (2, "010")]
    assert [(image["id"], image["frame_id"]) for image in told["images"]] == [(1, 0), (2, 1), (3, 2), (4, 0), (5, 1)]
    assert told["images"][3]["file_name"] == "010/img1/000001.jpg"
    assert [box["id"] for box in told["annotations"]] == list(range(1, 8))
    assert [box["image_id"] for box in told["annotations"]] == [1, 2, 3, 4, 4, 5, 5]
    assert told["annotations"][0] | {"area": 32.0, "iscrowd": False} == told["annotations"][0]
    assert told["num_instances"] == 3


def test_a_stopped_conversion_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("000", "001", "002"):
        folders.motsynth(tmp_path / "in", name)
    bad = tmp_path / "in" / "001.json"
    good = bad.read_text()
    bad.write_text(good[:-5])
    with pytest.raises(ValueError, match=r"001\.json: expected MOTSynth's images"):
        convert_motsynth(tmp_path / "in", tmp_path / "all.json")
    assert not (tmp_path / "all.json").exists()
    parts = tmp_path / ".all.json.parts"
    assert [path.name for path in parts.iterdir()] == ["000.json"]
    bad.write_text(good)
    made: list[str] = []
    monkeypatch.setattr(
        motsynth, "write_json", lambda path, told: made.append(path.name) or path.write_text(json.dumps(told))
    )
    convert_motsynth(tmp_path / "in", tmp_path / "all.json")
    assert made == ["001.json", "002.json"]
    assert not parts.exists()
    assert len(json.loads((tmp_path / "all.json").read_text())["videos"]) == 3


def test_a_part_is_made_again_when_its_source_has_changed(tmp_path: Path) -> None:
    source, part = folders.motsynth(tmp_path, "000"), tmp_path / "part.json"
    read_video(source, part)
    before = part.read_text()
    folders.motsynth(tmp_path, "000", frames=3)
    read_video(source, part)
    assert part.read_text() != before
    part.write_text("{")
    read_video(source, part)
    assert len(json.loads(part.read_text())["frames"]) == 3


def test_the_result_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    folders.motsynth(tmp_path / "in", "000")
    assert convert_motsynth(tmp_path / "in", tmp_path / "all.json")
    folders.motsynth(tmp_path / "in", "001")
    assert not convert_motsynth(tmp_path / "in", tmp_path / "all.json")
    assert len(json.loads((tmp_path / "all.json").read_text())["videos"]) == 1
    assert convert_motsynth(tmp_path / "in", tmp_path / "all.json", overwrite=True)
    assert len(json.loads((tmp_path / "all.json").read_text())["videos"]) == 2


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="annotations: expected a folder"):
        convert_motsynth(tmp_path / "none", tmp_path / "all.json")
    (tmp_path / "in").mkdir()
    with pytest.raises(FileNotFoundError, match="annotations: expected files"):
        convert_motsynth(tmp_path / "in", tmp_path / "all.json")
    folders.motsynth(tmp_path / "in", "000")
    with pytest.raises(IsADirectoryError, match="output: expected the name of a file"):
        convert_motsynth(tmp_path / "in", tmp_path)
    with pytest.raises(ValueError, match="jobs: expected"):
        convert_motsynth(tmp_path / "in", tmp_path / "all.json", jobs=0)
    folders.motsynth(tmp_path / "in", "001", frames=0)
    with pytest.raises(ValueError, match="at least one image"):
        convert_motsynth(tmp_path / "in", tmp_path / "all.json")
