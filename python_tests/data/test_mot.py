"""People's own videos: every layout is read, and what is wrong with one is said in a line."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import video_folders as folders
from svm_ext.data import mot
from svm_ext.data.videos import Annotations, picture_size, read_picture

FULL = ["1,3,10,12,20,24,1,1,0.5", "2,3,11,12,20,24,1,1,1", "4,7,-3,2,9,9,1,1,0.25"]


def test_a_motchallenge_folder_is_read(tmp_path: Path) -> None:
    folders.sequence(tmp_path / "b", rows=FULL, info="[Sequence]\nname=b\nframeRate=12.5\n")
    folders.sequence(tmp_path / "a", 2)
    found = mot.read_videos(tmp_path)
    assert [video.name for video in found.videos] == ["a", "b"]
    assert found.classes == ("pedestrian",)
    assert (found.frames, found.boxes) == (6, 3)
    video = found.videos[1]
    assert (len(video), video.size, video.fps) == (4, (48, 64), 12.5)
    target = video.target(0)
    assert target["boxes"].tolist() == [[10, 12, 30, 36]]
    assert (target["ids"].tolist(), target["labels"].tolist(), target["visibility"].tolist()) == ([3], [0], [0.5])
    assert video.target(2)["boxes"].shape == (0, 4)
    assert video.target(3)["boxes"].tolist() == [[-3, 2, 6, 11]]
    np.testing.assert_array_equal(video.picture(1).permute(1, 2, 0), folders.picture(2))


def test_one_sequence_is_a_data_set_too(tmp_path: Path) -> None:
    folder = folders.sequence(tmp_path / "only", rows=FULL)
    assert [video.name for video in mot.read_videos(folder).videos] == ["only"]


def test_lines_may_be_short_long_or_spaced(tmp_path: Path) -> None:
    """Six columns without a class, ten as in MOT15, whose last three are places in the world."""
    rows = ["1,-1,1,2,10,10", "2 5 1 2 10 10 1 1 0.5", "3,6,1,2,10,10,1,-4.1,-7.3,0", "", "4,7,1,2,10,10,1,1,"]
    video = mot.read_sequence(folders.sequence(tmp_path / "s", rows=rows))
    assert video.ids.tolist() == [-1, 5, 6, 7]
    assert video.visibility.tolist() == [1, 0.5, 1, 1]
    assert video.labels.tolist() == [0, 0, 0, 0]


def test_nothing_is_learnt_from_what_cannot_be_seen_or_is_to_be_ignored(tmp_path: Path) -> None:
    rows = [
        "1,1,5,5,10,10,0,1,1",  # to be ignored
        "1,2,5,5,10,10,1,3,1",  # a car
        "1,3,5,5,0.5,10,1,1,1",  # thinner than a pixel
        "1,4,70,5,10,10,1,1,1",  # beside the picture
        "1,5,-20,5,20,10,1,1,1",  # touches it, no more
        "1,6,5,5,10,10,1,1,1",
    ]
    assert mot.read_sequence(folders.sequence(tmp_path / "s", rows=rows)).ids.tolist() == [6]


def test_pictures_may_be_numbered_from_zero(tmp_path: Path) -> None:
    folder = folders.sequence(tmp_path / "s", 2, ["0,1,1,1,10,10", "2,1,3,1,10,10"])
    folders.save(folder / "img1" / "000000.png", folders.picture(0))
    assert mot.read_sequence(folder).boxes[:, 0].tolist() == [1, 3]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("1,2,3", "line 2: expected frame, id, left"),
        ("1,x,3,4,5,6", "line 2: expected frame, id"),
        ("9,1,3,4,5,6", "line 2: expected a frame from 1 to 4"),
    ],
)
def test_a_bad_line_is_named(row: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        mot.read_sequence(folders.sequence(tmp_path / "s", rows=["1,1,3,4,5,6", row]))


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="data: expected a folder or a JSON"):
        mot.read_videos(tmp_path / "none")
    with pytest.raises(ValueError, match="got neither"):
        mot.read_videos(tmp_path)
    folder = folders.sequence(tmp_path / "train" / "s")
    with pytest.raises(ValueError, match="did you mean .*train"):
        mot.read_videos(tmp_path)
    with pytest.raises(ValueError, match="images: expected none for MOTChallenge"):
        mot.read_videos(folder, images=tmp_path)
    (folder / "gt" / "gt.txt").unlink()
    with pytest.raises(FileNotFoundError, match="expected the boxes of this sequence"):
        mot.read_videos(folder)
    (folder / "img1" / "000002.png").unlink()
    with pytest.raises(ValueError, match="without a gap, got no 2"):
        mot.read_videos(folder)
    folders.save(folder / "img1" / "cover.png", folders.picture(1))
    with pytest.raises(ValueError, match="number of a frame"):
        mot.read_videos(folder)


def test_a_picture_in_two_formats_is_refused(tmp_path: Path) -> None:
    folder = folders.sequence(tmp_path / "s")
    folders.save(folder / "img1" / "000002.jpg", folders.picture(2))
    with pytest.raises(ValueError, match="one picture for each frame"):
        mot.read_sequence(folder)
    for file in (folder / "img1").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="expected pictures"):
        mot.read_sequence(folder)


@pytest.mark.parametrize("text", ["name=x", "[Sequence]\nframeRate=fast\n", "\x00"])
def test_a_bad_seqinfo_is_named(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="seqinfo.ini: expected"):
        mot.read_sequence(folders.sequence(tmp_path / "s", info=text))


def test_seqinfo_is_read_as_ini(tmp_path: Path) -> None:
    """In any order, with spaces and comments: the reference read it by line number."""
    text = "; made by hand\n[Sequence]\nimHeight = 48\nimWidth=64\nseqLength=4\nname = other\nimDir=img1\n"
    info = mot.sequence_info(folders.sequence(tmp_path / "s", info=text))
    assert info == mot.SequenceInfo("other", "img1", 30.0, 4, (48, 64))


def test_coco_videos_are_read(tmp_path: Path) -> None:
    path = folders.coco(tmp_path)
    for source in (path, tmp_path):
        found = mot.read_videos(source)
        assert [(video.name, len(video), video.fps) for video in found.videos] == [("v1", 3, 20.0), ("v2", 3, 20.0)]
        assert found.classes == ("pedestrian", "cyclist")
        assert found.videos[1].target(2)["boxes"].tolist() == [[7, 6, 17, 26]]
        assert found.videos[0].picture(0).shape == (3, 48, 64)
    moved = tmp_path / "elsewhere.json"
    path.rename(moved)
    told = mot.read_videos(moved, images=tmp_path, classes=["cyclist"])
    assert told.classes == ("cyclist",)
    assert told.boxes == 0


def test_plain_coco_pictures_are_videos_of_one_frame(tmp_path: Path) -> None:
    found = mot.read_videos(folders.coco(tmp_path, count=0))
    assert [len(video) for video in found.videos] == [1, 1, 1]
    assert found.videos[2].target(0)["boxes"].tolist() == [[7, 6, 17, 26]]


def test_crowds_and_tiny_pictures_are_left_out(tmp_path: Path) -> None:
    path = folders.coco(tmp_path, count=0)
    told = json.loads(path.read_text())
    told["annotations"][0]["iscrowd"] = 1
    told["annotations"][1]["ignore"] = True
    told["images"][2] |= {"height": 20}
    path.write_text(json.dumps(told))
    found = mot.read_videos(path)
    assert (found.frames, found.boxes) == (2, 0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"categories": [{"id": 1}]}, "expected name in entry 0 of categories"),
        ({"images": [{"id": 1}]}, "expected file_name, height, width in entry 0 of images"),
        ({"annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2]}]}, "bbox"),
        ({"videos": [{"id": 9, "name": "x"}]}, "video_id"),
    ],
)
def test_a_bad_coco_file_is_named(changed: dict, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        mot.read_videos(folders.coco(tmp_path, **changed))


def test_frames_of_a_coco_video_have_no_gap_and_one_size(tmp_path: Path) -> None:
    path = folders.coco(tmp_path)
    told = json.loads(path.read_text())
    told["images"][1]["frame_id"] = 5
    path.write_text(json.dumps(told))
    with pytest.raises(ValueError, match="frame_id 0 to 2 without a gap"):
        mot.read_videos(path)
    told["images"][1] |= {"frame_id": 1, "height": 90}
    path.write_text(json.dumps(told))
    with pytest.raises(ValueError, match="one size"):
        mot.read_videos(path)
    with pytest.raises(ValueError, match="classes: expected names among pedestrian, cyclist, got dog"):
        mot.read_videos(folders.coco(tmp_path), classes=["dog"])


@pytest.mark.parametrize("text", ["{", "[]", '{"images": []}', "\xff\xfe"])
def test_what_is_no_coco_file_is_said(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"x\.json: expected"):
        mot.read_videos(path)


def test_a_cut_is_a_video_of_its_own(tmp_path: Path) -> None:
    video = mot.read_sequence(folders.sequence(tmp_path / "s", rows=FULL))
    for start, stop in ((0, 4), (1, 3), (2, None), (0, -1)):
        part = video.cut(start, stop)
        frames = range(4)[start:stop]
        assert len(part) == len(frames)
        for own, frame in enumerate(frames):
            assert torch.equal(part.target(own)["boxes"], video.target(frame)["boxes"])
            assert torch.equal(part.picture(own), video.picture(frame))
    with pytest.raises(ValueError, match="start: expected"):
        video.cut(4)


def test_annotations_come_in_any_order() -> None:
    boxes = Annotations(3, (48, 64))
    boxes.add(2, (1, 1, 5, 5), id=1)
    boxes.add(0, (2, 2, 5, 5), id=2)
    boxes.add(2, (3, 3, 5, 5), id=3, label=4)
    boxes.add(1, (3, 3, 5, 5), ignore=True)
    video = boxes.video("v", ["a", "b", "c"])
    assert boxes.left_out == 1
    assert [video.target(frame)["ids"].tolist() for frame in range(3)] == [[2], [], [1, 3]]
    assert video.target(2)["labels"].tolist() == [0, 4]


def test_pictures_that_are_damaged_or_turned_are_named(tmp_path: Path) -> None:
    good, cut, text = tmp_path / "a.jpg", tmp_path / "b.jpg", tmp_path / "c.jpg"
    folders.save(good, folders.picture(1))
    cut.write_bytes(good.read_bytes()[:-200])
    text.write_text("no picture")
    assert picture_size(good) == (48, 64)
    with pytest.raises(ValueError, match=r"b\.jpg: expected a whole picture"):
        read_picture(cut)
    for read in (read_picture, picture_size):
        with pytest.raises(ValueError, match=r"c\.jpg: expected a picture"):
            read(text)
    with pytest.raises(FileNotFoundError):
        read_picture(tmp_path / "d.jpg")
    video = mot.read_videos(folders.coco(tmp_path / "coco")).videos[0]
    folders.save(Path(video.files[0]), folders.picture(1, 64, 48))
    with pytest.raises(ValueError, match="expected 64x48 pixels as in its annotations, got 48x64"):
        video.picture(0)


def test_grey_and_transparent_pictures_become_rgb(tmp_path: Path) -> None:
    folders.save(tmp_path / "grey.png", folders.picture(1)[..., 0])
    folders.save(tmp_path / "alpha.png", np.concatenate([folders.picture(1), folders.picture(2)[..., :1]], 2))
    assert read_picture(tmp_path / "grey.png").shape == (3, 48, 64)
    assert read_picture(tmp_path / "alpha.png").shape == (3, 48, 64)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_files_of_other_systems_are_read(ending: str, mark: str, tmp_path: Path) -> None:
    folder = folders.sequence(tmp_path / "s", info=mark + ending.join(["[Sequence]", "frameRate=7", ""]))
    (folder / "gt" / "gt.txt").write_bytes((mark + ending.join([*FULL, ""])).encode())
    video = mot.read_sequence(folder)
    assert (video.fps, video.ids.tolist()) == (7.0, [3, 3, 7])


@pytest.mark.parametrize("row", ["1,inf,3,4,5,6", "nan,1,3,4,5,6", "1,1,3,4,nan,6", "1,1,3,4,5,6,inf", "1;1;3;4;5;6"])
def test_numbers_that_are_none_are_refused(row: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line 1: expected frame, id"):
        mot.read_sequence(folders.sequence(tmp_path / "s", rows=[row]))


def test_a_long_file_is_read_quickly(tmp_path: Path) -> None:
    rows = [f"{1 + number % 4},{number},5,5,20,20,1,1,1" for number in range(60_000)]
    folder = folders.sequence(tmp_path / "s", rows=rows)
    start = time.process_time()
    video = mot.read_sequence(folder)
    assert time.process_time() - start < 3.0
    assert [len(video.target(frame)["boxes"]) for frame in range(4)] == [15_000] * 4


def test_pictures_of_upper_case_and_hidden_files_are_no_trouble(tmp_path: Path) -> None:
    folder = folders.sequence(tmp_path / "s", 2, ["2,1,5,5,9,9"])
    (folder / "img1" / "000002.png").rename(folder / "img1" / "000002.PNG")
    (folder / "img1" / "Thumbs.db").write_text("x")
    (tmp_path / ".hidden").mkdir()
    assert len(mot.read_videos(tmp_path).videos[0]) == 2


def test_targets_are_copies(tmp_path: Path) -> None:
    video = mot.read_sequence(folders.sequence(tmp_path / "s", rows=FULL))
    video.target(0)["boxes"].zero_()
    assert video.target(0)["boxes"].any()


def test_boxes_keep_their_place_in_coco_and_motchallenge_alike(tmp_path: Path) -> None:
    """Neither layout's coordinates are shifted: what is evaluated is what was annotated."""
    first = mot.read_sequence(folders.sequence(tmp_path / "s", 3, [f"{f},3,{4 + f},6,10,20,1,1,1" for f in (1, 2, 3)]))
    second = mot.read_videos(folders.coco(tmp_path / "coco")).videos[0]
    np.testing.assert_array_equal(first.boxes, second.boxes)
    np.testing.assert_array_equal(first.rows, second.rows)
    np.testing.assert_array_equal(first.ids, second.ids)
