"""The converters write what the reference's wrote, to the byte, but for what it got wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from svm_ext.data import mot
from svm_ext.data.convert.crowdhuman import convert_crowdhuman
from svm_ext.data.convert.mot17 import convert_mot17
from svm_ext.data.convert.motsynth import convert_motsynth

Golden = Callable[[str], Path]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_mot17_is_written_as_expected_and_read_from_only(golden: Golden, tmp_path: Path) -> None:
    source = golden("converters") / "input" / "MOT17"
    before = files(source)
    written = convert_mot17(source, tmp_path, split_train=True)
    assert [path.name.split("_")[0] for path in written] == ["train", "test", "half-train", "half-val"]
    assert files(tmp_path) == files(golden("converters") / "expected" / "MOT17")
    assert files(source) == before


def test_without_halves_only_the_whole_sets_are_written(golden: Golden, tmp_path: Path) -> None:
    convert_mot17(golden("converters") / "input" / "MOT17", tmp_path)
    expected = files(golden("converters") / "expected" / "MOT17")
    assert files(tmp_path) == {name: expected[name] for name in ("test_cocoformat.json", "train_cocoformat.json")}


def test_crowdhuman_is_written_as_expected(golden: Golden, tmp_path: Path) -> None:
    source = golden("converters") / "input" / "crowdhuman"
    before = files(source)
    convert_crowdhuman(source, tmp_path)
    assert files(tmp_path) == files(golden("converters") / "expected" / "crowdhuman")
    assert files(source) == before


@pytest.mark.parametrize("jobs", [1, 2])
def test_motsynth_is_written_as_expected_with_the_right_number_of_people(
    jobs: int, golden: Golden, tmp_path: Path
) -> None:
    """The reference counted annotations, one too many, where it meant people."""
    source = golden("converters") / "input" / "MOTSynth" / "annotations"
    before = files(source)
    assert convert_motsynth(source, tmp_path / "all.json", jobs=jobs)
    told = json.loads((tmp_path / "all.json").read_text())
    expected = json.loads((golden("converters") / "expected" / "MOTSynth" / "all_cocoformat.json").read_text())
    videos = {image["id"]: image["video_id"] for image in told["images"]}
    people = {(videos[box["image_id"]], box["instance_id"]) for box in told["annotations"]}
    assert told.pop("num_instances") == len(people) == 8
    assert expected.pop("num_instances") == len(expected["annotations"]) + 1
    assert told == expected
    assert list(told) == list(expected)
    assert [list(entry) for entry in told["annotations"]] == [list(entry) for entry in expected["annotations"]]
    assert files(source) == before
    assert [path.name for path in tmp_path.iterdir()] == ["all.json"]


def test_what_was_converted_can_be_trained_with(golden: Golden, tmp_path: Path) -> None:
    source = golden("converters") / "input"
    for path in convert_mot17(source / "MOT17", tmp_path, split_train=True):
        folder = source / "MOT17" / ("test" if path.name.startswith("test") else "train")
        found = mot.read_videos(path, images=folder)
        assert found.classes == ("pedestrian",)
        assert found.videos[0].picture(0).shape == (3, 64, 96)
    written, _ = convert_crowdhuman(source / "crowdhuman", tmp_path)
    found = mot.read_videos(written[0], images=source / "crowdhuman" / "train")
    assert [len(video) for video in found.videos] == [1, 1, 1]
    assert found.videos[2].picture(0).shape == (3, 88, 74)
