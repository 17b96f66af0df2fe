"""Where files of sequences are looked for, and what is said when they are not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from svm_ext.evaluate import evaluate_tracks
from svm_ext.evaluate.sequences import find

GT, PRED = "1,1,0,0,9,9,1,1,1\n", "1,1,0,0,9,9,0.5\n"


def place(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def gt(tmp_path: Path) -> Path:
    """Two sequences as MOTChallenge lays them out."""
    for name in ("S-02", "S-04"):
        place(tmp_path / "gt" / name / "gt" / "gt.txt", GT)
        place(tmp_path / "gt" / name / "seqinfo.ini", "[Sequence]\nseqLength=4\n")
    return tmp_path / "gt"


@pytest.fixture
def pred(tmp_path: Path) -> Path:
    (tmp_path / "pred").mkdir()
    return tmp_path / "pred"


@pytest.mark.parametrize("where", ["{}.txt", "data/{}.txt", "{}/{}.txt", "{}/tracks.txt"])
def test_results_lie_where_people_put_them(where: str, gt: Path, pred: Path) -> None:
    files = [place(pred / where.replace("{}", name), PRED) for name in ("S-02", "S-04")]
    found = find(gt, pred)
    assert [it.name for it in found] == ["S-02", "S-04"]
    assert [it.pred for it in found] == files
    assert all(it.info is not None for it in found)
    assert evaluate_tracks(gt, pred).combined["HOTA"] == 1


def test_flat_ground_truth_has_no_length(tmp_path: Path, pred: Path) -> None:
    place(tmp_path / "flat" / "walk.v2.txt", GT)
    place(pred / "walk.v2.txt", PRED + "9,1,0,0,9,9,0.5\n")
    [found] = find(tmp_path / "flat", pred)
    assert (found.name, found.info) == ("walk.v2", None)
    scores = evaluate_tracks(tmp_path / "flat", pred)["walk.v2"]
    assert (scores["Frames"], scores["FP"]) == (9, 1)


def test_text_beside_folders_is_no_sequence(gt: Path, pred: Path) -> None:
    place(gt / "README.txt", "about this data\n")
    for name in ("S-02", "S-04"):
        place(pred / f"{name}.txt", PRED)
    assert len(find(gt, pred)) == 2


def test_results_of_other_sequences_are_left_alone(gt: Path, pred: Path) -> None:
    for name in ("S-02", "S-04", "S-99"):
        place(pred / f"{name}.txt", PRED)
    assert [it.name for it in find(gt, pred)] == ["S-02", "S-04"]


def test_two_files_are_one_sequence(gt: Path, pred: Path, tmp_path: Path) -> None:
    results = place(pred / "anything.txt", PRED)
    [found] = find(gt / "S-02" / "gt" / "gt.txt", results)
    assert (found.name, found.info) == ("S-02", gt / "S-02" / "seqinfo.ini")
    [found] = find(place(tmp_path / "truth.txt", GT), results)
    assert (found.name, found.info) == ("truth", None)


def test_length_of_seqinfo_holds_for_both_sides(gt: Path, pred: Path) -> None:
    for name in ("S-02", "S-04"):
        place(pred / f"{name}.txt", PRED.replace("1,1,0", "5,1,0"))
    with pytest.raises(ValueError, match=r"S-02.txt, line 1: frame: expected at most seqLength 4, got 5"):
        evaluate_tracks(gt, pred)


def told(gt: Path, pred: Path, text: str, only: list[str] | None = None) -> None:
    with pytest.raises((ValueError, OSError), match=text) as error:
        find(gt, pred, only)
    assert "\n" not in str(error.value)


def test_a_sequence_without_results_is_named_with_what_to_do(gt: Path, pred: Path) -> None:
    place(pred / "S-02.txt", PRED)
    file = re.escape(str(pred / "S-04.txt"))
    told(gt, pred, f"got none for S-04; track it and write {file}, or choose other sequences")
    assert [it.name for it in find(gt, pred, ["S-02"])] == ["S-02"]


def test_no_name_in_common(gt: Path, pred: Path) -> None:
    told(gt, pred, "expected sequences named as in gt .S-02, S-04., got none; results are looked for at")
    place(pred / "S-2.txt", PRED)
    told(gt, pred, "expected sequences named as in gt .S-02, S-04., got S-2; results are looked for at .*SEQ.txt")


def test_many_names_are_not_all_told(tmp_path: Path, pred: Path) -> None:
    for number in range(30):
        place(tmp_path / "flat" / f"s{number:02}.txt", GT)
    told(tmp_path / "flat", pred, r"s00, s01, s02, s03, s04 and 25 more")


def test_names_with_braces_are_names(tmp_path: Path, pred: Path) -> None:
    place(tmp_path / "{flat}" / "a.txt", GT)
    place(tmp_path / "{flat}" / "b{}.txt", GT)
    place(pred / "a.txt", PRED)
    told(tmp_path / "{flat}", pred, r"got none for b\{\}")


def test_unknown_names_are_refused(gt: Path, pred: Path) -> None:
    told(gt, pred, r"sequences: expected names that gt has \(S-02, S-04\), got S-05", ["S-02", "S-05"])


def test_folders_that_are_not_there(gt: Path, pred: Path, tmp_path: Path) -> None:
    told(tmp_path / "none", pred, "gt: expected a folder or a file that exists, got '.*none'")
    told(gt, tmp_path / "none", "pred: expected a folder or a file that exists, got '.*none'")


def test_a_file_beside_a_folder(gt: Path, pred: Path) -> None:
    results = place(pred / "a.txt", PRED)
    told(gt, results, "pred: expected a folder as gt is one")
    told(gt / "S-02" / "gt" / "gt.txt", pred, "pred: expected a file as gt is one")


def test_a_folder_without_ground_truth(tmp_path: Path, pred: Path) -> None:
    (tmp_path / "bare").mkdir()
    told(tmp_path / "bare", pred, "gt: expected SEQ/gt/gt.txt or SEQ.txt in '.*bare', got neither$")


def test_one_folder_too_high_is_answered_with_the_right_one(gt: Path, pred: Path, tmp_path: Path) -> None:
    gt.rename(tmp_path / "train")
    told(tmp_path, pred, f"got neither; did you mean {re.escape(str(tmp_path / 'train'))}")


def test_a_sequence_whose_ground_truth_is_kept_back(gt: Path, pred: Path) -> None:
    place(gt / "S-03" / "seqinfo.ini", "[Sequence]\nseqLength=4\n")
    told(gt, pred, "gt: expected gt/gt.txt in each sequence of .*, got none in S-03")
    place(pred / "S-02.txt", PRED)
    assert [it.name for it in find(gt, pred, ["S-02"])] == ["S-02"]


def test_two_results_of_one_sequence_are_not_guessed_between(gt: Path, pred: Path) -> None:
    place(pred / "S-02" / "run1.txt", PRED)
    place(pred / "S-02" / "run2.txt", PRED)
    told(gt, pred, "expected one text file in .*, got run1.txt, run2.txt; call it S-02.txt")
    place(pred / "S-02" / "S-02.txt", PRED)
    place(pred / "S-04.txt", PRED)
    assert find(gt, pred)[0].pred.name == "S-02.txt"


@pytest.mark.parametrize("side", ["gt", "pred"])
def test_an_empty_file_is_an_error_unless_it_is_allowed(side: str, gt: Path, pred: Path) -> None:
    for name in ("S-02", "S-04"):
        place(pred / f"{name}.txt", PRED)
    file = place({"gt": gt / "S-04" / "gt" / "gt.txt", "pred": pred / "S-04.txt"}[side], "")
    with pytest.raises(ValueError, match=f"{re.escape(str(file))}: expected tracks, got an empty file; allow_empty"):
        evaluate_tracks(gt, pred)
    scores = evaluate_tracks(gt, pred, allow_empty=True)
    assert scores["S-04"]["TP"] == 0
    assert scores.combined["FP" if side == "gt" else "FN"] == 1
