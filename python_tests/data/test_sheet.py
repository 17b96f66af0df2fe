"""The contact sheet shows frames of every video with their boxes in place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import video_folders as folders
from svm_ext.data import mot
from svm_ext.data.sheet import chosen, draw_sheet
from svm_ext.stream.draw import colour_of


def test_frames_are_spread_over_all_videos_and_have_boxes(tmp_path: Path) -> None:
    folders.sequence(tmp_path / "a", 30, ["7,1,5,5,9,9", "20,1,5,5,9,9"])
    folders.sequence(tmp_path / "b", 30)
    found = [(video.name, frame) for video, frame in chosen(mot.read_videos(tmp_path), 6)]
    assert [entry for entry in found if entry[0] == "a"] == [("a", 6), ("a", 19)]
    assert [name for name, _ in found].count("b") == 3
    assert len(chosen(mot.read_videos(tmp_path / "a"), 100)) == 2


def test_boxes_are_drawn_where_they_are(tmp_path: Path) -> None:
    folders.sequence(tmp_path / "a", 1, ["1,7,16,12,32,24"])
    path = draw_sheet(mot.read_videos(tmp_path), tmp_path / "sheet.png", count=1, columns=1)
    sheet = np.asarray(Image.open(path))
    assert sheet.shape == (360 + 12 + 16, 480 + 12, 3)
    scale = 480 / 64
    for x, y in ((32, 12), (32, 36), (16, 30), (48, 30)):  # the middle of each side, but for the text at the upper left
        around = sheet[int(y * scale) + 6 - 2 : int(y * scale) + 6 + 3, int(x * scale) + 6 - 2 : int(x * scale) + 6 + 3]
        assert (around == colour_of(7)).all(-1).any()


def test_a_damaged_picture_stays_black(tmp_path: Path) -> None:
    folder = folders.sequence(tmp_path / "a", 2, ["1,7,16,12,32,24", "2,7,16,12,32,24"])
    (folder / "img1" / "000002.png").write_text("no picture")
    path = draw_sheet(mot.read_videos(tmp_path), tmp_path / "sheet.jpg", count=2, columns=2)
    sheet = np.asarray(Image.open(path))
    assert sheet[100:300, 20:460].mean() > 60
    assert sheet[300:350, 510:950].mean() < 10


def test_classes_are_named_where_there_are_several(tmp_path: Path) -> None:
    found = mot.read_videos(folders.coco(tmp_path))
    one = mot.read_videos(folders.coco(tmp_path), classes=["pedestrian"])
    sheets = [np.asarray(Image.open(draw_sheet(it, tmp_path / f"{n}.png"))) for n, it in enumerate((found, one))]
    assert sheets[0].shape == sheets[1].shape
    assert (sheets[0] != sheets[1]).any()
