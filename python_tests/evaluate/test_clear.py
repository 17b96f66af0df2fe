"""CLEAR MOT on scenes counted by hand."""

from __future__ import annotations

import pytest

from small_scenes import EMPTY, PLACES, overlapping, scene
from svm_ext.evaluate import TrackTable
from svm_ext.evaluate.clear import clear
from svm_ext.evaluate.preprocess import prepare


@pytest.mark.parametrize("share", [0.49, 0.5, 0.51])
def test_a_box_is_found_from_one_half_on(share: float) -> None:
    found = clear(overlapping(share))
    assert found.tp == (share >= 0.5)
    assert found.fn == found.fp == (share < 0.5)
    assert found.overlap == pytest.approx(share if share >= 0.5 else 0)


def test_it_goes_on_with_a_track_rather_than_take_a_better_box() -> None:
    gt = TrackTable.from_frames([[1]] * 2, [[PLACES[0]]] * 2)
    worse = [2, 0, 12, 10]
    pred = TrackTable.from_frames([[5], [5, 6]], [[worse], [worse, PLACES[0]]])
    found = clear(prepare("a", gt, pred, "MOT17"))
    assert (found.switches, found.fp) == (0, 1)
    assert found.overlap == pytest.approx(2 * 8 / 12)


def test_it_counts_a_switch_after_a_gap_but_not_a_return() -> None:
    there, gone = {1: 0}, {1: 4}
    found = clear(scene([there] * 5, [{5: 0}, {5: 3}, {6: 0}, {9: 3}, {6: 0}]))
    assert (found.switches, found.fragments, found.fn, found.fp) == (1, 2, 2, 2)
    found = clear(scene([there, gone, there], [{5: 0}, {5: 4}, {5: 0}]))
    assert (found.switches, found.fragments) == (0, 0)


@pytest.mark.parametrize(("seen", "expected"), [(10, "MT"), (9, "MT"), (8, "PT"), (2, "PT"), (1, "ML"), (0, "ML")])
def test_mostly_is_more_than_four_fifths_and_lost_less_than_one(seen: int, expected: str) -> None:
    pred = [{1: 0}] * seen + [{1: 3}] * (10 - seen)
    found = clear(scene([{1: 0}] * 10, pred)).scores(combined=False)
    assert {name for name in ("MT", "PT", "ML") if found[name]} == {expected}


def test_mota_without_ground_truth() -> None:
    found = clear(scene([{}], [{1: 0, 2: 1}]))
    assert found.scores(combined=False)["MOTA"] == 0
    assert found.scores(combined=True)["MOTA"] == -2


def test_mota_is_below_nothing_where_false_boxes_abound() -> None:
    found = clear(scene([{1: 0}], [{1: 1, 2: 2, 3: 3}])).scores(combined=False)
    assert found["MOTA"] == -3


@pytest.mark.parametrize(("gt", "pred"), EMPTY)
def test_nothing_on_a_side(gt: list[dict[int, int]], pred: list[dict[int, int]]) -> None:
    found = clear(scene(gt, pred))
    assert (found.tp, found.fn, found.fp) == (0, sum(map(len, gt)), sum(map(len, pred)))
    assert found.mostly_lost == sum(map(len, gt))
