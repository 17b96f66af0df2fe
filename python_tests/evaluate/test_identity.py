"""Identity scores on scenes counted by hand."""

from __future__ import annotations

import pytest

from small_scenes import EMPTY, overlapping, scene
from svm_ext.evaluate.identity import identity


@pytest.mark.parametrize("share", [0.49, 0.5, 0.51])
def test_a_box_is_found_from_one_half_on(share: float) -> None:
    found = identity(overlapping(share))
    assert found.tp == (share >= 0.5)
    assert found.fn == found.fp == (share < 0.5)


def test_it_gives_each_person_one_track() -> None:
    """Six frames as track 5, four as track 6, which is on someone else for three."""
    gt = [{1: 0, 2: 1}] * 10
    pred = [{5: 0}] * 6 + [{6: 0}] * 4
    pred = [{**it, 7: 1} for it in pred[:7]] + [{6: 0}] * 3
    found = identity(scene(gt, pred))
    assert (found.tp, found.fn, found.fp) == (6 + 7, 20 - 13, 17 - 13)
    assert found.scores()["IDF1"] == 2 * 13 / (20 + 17)
    assert found.scores()["IDP"] == 13 / 17
    assert found.scores()["IDR"] == 13 / 20


def test_it_looks_at_all_tracks_together() -> None:
    """The greedy choice, 5 for person 1 with three boxes, would leave person 2 with nothing."""
    gt = [{1: 0, 2: 1}] * 5
    pred = [{5: 0}] * 3 + [{5: 1, 6: 0}] * 2
    assert identity(scene(gt, pred)).tp == 4


@pytest.mark.parametrize(("gt", "pred"), EMPTY)
def test_nothing_on_a_side(gt: list[dict[int, int]], pred: list[dict[int, int]]) -> None:
    found = identity(scene(gt, pred))
    assert (found.tp, found.fn, found.fp) == (0, sum(map(len, gt)), sum(map(len, pred)))
    assert found.scores()["IDF1"] == 0
