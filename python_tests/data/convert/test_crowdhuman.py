"""CrowdHuman's lists: what is there already is kept, what is wrong is named by its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import video_folders as folders
from svm_ext.data.convert.crowdhuman import convert_crowdhuman


def line(name: str, **person: object) -> str:
    return json.dumps({"ID": name, "gtboxes": [{"fbox": [1, 2, 3, 4], "vbox": [1, 2, 3, 3], **person}]})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    for mode, count in (("train", 3), ("val", 1)):
        names = [f"{mode}{number}" for number in range(count)]
        for name in names:
            folders.save(folder / mode / "Images" / f"{name}.jpg", folders.picture(1, 40, 50))
        (folder / f"annotation_{mode}.odgt").write_text("\n".join(line(name) for name in names) + "\n\n")
    return folder


def test_a_crowd_is_marked(source: Path, tmp_path: Path) -> None:
    lines = [line("val0", extra={"ignore": 1}), line("val0", extra={"ignore": 0}), line("val0", extra={}), line("val0")]
    (source / "annotation_val.odgt").write_text("\n".join(lines))
    convert_crowdhuman(source, tmp_path / "out")
    told = json.loads((tmp_path / "out" / "crowdhuman_val.json").read_text())
    assert [box["iscrowd"] for box in told["annotations"]] == [True, False, False, False]
    assert told["images"][0] == {"file_name": "Images/val0.jpg", "height": 40, "width": 50, "id": 1}


def test_what_is_there_is_kept_unless_told_otherwise(source: Path, tmp_path: Path) -> None:
    written, kept = convert_crowdhuman(source, tmp_path / "out")
    assert ([path.name for path in written], kept) == (["crowdhuman_train.json", "crowdhuman_val.json"], [])
    written[0].write_text("mine")
    written[1].unlink()
    again, kept = convert_crowdhuman(source, tmp_path / "out")
    assert (again, kept) == ([written[1]], [written[0]])
    assert written[0].read_text() == "mine"
    convert_crowdhuman(source, tmp_path / "out", overwrite=True)
    assert json.loads(written[0].read_text())["categories"]


def test_one_of_the_two_lists_is_enough(source: Path, tmp_path: Path) -> None:
    (source / "annotation_val.odgt").unlink()
    assert len(convert_crowdhuman(source, tmp_path / "out")[0]) == 1
    (source / "annotation_train.odgt").unlink()
    with pytest.raises(FileNotFoundError, match=r"annotation_train\.odgt"):
        convert_crowdhuman(source, tmp_path / "out")


@pytest.mark.parametrize("text", ["{", "[]", '{"ID": "x"}', '{"ID": "x", "gtboxes": [{"fbox": [1, 2, 3, 4]}]}'])
def test_a_bad_line_is_named_and_nothing_is_left_behind(text: str, source: Path, tmp_path: Path) -> None:
    (source / "annotation_train.odgt").write_text(line("train0") + "\n" + text + "\n")
    with pytest.raises(ValueError, match="line 2: expected JSON with ID"):
        convert_crowdhuman(source, tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


def test_a_missing_picture_is_named(source: Path, tmp_path: Path) -> None:
    (source / "train" / "Images" / "train1.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"train1\.jpg: expected the picture"):
        convert_crowdhuman(source, tmp_path / "out")


def test_progress_counts_pictures(source: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    convert_crowdhuman(source, tmp_path / "out", on_picture=lambda name, number, total: seen.append((number, total)))
    assert seen == [(0, 3), (1, 3), (2, 3), (0, 1)]
