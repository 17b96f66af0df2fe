"""The scores of tracks: TrackEval's to the last digit, on generated and on real scenes, and cases done by hand."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

import track_oracle
from svm_ext.evaluate import TrackTable, evaluate_tracks, read_tracks
from track_oracle import Rows, random_rows

BENCHMARKS = ["MOT15", "MOT17", "MOT20"]


def check(folder: Path, sequences: dict[str, Rows], benchmark: str) -> dict[str, dict[str, float]]:
    """Write the sequences, compare every score with TrackEval's, and return ours."""
    for name, rows in sequences.items():
        rows.write(folder, name)
    ours = evaluate_tracks(folder / "gt", folder / "pred", benchmark=benchmark, allow_empty=True).as_dict()
    lengths = {name: rows.frames for name, rows in sequences.items()}
    track_oracle.assert_same_scores(ours, track_oracle.trackeval_scores(folder, lengths, benchmark))
    return ours


@pytest.mark.parametrize("rules", BENCHMARKS)
@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_trackeval(rules: str, seed: int, tmp_path: Path) -> None:
    sequences = {
        "crowded": random_rows(10 * seed, people=14),
        "short": random_rows(10 * seed + 1, frames=9, people=4),
        "tied": random_rows(10 * seed + 2, grid=5.0),
    }
    scores = check(tmp_path, sequences, rules)
    assert 0 < scores["COMBINED"]["HOTA"] < 1


@pytest.mark.parametrize("grid", [4.0, 10.0])
@pytest.mark.parametrize("seed", range(4))
def test_agrees_where_overlaps_tie_or_meet_the_threshold(grid: float, seed: int, tmp_path: Path) -> None:
    check(tmp_path, {"tied": random_rows(100 + seed, grid=grid, people=12)}, "MOT17")


def test_benchmarks_differ_where_there_are_distractors(tmp_path: Path) -> None:
    random_rows(3, people=20).write(tmp_path, "a")
    found = {name: evaluate_tracks(tmp_path / "gt", tmp_path / "pred", benchmark=name) for name in BENCHMARKS}
    assert len({it.combined["FP"] for it in found.values()}) == 3


def perturbed(gt: list[list[float]], seed: int) -> list[list[float]]:
    """Ground truth as a bad tracker would see it."""
    rng = np.random.default_rng(seed)
    swapped = {row[1]: row[1] for row in gt}
    found = []
    for frame in sorted({row[0] for row in gt}):
        if rng.random() < 0.1:
            one, other = rng.choice(sorted(swapped), 2, replace=False)
            swapped[one], swapped[other] = swapped[other], swapped[one]
        for row in gt:
            if row[0] == frame and rng.random() < 0.85:
                box = np.array(row[2:6]) + rng.normal(0, 4, 4)
                found.append([frame, swapped[row[1]], *box, 1, -1, -1, -1])
    return found


@pytest.mark.parametrize("seed", range(2))
def test_agrees_on_a_real_sequence(seed: int, pets: Path, tmp_path: Path) -> None:
    table = read_tracks(pets / "gt" / "gt.txt", ground_truth=True)
    columns = (table.frame, table.id, table.box, table.mark)
    rows = Rows([[t, id, *box, mark, -4.2, -7.4, 0] for t, id, box, mark in zip(*columns, strict=True)], frames=795)
    rows.pred = perturbed(rows.gt, seed)
    scores = check(tmp_path, {"PETS09-S2L1": rows}, "MOT15")["PETS09-S2L1"]
    assert (scores["GT_Dets"], scores["GT_IDs"]) == (4476, 19)  # of 4650 boxes, 174 are not to be found
    assert scores["IDSW"] > 50


def test_real_ground_truth_against_itself_is_perfect(pets: Path, tmp_path: Path) -> None:
    lines = (pets / "gt" / "gt_480x360.txt").read_text().splitlines(keepends=True)
    truth = tmp_path / "gt.txt"
    truth.write_text("".join(line for line in lines if line.split(",")[6] == "1"))
    scores = evaluate_tracks(truth, truth, benchmark="MOT15").combined
    assert {key: scores[key] for key in track_oracle.FLOATS} == pytest.approx(dict.fromkeys(track_oracle.FLOATS, 1.0))
    assert scores["IDSW"] == scores["FP"] == scores["FN"] == 0
    assert scores["Frames"] == 795


def empty(of: Rows, *, gt: bool = False, pred: bool = False) -> Rows:
    return Rows([] if gt else of.gt, [] if pred else of.pred, of.frames)


@pytest.mark.parametrize("rules", BENCHMARKS)
def test_agrees_where_one_side_is_empty(rules: str, tmp_path: Path) -> None:
    some = random_rows(5)
    sequences = {
        "no_gt": empty(some, gt=True),
        "no_pred": empty(some, pred=True),
        "nothing": Rows(frames=3),
        "whole": some,
    }
    scores = check(tmp_path, sequences, rules)
    assert scores["no_gt"]["MOTA"] == scores["no_pred"]["MOTA"] == 0
    assert scores["no_gt"]["FP"] > 0
    assert scores["nothing"]["LocA"] == 1


@pytest.mark.parametrize("sides", [{"gt": True}, {"pred": True}, {"gt": True, "pred": True}])
def test_agrees_where_a_whole_side_is_empty(sides: dict[str, bool], tmp_path: Path) -> None:
    check(tmp_path, {"a": empty(random_rows(6), **sides), "b": empty(random_rows(7), **sides)}, "MOT17")


def test_agrees_on_one_frame(tmp_path: Path) -> None:
    box = [10, 20, 30, 60]
    rows = Rows([[1, 3, *box, 1, 1, 1]], [[1, 7, *box, 0.9, -1, -1, -1]], 1)
    scores = check(tmp_path, {"one": rows}, "MOT17")["one"]
    assert scores["HOTA"] == scores["MOTA"] == scores["IDF1"] == 1


def test_agrees_where_only_distractors_are_found(tmp_path: Path) -> None:
    """Everything that the tracker saw lies on reflections, so that after preprocessing nothing is left of it."""
    gt = [[t, 1, 0, 0, 20, 40, 0, 12, 1] for t in range(1, 6)] + [[t, 2, 90, 0, 20, 40, 1, 1, 1] for t in range(1, 6)]
    pred = [[t, 4, 1, 1, 20, 40, 1, -1, -1, -1] for t in range(1, 6)]
    scores = check(tmp_path, {"mirror": Rows(gt, pred, 5)}, "MOT17")["mirror"]
    assert (scores["Dets"], scores["FP"], scores["FN"], scores["ML"]) == (0, 0, 5, 1)


def test_agrees_on_boxes_without_area_and_turned_over(tmp_path: Path) -> None:
    gt = [[1, 1, 0, 0, 20, 40, 1, 1, 1], [1, 2, 50, 0, 0, 40, 1, 1, 1], [1, 3, 80, 0, 20, 40, 1, 1, 1]]
    pred = [[1, 1, 20, 40, -20, -40, 1], [1, 2, 50, 0, 0, 40, 1], [1, 3, 80, 0, 20, 40, 1]]
    assert check(tmp_path, {"a": Rows(gt, pred, 1)}, "MOT17")["a"]["TP"] == 1


def test_agrees_on_frames_without_boxes_between(tmp_path: Path) -> None:
    """A gap in which one side is silent does not interrupt a track in TrackEval; a missed match does."""
    boxes = {t: [[t, 1, 0, 0, 20, 40, 1, 1, 1]] for t in (1, 2, 5, 6, 9)}
    gt = [row for rows in boxes.values() for row in rows]
    pred = [[1, 4, 0, 0, 20, 40, 1], [5, 4, 0, 0, 20, 40, 1], [6, 9, 300, 0, 20, 40, 1], [9, 5, 0, 0, 20, 40, 1]]
    scores = check(tmp_path, {"gaps": Rows(gt, pred, 12)}, "MOT17")["gaps"]
    assert (scores["IDSW"], scores["Frag"]) == (1, 1)


def test_a_switch_by_hand() -> None:
    """One person, four frames, another id from the third on."""
    here = [[0, 0, 10, 10]]
    gt = TrackTable.from_frames([[1]] * 4, [here] * 4)
    pred = TrackTable.from_frames([[5], [5], [6], [6]], [here] * 4)
    scores = evaluate_tracks({"a": gt}, {"a": pred})["a"]
    assert (scores["IDSW"], scores["MT"], scores["Frag"]) == (1, 1, 0)
    assert scores["MOTA"] == 0.75
    assert scores["IDF1"] == 0.5
    assert scores["DetA"] == 1
    assert scores["AssA"] == 0.5
    assert scores["HOTA"] == pytest.approx(0.5**0.5)


def test_tables_in_memory_score_as_files_do(tmp_path: Path) -> None:
    rows = random_rows(8, classes=False, grid=1.0)
    rows.gt = [row for row in rows.gt if row[6]]
    rows.write(tmp_path, "a")
    tables = []
    for side in (rows.gt, rows.pred):
        per_frame = [[row for row in side if row[0] == t] for t in range(1, rows.frames + 1)]
        boxes = [[[x, y, x + w, y + h] for _, _, x, y, w, h, *_ in one] for one in per_frame]
        tables.append(TrackTable.from_frames([[row[1] for row in one] for one in per_frame], boxes))
    gt, pred = tables
    from_files = evaluate_tracks(tmp_path / "gt", tmp_path / "pred").combined
    for benchmark in BENCHMARKS:
        found = evaluate_tracks({"a": gt}, {"a": pred}, benchmark=benchmark).combined
        assert {**found, "Frames": rows.frames} == from_files


def test_combined_of_equal_sequences_is_each_of_them(tmp_path: Path) -> None:
    rows = random_rows(9)
    for name in ("a", "b"):
        rows.write(tmp_path, name)
    result = evaluate_tracks(tmp_path / "gt", tmp_path / "pred")
    assert result["COMBINED"]["IDSW"] == 2 * result["a"]["IDSW"]
    fractions = {key: result["a"][key] for key in track_oracle.FLOATS}
    assert {key: result.combined[key] for key in track_oracle.FLOATS} == pytest.approx(fractions, rel=1e-14)


def test_an_order_of_lines_does_not_matter(tmp_path: Path) -> None:
    rows = random_rows(11)
    rows.write(tmp_path, "a")
    before = evaluate_tracks(tmp_path / "gt", tmp_path / "pred").combined
    rows.gt.reverse()
    rows.pred.reverse()
    rows.write(tmp_path, "a")
    assert evaluate_tracks(tmp_path / "gt", tmp_path / "pred").combined == pytest.approx(before, rel=1e-12)


def test_ids_and_frames_may_be_large(tmp_path: Path) -> None:
    """Nothing is as large as the largest id or frame number in the files."""
    gt = TrackTable.from_columns(*columns([10**9, 10**12, 0, 0, 9, 9]), np.ones(1), np.ones(1, int))
    assert evaluate_tracks({"a": gt}, {"a": gt}).combined["HOTA"] == 1


def columns(*rows: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    table = np.array(rows)
    return table[:, 0], table[:, 1], table[:, 2:].astype(float)


def test_result_gives_names_json_and_a_table(tmp_path: Path) -> None:
    random_rows(1).write(tmp_path, "first")
    random_rows(2).write(tmp_path, "second")
    told = []
    result = evaluate_tracks(tmp_path / "gt", tmp_path / "pred", on_sequence=lambda *it: told.append(it))
    assert told == [("first", 0, 2), ("second", 1, 2)]
    assert list(result.as_dict()) == ["first", "second", "COMBINED"]
    assert result["first"] is result.sequences["first"]
    assert json.loads(json.dumps(result.as_dict())) == result.as_dict()
    head, *lines = str(result).splitlines()
    assert " ".join(head.split()) == "sequence HOTA DetA AssA MOTA MOTP IDF1 IDSW FP FN Frag MT PT ML"
    assert [line.split()[0] for line in lines] == ["first", "second", "COMBINED"]
    assert lines[2].split()[1] == f"{result.combined['HOTA']:.4f}"


def test_some_sequences_can_be_chosen(tmp_path: Path) -> None:
    for seed, name in enumerate("abc"):
        random_rows(seed).write(tmp_path, name)
    (tmp_path / "pred" / "b.txt").unlink()
    result = evaluate_tracks(tmp_path / "gt", tmp_path / "pred", sequences=["c", "a"])
    assert list(result.sequences) == ["a", "c"]


def test_what_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    table = TrackTable.from_frames([[1]], [[[0, 0, 9, 9]]])
    with pytest.raises(ValueError, match="benchmark: expected one of MOT15, MOT17, MOT20, got 'KITTI'"):
        evaluate_tracks({"a": table}, {"a": table}, benchmark="KITTI")
    with pytest.raises(ValueError, match="pred: expected tables where gt is tables"):
        evaluate_tracks({"a": table}, tmp_path)
    with pytest.raises(
        ValueError, match=r"pred: expected results for every sequence of gt, got none for b; .*pred\['b'\]"
    ):
        evaluate_tracks({"a": table, "b": table}, {"a": table})
    with pytest.raises(ValueError, match="COMBINED, which is the name of their sum"):
        evaluate_tracks({"COMBINED": table}, {"COMBINED": table})
    with pytest.raises(ValueError, match="expected sequences named as in gt"):
        evaluate_tracks({}, {})


def test_a_thousand_frames_of_fifty_take_a_moment(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, [1920, 1080], (50, 2))
    ids, boxes, seen = [np.arange(50)] * 1000, [], []
    for frame in range(1000):
        here = corners + frame * 0.3
        boxes.append(np.concatenate([here, here + [40, 100]], axis=1))
        seen.append(boxes[-1] + rng.normal(0, 4, (50, 4)))
    gt, pred = TrackTable.from_frames(ids, boxes), TrackTable.from_frames(ids, seen)
    evaluate_tracks({"a": gt}, {"a": gt})  # SciPy is there
    start = time.process_time()
    assert evaluate_tracks({"a": gt}, {"a": pred}).combined["MOTA"] > 0.5
    assert time.process_time() - start < 1.5
