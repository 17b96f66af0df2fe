"""What each benchmark counts, told on scenes of one frame."""

from __future__ import annotations

import numpy as np
import pytest

from svm_ext.cli import eval_tracks
from svm_ext.evaluate import TrackTable
from svm_ext.evaluate.preprocess import DISTRACTORS, Scene, prepare

BOX = [0, 0, 20, 40]
FAR = [500, 0, 20, 40]


def table(*rows: tuple[int, int, list[float], float, int]) -> TrackTable:
    frame, id, box, mark, label = zip(*rows, strict=True) if rows else ([], [], np.empty((0, 4)), [], [])
    whole = [np.array(column, np.int64) for column in (frame, id, label)]
    return TrackTable.from_columns(whole[0], whole[1], np.array(box, float), np.array(mark, float), whole[2])


def one(rules: str, label: int, mark: float = 1) -> Scene:
    """One person somewhere, one box of this class, and a result on each."""
    gt = table((1, 1, FAR, 1, 1), (1, 2, BOX, mark, label))
    return prepare("a", gt, table((1, 1, FAR, 1, -1), (1, 2, BOX, 1, -1)), rules)


def sizes(scene: Scene) -> tuple[int, int]:
    gt, pred = scene.counts()
    return int(gt.sum()), int(pred.sum())


def test_a_distractor_takes_its_result_with_it() -> None:
    found = {name: [label for label in range(1, 14) if sizes(one(name, label)) == (1, 1)] for name in DISTRACTORS}
    assert found == {"MOT15": [], "MOT17": [2, 7, 8, 12], "MOT20": [2, 6, 7, 8, 12]}


@pytest.mark.parametrize("rules", ["MOT17", "MOT20"])
def test_another_class_leaves_its_result_as_a_false_one(rules: str) -> None:
    others = [label for label in range(1, 14) if sizes(one(rules, label)) == (1, 2)]
    assert others == sorted(set(range(2, 14)) - set(DISTRACTORS[rules]))


@pytest.mark.parametrize("rules", list(DISTRACTORS))
def test_what_is_marked_is_not_to_be_found(rules: str) -> None:
    assert sizes(one(rules, 1)) == (2, 2)
    assert sizes(one(rules, 1, mark=0)) == (1, 2)
    assert sizes(one(rules, 1, mark=0.9)) == (1, 2)  # TrackEval cuts the mark to a whole number


def test_the_person_before_the_reflection_keeps_the_result() -> None:
    """One result, two boxes that it covers: it goes to the one that it covers better."""
    gt = table((1, 1, BOX, 1, 1), (1, 2, [2, 0, 20, 40], 1, 12))
    assert sizes(prepare("a", gt, table((1, 1, BOX, 1, -1)), "MOT17")) == (1, 1)
    assert sizes(prepare("a", gt, table((1, 1, [2, 0, 20, 40], 1, -1)), "MOT17")) == (1, 0)


@pytest.mark.parametrize(("shift", "kept"), [(0, 0), (10, 1), (20 / 3, 0), (6.7, 1)])
def test_half_an_overlap_is_enough_for_a_distractor(shift: float, kept: int) -> None:
    """Boxes 20 wide that are 20/3 apart share exactly half of what they cover."""
    gt = table((1, 2, BOX, 1, 8))
    assert sizes(prepare("a", gt, table((1, 1, [shift, 0, 20, 40], 1, -1)), "MOT17")) == (0, kept)


def test_ids_get_numbers_without_gaps_in_their_order() -> None:
    gt = table((1, 70, BOX, 1, 1), (1, 3, FAR, 1, 1), (2, 9, BOX, 0, 1), (2, 70, FAR, 1, 1))
    scene = prepare("a", gt, table((2, 5, BOX, 1, 1)), "MOT17")
    assert [frame.gt.tolist() for frame in scene.frames] == [[1, 0], [1]]
    assert [frame.pred.tolist() for frame in scene.frames] == [[], [0]]
    assert [frame.similarity.shape for frame in scene.frames] == [(2, 0), (1, 1)]
    assert (scene.gt_tracks, scene.pred_tracks, len(scene.both)) == (2, 1, 1)


def test_length_is_given_or_the_last_box() -> None:
    gt, pred = table((2, 1, BOX, 1, 1)), table((7, 1, BOX, 1, 1))
    assert prepare("a", gt, pred, "MOT17").length == 7
    assert prepare("a", gt, pred, "MOT17", 30).length == 30
    assert len(prepare("a", gt, pred, "MOT17", 30).frames) == 2


def test_nothing_at_all() -> None:
    scene = prepare("a", table(), table(), "MOT20")
    assert (scene.frames, scene.gt_tracks, scene.pred_tracks, scene.length) == ([], 0, 0, 0)
    assert sizes(scene) == (0, 0)


@pytest.mark.parametrize("label", [0, -4, 14])
def test_unknown_classes_point_to_the_benchmark_without(label: int) -> None:
    with pytest.raises(
        ValueError, match=f"gt: expected MOT17's classes 1 to 13 in a, got {label} in frame 1; MOT15 is"
    ):
        one("MOT17", label)
    assert sizes(one("MOT15", label)) == (2, 2)


def test_results_of_other_classes_are_refused() -> None:
    pred = table((1, 1, BOX, 1, 1), (4, 1, BOX, 1, 3))
    with pytest.raises(ValueError, match="pred: expected only pedestrians in a .*, got 3 in frame 4"):
        prepare("a", table(), pred, "MOT20")
    assert sizes(prepare("a", table(), pred, "MOT15")) == (0, 2)


def test_the_command_offers_the_benchmarks_that_there_are() -> None:
    assert set(eval_tracks.BENCHMARKS) == set(DISTRACTORS)
