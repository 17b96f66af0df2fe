"""MOT17 laid out in other ways than MOTChallenge's own, or in part."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import video_folders as folders
from svm_ext.data.convert.mot17 import convert_mot17

ROWS = ["1,3,10,12,20,24,1,1,0.5", "2,3,11,12,20,24,1,1,1", "4,9,3,2,9,9,0,1,0.25", "4,3,3,2,9,9,1,7,1"]


def told(path: Path) -> dict:
    return json.loads(path.read_text())


def test_sequences_are_sorted_and_named_by_their_folders(tmp_path: Path) -> None:
    """The reference took them as the file system gave them."""
    for name in ("b", "a", "c"):
        folders.sequence(tmp_path / "in" / "train" / name, rows=ROWS)
    [path] = convert_mot17(tmp_path / "in", tmp_path / "out")
    assert [video["name"] for video in told(path)["videos"]] == ["a", "b", "c"]


def test_seqinfo_may_be_in_any_order_or_missing(tmp_path: Path) -> None:
    info = "[Sequence]\nimWidth = 64\nseqLength=4\nframeRate=12.5\nimHeight=48\n"
    folders.sequence(tmp_path / "in" / "train" / "a", rows=ROWS, info=info)
    folders.sequence(tmp_path / "in" / "train" / "b", rows=ROWS)
    [path] = convert_mot17(tmp_path / "in", tmp_path / "out")
    assert [(video["fps"], video["width"], video["height"]) for video in told(path)["videos"]] == [
        (12.5, 64, 48),
        (30, 64, 48),
    ]


def test_people_of_different_sequences_are_different(tmp_path: Path) -> None:
    for name in ("a", "b"):
        folders.sequence(tmp_path / "in" / "train" / name, rows=ROWS)
    [path] = convert_mot17(tmp_path / "in", tmp_path / "out")
    assert [box["instance_id"] for box in told(path)["annotations"]] == [0, 0, 1, 2, 2, 3]
    assert told(path)["num_instances"] == 4


def test_the_first_half_has_one_frame_more(tmp_path: Path) -> None:
    folders.sequence(tmp_path / "in" / "train" / "a", rows=ROWS)
    convert_mot17(tmp_path / "in", tmp_path / "out", split_train=True)
    halves = [told(tmp_path / "out" / f"half-{name}_cocoformat.json") for name in ("train", "val")]
    assert [[image["mot_frame_id"] for image in half["images"]] for half in halves] == [[1, 2, 3], [4]]
    assert [[image["frame_id"] for image in half["images"]] for half in halves] == [[0, 1, 2], [0]]
    texts = [(tmp_path / "out/gt/a/gt" / f"gt_half-{name}.txt").read_text() for name in ("train", "val")]
    assert texts == ["".join(row + "\n" for row in ROWS[:2]), "".join(row + "\n" for row in ROWS[2:])]


def test_only_test_sequences_have_no_truth(tmp_path: Path) -> None:
    folder = folders.sequence(tmp_path / "in" / "test" / "a")
    (folder / "gt" / "gt.txt").unlink()
    [path] = convert_mot17(tmp_path / "in", tmp_path / "out", split_train=True)
    assert path.name == "test_cocoformat.json"
    assert "annotations" not in told(path)
    (tmp_path / "in" / "test").rename(tmp_path / "in" / "train")
    with pytest.raises(FileNotFoundError, match="expected the ground truth of a training sequence"):
        convert_mot17(tmp_path / "in", tmp_path / "out")


def test_what_is_missing_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="input: expected a folder"):
        convert_mot17(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in").mkdir()
    with pytest.raises(FileNotFoundError, match="train or test"):
        convert_mot17(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "train").mkdir()
    with pytest.raises(FileNotFoundError, match="expected sequences"):
        convert_mot17(tmp_path / "in", tmp_path / "out")
    folders.sequence(tmp_path / "in" / "train" / "a", 4, ROWS, info="[Sequence]\nseqLength=600\n")
    with pytest.raises(ValueError, match="expected 600 pictures as seqinfo.ini says, got 4"):
        convert_mot17(tmp_path / "in", tmp_path / "out")
    folders.sequence(tmp_path / "two" / "train" / "a", 3, ROWS)
    with pytest.raises(ValueError, match="line 3: expected the number of a picture, got 4"):
        convert_mot17(tmp_path / "two", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_progress_counts_all_sequences(tmp_path: Path) -> None:
    for part, name in (("train", "a"), ("train", "b"), ("test", "c")):
        folders.sequence(tmp_path / "in" / part / name, rows=ROWS)
    seen: list[tuple[str, int, int]] = []
    convert_mot17(tmp_path / "in", tmp_path / "out", on_sequence=lambda *step: seen.append(step))
    assert seen == [("train/a", 0, 3), ("train/b", 1, 3), ("test/c", 2, 3)]
