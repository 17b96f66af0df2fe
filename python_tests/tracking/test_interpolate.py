"""Filling gaps afterwards: the reference's rules, and what it crashes on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from svm_ext.tracking import ByteTracker, interpolate_tracks
from svm_ext.tracking.boxes import xywh_to_xyxy, xyxy_to_xywh
from tracker_scenes import Crowd, detections


def track(frames: list[int], number: int = 1, score: float = 0.5) -> np.ndarray:
    """A track whose box moves 2 right, 1 down and grows by 0.5 a frame."""
    rows = [[f, number, 2.0 * f, 1.0 * f, 40 + 0.5 * f, 100 + 0.5 * f, score] for f in frames]
    return np.array(rows, dtype=float).reshape(-1, 7)


def by_hand(rows: np.ndarray, max_gap: int = 20) -> np.ndarray:
    """The rules told box by box, slowly."""
    found = []
    for number in sorted(set(rows[:, 1])):
        own = sorted(rows[rows[:, 1] == number].tolist())
        if len(own) <= 2:
            continue
        found += own
        for left, right in zip(own, own[1:], strict=False):
            gap = int(right[0] - left[0])
            if len(own) > 5 and 1 < gap < max_gap:
                for step in range(1, gap):
                    box = [a + step / gap * (b - a) for a, b in zip(left[2:6], right[2:6], strict=True)]
                    found.append([left[0] + step, number, *box, 1.0])
    return np.array(sorted(found)).reshape(-1, 7)


def test_a_gap_is_filled_on_the_straight_line():
    found = interpolate_tracks(track([1, 2, 3, 4, 5, 9]))
    assert found[:, 0].tolist() == list(range(1, 10))
    np.testing.assert_allclose(found[:, :6], track(list(range(1, 10)))[:, :6])
    assert found[:, 6].tolist() == [0.5] * 5 + [1.0] * 3 + [0.5]


@pytest.mark.parametrize(
    ("count", "kept", "filled"), [(1, 0, 0), (2, 0, 0), (3, 3, 0), (5, 5, 0), (6, 6, 1), (9, 9, 1)]
)
def test_short_tracks_are_dropped_and_sparse_ones_left_alone(count, kept, filled):
    frames = [*range(1, count), count + 1]  # a gap before the last box
    assert len(interpolate_tracks(track(frames))) == kept + filled


@pytest.mark.parametrize("count", [1, 2])
def test_short_tracks_can_be_kept(count):
    rows = track(list(range(count)))
    assert np.array_equal(interpolate_tracks(rows, keep_short=True), rows)


@pytest.mark.parametrize(("gap", "filled"), [(1, 0), (2, 1), (19, 18), (20, 0), (500, 0)])
def test_only_gaps_below_the_limit_are_filled(gap, filled):
    assert len(interpolate_tracks(track([1, 2, 3, 4, 5, 5 + gap]))) == 6 + filled


def test_the_limit_can_be_moved():
    rows = track([1, 2, 3, 4, 5, 30])
    assert len(interpolate_tracks(rows, max_gap=26)) == 30
    assert len(interpolate_tracks(rows, max_gap=25)) == 6
    assert len(interpolate_tracks(rows, max_gap=1)) == 6


@pytest.mark.parametrize("keep_short", [False, True])
def test_nothing_to_keep_is_no_crash(keep_short):
    """The reference falls over a video in which all tracks are short."""
    short = np.concatenate([track([1, 2], 1), track([5], 2)])
    assert interpolate_tracks(short).shape == (0, 7)
    assert interpolate_tracks(short, keep_short=True).shape == (3, 7)
    for empty in (np.zeros((0, 7)), [], np.zeros((0, 7), dtype=np.float32)):
        found = interpolate_tracks(empty, keep_short=keep_short)
        assert found.shape == (0, 7)
        assert found.dtype == np.float64


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("max_gap", [3, 20])
def test_equals_the_rules_by_hand(seed, max_gap):
    rng = np.random.default_rng(seed)
    rows = []
    for number in rng.choice(100, 12, replace=False) + 1:
        frames = np.flatnonzero(rng.random(80) < rng.choice([0.03, 0.1, 0.5, 0.95]))
        rows += [[frame, number, *rng.uniform(0, 100, 4), rng.random()] for frame in frames]
    rows = rng.permutation(np.array(rows))
    np.testing.assert_allclose(interpolate_tracks(rows, max_gap=max_gap), by_hand(rows, max_gap), atol=1e-12)


def test_the_order_of_the_rows_does_not_matter_and_they_stay_as_they_are():
    rows = np.concatenate([track([3, 4, 5, 6, 7, 12], 2), track([1, 2, 9, 10, 11, 12], 1)])
    kept = rows.copy()
    wanted = interpolate_tracks(rows)
    assert np.array_equal(interpolate_tracks(rows[::-1]), wanted)
    assert np.array_equal(rows, kept)
    assert wanted[:, :2].tolist() == sorted(wanted[:, :2].tolist())


def test_neighbouring_tracks_do_not_run_into_each_other():
    rows = np.concatenate([track([1, 2, 3, 4, 5, 6], 1), track([8, 9, 10, 11, 12, 13], 2)])
    assert len(interpolate_tracks(rows)) == 12


def test_ids_and_frames_may_be_large():
    rows = track([10**9 + t for t in (0, 1, 2, 3, 4, 8)], number=10**12)
    found = interpolate_tracks(rows)
    assert found[:, 0].tolist() == [10**9 + t for t in range(9)]
    assert set(found[:, 1]) == {10**12}


def test_tracks_of_a_tracker_can_be_filled():
    tracker, rows = ByteTracker(), []
    for frame in range(1, 13):
        seen = detections((5.0 * frame, 0)) if frame not in (6, 7) else detections()
        rows.append(tracker.update(seen).rows(frame))
    found = interpolate_tracks(np.concatenate(rows))
    assert found[:, 0].tolist() == list(range(1, 13))
    np.testing.assert_allclose(found[:, 2], 5.0 * np.arange(1, 13), rtol=1e-6)


def test_filling_twice_changes_nothing_more():
    tracker = ByteTracker()
    frames = Crowd(frames=80).frames_of(2)
    rows = np.concatenate([tracker.update(frame).rows(number) for number, frame in enumerate(frames)])
    once = interpolate_tracks(rows)
    assert len(once) > len(rows[np.isin(rows[:, 1], once[:, 1])])
    twice = interpolate_tracks(once)
    np.testing.assert_allclose(twice[:, :6], once[:, :6])


def test_tensors_are_rows_too():
    rows = track([1, 2, 3, 4, 5, 9])
    assert np.array_equal(interpolate_tracks(torch.from_numpy(rows)), interpolate_tracks(rows))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            np.zeros((3, 6)),
            r"rows: expected shape \[n, 7\], got \[3, 6\]; give frame, id, x, y, width, height and score",
        ),
        (np.zeros(7), r"rows: expected shape \[n, 7\], got \[7\]"),
        (np.zeros((1, 10)), r"rows: expected shape \[n, 7\], got \[1, 10\]"),
        (track([1]) * np.nan, "rows: expected finite numbers, got nan"),
        (track([1]) + [0, 0, np.inf, 0, 0, 0, 0], "rows: expected finite numbers, got inf"),
        (track([1]) + [0.5, 0, 0, 0, 0, 0, 0], "rows: expected whole frames and ids, got fractions"),
        (np.concatenate([track([4, 3]), track([3])]), "rows: expected an id once a frame, got id 1 twice in frame 3"),
    ],
)
def test_bad_rows(rows, message):
    with pytest.raises(ValueError, match=message):
        interpolate_tracks(rows)


@pytest.mark.parametrize("max_gap", [0, -1, 2.5, True, None])
def test_bad_gap(max_gap):
    with pytest.raises(ValueError, match="max_gap: expected a whole number of at least 1, got"):
        interpolate_tracks(track([1]), max_gap=max_gap)


@pytest.mark.parametrize("shape", [(4,), (5, 4), (0, 4), (2, 3, 4)])
def test_boxes_turn_around(shape):
    boxes = np.random.default_rng(0).integers(0, 100, shape).astype(float)
    boxes[..., 2:] += boxes[..., :2]
    turned = xyxy_to_xywh(boxes)
    assert turned.shape == shape
    assert np.array_equal(xywh_to_xyxy(turned), boxes)
    assert xyxy_to_xywh(np.array([1, 2, 4, 8])).tolist() == [1, 2, 3, 6]
