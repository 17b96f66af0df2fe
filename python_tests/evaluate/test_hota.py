"""HOTA: its curves are TrackEval's, and cases done by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import track_oracle
from small_scenes import EMPTY, PLACES, overlapping, scene
from svm_ext.evaluate import TrackTable, read_tracks
from svm_ext.evaluate.hota import ALPHAS, hota
from svm_ext.evaluate.preprocess import prepare
from track_oracle import random_rows


@pytest.mark.parametrize("seed", range(4))
def test_curves_are_trackevals_at_every_threshold(seed: int, tmp_path: Path) -> None:
    rows = random_rows(seed, people=10, grid=[0.0, 5.0][seed % 2])
    rows.write(tmp_path, "a")
    gt = read_tracks(tmp_path / "gt" / "a" / "gt" / "gt.txt", ground_truth=True)
    ours = hota(prepare("a", gt, read_tracks(tmp_path / "pred" / "a.txt"), "MOT17"))
    theirs = track_oracle.trackeval_scores(tmp_path, {"a": rows.frames}, "MOT17")["a"]["HOTA"]
    for name, curve in ours.curves().items():
        np.testing.assert_allclose(curve, theirs[name], rtol=0, atol=1e-12, err_msg=name)
    for name in ("tp", "fn", "fp"):
        np.testing.assert_array_equal(getattr(ours, name), theirs[f"HOTA_{name.upper()}"])


@pytest.mark.parametrize("share", [0.05, 0.35, 0.5, 0.95, 1.0])
def test_hota_counts_a_box_up_to_its_overlap(share: float) -> None:
    """A threshold that is met exactly is met."""
    found = hota(overlapping(share))
    np.testing.assert_array_equal(found.tp, np.arange(19) < round(share * 20))
    np.testing.assert_array_equal(found.tp + found.fn, np.ones(19))
    assert len(ALPHAS) == 19


def test_hota_of_half_a_track() -> None:
    """One of two people is followed for half the time: DetA 1/4, and where he is found the track is half of him."""
    found = hota(scene([{1: 0, 2: 1}] * 4, [{7: 0}] * 2 + [{}] * 2)).scores()
    assert found["DetA"] == found["DetRe"] == 0.25
    assert found["DetPr"] == found["LocA"] == found["AssPr"] == 1
    assert found["AssA"] == found["AssRe"] == 0.5
    assert found["HOTA"] == pytest.approx(0.125**0.5)


def test_hota_prefers_the_track_that_fits_all_through() -> None:
    """In the first frame a stranger covers the person better; the track that stays with him is matched all the same."""
    own, stranger = [1, 0, 11, 10], [0, 0, 10, 10]
    gt = TrackTable.from_frames([[1]] * 5, [[PLACES[0]]] * 5)
    pred = TrackTable.from_frames([[1, 2]] + [[1]] * 4, [[own, stranger]] + [[own]] * 4)
    found = hota(prepare("a", gt, pred, "MOT17"))
    assert found.association[0] / found.tp[0] == 1


@pytest.mark.parametrize(("gt", "pred"), EMPTY)
def test_nothing_on_a_side(gt: list[dict[int, int]], pred: list[dict[int, int]]) -> None:
    found = hota(scene(gt, pred))
    assert found.scores() == {**dict.fromkeys(found.scores(), 0.0), "LocA": 1.0}
    assert found.fn.tolist() == [sum(map(len, gt))] * 19
    assert found.fp.tolist() == [sum(map(len, pred))] * 19
