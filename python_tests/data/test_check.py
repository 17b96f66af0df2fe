"""What is wrong with a data set is said in plain words, all of it at once, and with the place where it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import video_folders as folders
from svm_ext.data.check import Report, check_data

GOOD = [f"{frame},1,{10 + frame},12,20,24,1,1,0.5" for frame in range(1, 5)]


def kinds(report: Report) -> dict[str, bool]:
    """What was found, and whether it is grave."""
    return {problem.kind: problem.grave for problem in report.problems}


def checked(tmp_path: Path, *rows: str, **options: Any) -> Report:
    folders.sequence(tmp_path / "s", rows=[*GOOD, *rows], **options)
    return check_data(tmp_path)


def test_a_good_data_set_has_nothing_wrong(tmp_path: Path) -> None:
    report = checked(tmp_path, info="[Sequence]\nseqLength=4\nimWidth=64\nimHeight=48\n")
    assert (report.problems, report.grave) == ([], False)
    assert report.counts == {"videos": 1, "frames": 4, "boxes": 4, "identities": 1, "frames without a box": 0}
    assert report.lines()[0].endswith("1 videos, 4 frames, 4 boxes, 1 identities, 0 frames without a box")
    assert report.lines()[-1].endswith("can be trained with")


@pytest.mark.parametrize(
    ("row", "kind", "grave"),
    [
        ("1,2", "line that cannot be read", True),
        ("1,2,nan,1,5,5", "line that cannot be read", True),
        ("9,2,1,1,5,5", "frame without a picture", True),
        ("1,2,1,1,0,5", "box without an area", True),
        ("1,2,1,1,-4,5", "box without an area", True),
        ("1,2,1,1,0.4,5", "box thinner than a pixel, left out", False),
        ("1,2,64,1,5,5", "box beside the picture, left out", False),
        ("1,2,1,1,500,5", "box more than twice as large as the picture", True),
        ("1,2,1,1,5,5,1,1,3.5", "visibility that is no share from 0 to 1", False),
        ("1,1,1,1,5,5", "identity twice in a frame", True),
        ("1,2,11,12,20,24", "box twice in a frame", False),
    ],
)
def test_what_is_wrong_with_a_line_is_found(row: str, kind: str, grave: bool, tmp_path: Path) -> None:
    report = checked(tmp_path, row)
    assert kinds(report)[kind] is grave
    problem = next(problem for problem in report.problems if problem.kind == kind)
    assert "gt.txt, line 5" in problem.places[0]
    assert report.grave is grave


def test_boxes_that_nobody_trains_with_may_be_as_they_are(tmp_path: Path) -> None:
    report = checked(tmp_path, "1,2,1,1,0,0,0,1,1", "1,3,1,1,0,0,1,7,1")
    assert report.problems == []


def test_a_kind_of_problem_is_told_once_with_a_few_places(tmp_path: Path) -> None:
    report = checked(tmp_path, *(f"1,{number},{number},1,0,5" for number in range(2, 9)))
    [problem] = report.problems
    assert (problem.count, len(problem.places)) == (7, 3)
    assert str(problem).endswith("; and 4 more")
    assert str(problem).startswith("error  box without an area: ")


def test_grave_problems_come_first_and_all_are_told(tmp_path: Path) -> None:
    report = checked(tmp_path, "1,2,64,1,5,5", "9,2,1,1,5,5")
    words = [line.split()[0] for line in report.lines()[1:-1]]
    assert words == ["error", "error", "look"]
    assert report.lines()[-1].endswith("has to be mended")
    assert report.videos is None


def test_boxes_of_another_kind_are_recognised(tmp_path: Path) -> None:
    corners = [f"{frame},1,30,20,50,40" for frame in range(1, 5)]
    folders.sequence(tmp_path / "corners" / "s", rows=corners)
    assert "boxes that look like left, top, right, bottom" in kinds(check_data(tmp_path / "corners"))
    shares = [f"{frame},1,0.3,0.2,0.5,0.4" for frame in range(1, 5)]
    folders.sequence(tmp_path / "shares" / "s", rows=shares)
    assert "boxes that look like shares of the picture" in kinds(check_data(tmp_path / "shares"))


def test_an_identity_that_jumps_is_worth_a_look(tmp_path: Path) -> None:
    rows = ["1,2,0,5,6,6,1,1,1", "2,2,50,5,6,6,1,1,1", "4,2,0,5,6,6,1,1,1"]
    report = checked(tmp_path, *rows)
    [problem] = report.problems
    assert (problem.kind, problem.count) == ("identity that jumps", 1)
    assert "id 2 in frame 2" in problem.places[0]


def test_detections_alone_are_worth_a_look_and_no_more(tmp_path: Path) -> None:
    folders.sequence(tmp_path / "s", rows=["1,-1,1,1,5,5", "1,-1,9,9,5,5", "2,-1,1,1,5,5"])
    report = check_data(tmp_path)
    assert kinds(report) == {"no identities": False}


def test_pictures_are_looked_at(tmp_path: Path) -> None:
    folder = folders.sequence(tmp_path / "s", rows=GOOD, info="[Sequence]\nseqLength=9\nimWidth=640\nimHeight=48\n")
    folders.save(folder / "img1" / "000002.png", folders.picture(2, 50, 64))
    (folder / "img1" / "000003.png").write_text("no picture")
    data = (folder / "img1" / "000004.png").read_bytes()
    (folder / "img1" / "000004.png").write_bytes(data[: len(data) // 2])
    found = kinds(check_data(tmp_path))
    assert found == {
        "number of pictures": False,
        "size of pictures": False,
        "picture of another size": True,
        "picture that cannot be read": True,
    }


def test_every_picture_is_read_where_it_is_asked_for(tmp_path: Path) -> None:
    folder = folders.sequence(tmp_path / "s", 120, rows=GOOD)
    broken = folder / "img1" / "000002.png"
    broken.write_bytes(broken.read_bytes()[:-30])
    assert not check_data(tmp_path).grave
    assert check_data(tmp_path, every_picture=True).grave


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "gt" / "gt.txt").unlink(), "expected the boxes of this sequence"),
        (lambda folder: (folder / "img1" / "000002.png").unlink(), "without a gap, got no 2"),
        (lambda folder: (folder / "seqinfo.ini").write_text("x"), "expected a section"),
        (lambda folder: (folder / "gt" / "gt.txt").write_bytes(b"\xff\xfe\x00"), "expected text"),
        (lambda folder: (folder / "gt" / "gt.txt").write_text(""), "nothing that a detector could learn"),
    ],
)
def test_what_stops_a_training_is_told_once(damage: Any, said: str, tmp_path: Path) -> None:
    damage(folders.sequence(tmp_path / "s", rows=GOOD))
    report = check_data(tmp_path)
    assert report.grave
    assert sum(said in line for line in report.lines()) == 1


def test_an_empty_folder_is_no_data_set(tmp_path: Path) -> None:
    assert check_data(tmp_path).grave
    with pytest.raises(FileNotFoundError, match="data: expected"):
        check_data(tmp_path / "none")


def changed(path: Path, change: Any) -> Report:
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))
    return check_data(path)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda told: told["annotations"][0].update(image_id=99), "box of an unknown image"),
        (lambda told: told["annotations"][0].update(category_id=99), "box of an unknown category"),
        (lambda told: told["annotations"][0].update(bbox=[1, 2, 0, 4]), "box without an area"),
        (lambda told: told["annotations"][0].update(bbox=[1, 2, "x", 4]), "cannot be read"),
        (lambda told: told["annotations"].append(dict(told["annotations"][0])), "id twice in annotations"),
        (lambda told: told["images"][0].update(file_name="none.png"), "picture that is not there"),
        (lambda told: told["images"][0].update(frame_id=7), "cannot be read"),
        (lambda told: told.pop("images"), "cannot be read"),
    ],
)
def test_what_is_wrong_with_a_coco_file_is_found(change: Any, kind: str, tmp_path: Path) -> None:
    report = changed(folders.coco(tmp_path), change)
    assert kinds(report).get(kind) is True


def test_a_good_coco_file_has_nothing_wrong(tmp_path: Path) -> None:
    folders.coco(tmp_path)
    assert check_data(tmp_path).problems == []
    assert check_data(folders.coco(tmp_path / "plain", count=0)).problems == []


def test_crowds_may_be_as_they_are(tmp_path: Path) -> None:
    report = changed(folders.coco(tmp_path), lambda told: told["annotations"][0].update(bbox=[0, 0, 0, 0], iscrowd=1))
    assert report.problems == []


def test_progress_counts_videos(tmp_path: Path) -> None:
    folders.coco(tmp_path)
    seen: list[tuple[str, int, int]] = []
    check_data(tmp_path, on_video=lambda *step: seen.append(step))
    assert seen == [("v1", 0, 2), ("v2", 1, 2)]
