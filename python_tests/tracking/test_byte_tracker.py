"""The tracker's rules, one by one and all together against the NumPy baseline and the golden case."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

import benchmark_scripts
import svm_ext
from svm_ext.tracking import ByteTracker, TrackerBank, TrackerRules
from track_oracle import oracle
from tracker_scenes import Crowd, as_tensors, detections, rows_of

NOTHING = detections()
STREET = Path(__file__).parents[3] / "shared/data/pets09_s2l1/det/det_acf_mot15.txt"


def ids_over(tracker: ByteTracker, *frames: np.ndarray) -> list[list[int]]:
    return [tracker.update(frame).ids.tolist() for frame in frames]


def numpy_tracker(**rules: float) -> Any:
    """The benchmark's baseline."""
    oracle("scipy")
    return benchmark_scripts.load("numpy_byte_tracker").NumpyByteTracker(**rules)


def believed(*boxes: tuple[float, ...], **rules: float) -> ByteTracker:
    """A tracker whose first frame had these boxes, which are confirmed for that reason."""
    tracker = ByteTracker(**rules)
    tracker.update(detections(*boxes))
    return tracker


# ---- the reference ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["table", "tensors", "bank"])
def test_golden_case(golden, kind):
    with safe_open(golden("byte_tracker.safetensors"), "np") as file:
        config = json.loads(file.metadata()["config"])
        frames = range(config["frames"])
        given = [(file.get_tensor(f"in/{t}/detections"), file.get_tensor(f"in/{t}/labels")) for t in frames]
        wanted = [[file.get_tensor(f"out/{t}/{name}") for name in ("boxes", "labels", "ids")] for t in frames]
    tracker = ByteTracker(
        high=config["obj_score_high"],
        low=config["obj_score_low"],
        init=config["init_track_thr"],
        match_high=config["match_iou_high"],
        match_low=config["match_iou_low"],
        match_tentative=config["match_iou_tentative"],
        confirm=config["num_tentatives"],
        retain=config["num_frames_retain"],
    )
    bank = TrackerBank(3, tracker.rules)
    for (table, labels), (boxes, wanted_labels, ids) in zip(given, wanted, strict=True):
        table = np.concatenate([table, labels[:, None].astype(np.float32)], axis=1)
        if kind == "bank":
            found = bank.update([table], [1])[0]
        else:
            found = tracker.update(as_tensors(table) if kind == "tensors" else table)
        assert np.array_equal(found.ids, ids + 1)  # the reference counts from 0
        assert np.array_equal(found.boxes, boxes[:, :4])
        assert np.array_equal(found.scores, boxes[:, 4])
        assert np.array_equal(found.labels, wanted_labels)


RULES = [
    {},
    {"high": 0.6},  # below `init`: a score of 0.65 starts a track only beside others
    {"high": 0.5, "low": 0.4, "init": 0.9},
    {"match_high": 0.4, "match_low": 0.2, "match_tentative": 0.7},
    {"match_high": 0.0, "match_low": 0.0, "match_tentative": 0.0},
    {"confirm": 1, "retain": 1},
    {"confirm": 6, "retain": 4},
    {"low": 0.7},  # nothing is poor
]
CROWDS = [Crowd(), Crowd(people=40, width=300), Crowd(labels=3), Crowd(people=3, false=0.2, empty=0.4, misses=0.5)]


@pytest.mark.parametrize("crowd", CROWDS, ids=["plain", "dense", "classes", "sparse"])
@pytest.mark.parametrize("rules", RULES, ids=lambda rules: ",".join(f"{k}={v}" for k, v in rules.items()) or "default")
def test_equals_the_baseline(crowd, rules):
    baseline, tracker = numpy_tracker(**rules), ByteTracker(**rules)
    for frame in crowd.frames_of(seed=len(str(rules))):
        rows, ids = baseline.update(frame[:, :5], frame[:, 5].astype(np.int64))
        found = tracker.update(frame)
        assert found.ids.tolist() == ids.tolist()
        assert np.array_equal(found.boxes, frame[rows, :4])
    assert tracker.alive == len(baseline.tracks)


def test_equals_the_baseline_on_a_real_street():
    """Public detections of MOT15's PETS09-S2L1, scores brought between 0 and 1."""
    if not STREET.exists():
        required = os.environ.get("CI") == "true" or os.environ.get("SVM_EXT_REQUIRE_DATA") == "1"
        (pytest.fail if required else pytest.skip)(f"DATA MISSING: no {STREET}")
    table = np.loadtxt(STREET, delimiter=",")
    corners = np.concatenate([table[:, 2:4], table[:, 2:4] + table[:, 4:6], table[:, 6:7] / 100], axis=1)
    baseline, tracker = numpy_tracker(high=0.5), ByteTracker(high=0.5)
    for number in range(1, int(table[:, 0].max()) + 1):
        frame = corners[table[:, 0] == number].astype(np.float32)
        assert tracker.update(frame).ids.tolist() == baseline.update(frame)[1].tolist()
    assert baseline.next_id > 20


# ---- rules, one by one -----------------------------------------------------------------------------------------------


def test_ids_start_at_one_in_every_tracker():
    first, second = ByteTracker(), ByteTracker()
    assert ids_over(first, detections((0, 0), (300, 0))) == [[1, 2]]
    assert ids_over(second, detections((0, 0))) == [[1]]
    first.reset()
    assert ids_over(first, detections((0, 0))) == [[1]]


def test_ids_are_never_given_twice():
    tracker = ByteTracker()
    seen = [tracker.update(detections((2000.0 * t, 0))).ids.tolist() for t in range(50)]
    assert seen == [[t + 1] for t in range(50)]


def test_tracks_of_the_first_frame_survive_a_miss_others_do_not():
    at_once = believed((0, 0))
    assert ids_over(at_once, detections((900, 0)), detections((0, 0))) == [[2], [1]]
    later = ByteTracker()
    later.update(NOTHING)
    assert ids_over(later, detections((0, 0)), detections((900, 0)), detections((0, 0))) == [[1], [2], [3]]


def test_tentative_tracks_are_reported():
    assert ids_over(believed((0, 0)), detections((0, 0), (300, 0))) == [[1, 2]]


@pytest.mark.parametrize("confirm", [1, 2, 3, 5])
def test_a_track_is_confirmed_with_its_boxes(confirm):
    for held in range(1, 8):
        tracker = ByteTracker(confirm=confirm)
        tracker.update(NOTHING)
        for _ in range(held):
            tracker.update(detections((0, 0)))
        tracker.update(detections((900, 0)))  # a miss
        survives = tracker.update(detections((0, 0))).ids.tolist() == [1]
        assert survives == (held >= max(confirm, 2))  # whoever has one box only is tentative, whatever the rule says


@pytest.mark.parametrize("retain", [1, 2, 7])
def test_a_lost_track_is_kept_for_so_many_frames(retain):
    for missed in range(retain + 2):
        tracker = believed((0, 0), retain=retain)
        for _ in range(missed):
            tracker.update(NOTHING)
        [[found]] = ids_over(tracker, detections((0, 0)))
        assert found == (1 if missed < retain else 2)


def test_poor_detections_continue_what_was_just_seen_and_start_nothing():
    tracker = believed((0, 0))
    assert ids_over(tracker, detections((0, 0, 0.3), (300, 0, 0.3))) == [[1]]
    tracker.update(NOTHING)
    assert ids_over(tracker, detections((0, 0, 0.3))) == [[]]  # lost a frame ago
    assert ids_over(tracker, detections((0, 0, 0.9))) == [[1]]


def test_poor_detections_do_not_continue_tentative_tracks():
    tracker = believed((0, 0))
    assert ids_over(tracker, detections((0, 0), (300, 0)), detections((0, 0), (300, 0, 0.5))) == [[1, 2], [1]]


@pytest.mark.parametrize(("score", "kind"), [(0.1, "ignored"), (0.11, "poor"), (0.7, "poor"), (0.71, "good")])
def test_scores_at_the_thresholds(score, kind):
    """A score that equals a threshold is not above it, in single precision as detectors give it."""
    found = believed((0, 0)).update(detections((0, 0, score), (300, 0, score))).ids.tolist()
    assert found == {"ignored": [], "poor": [1], "good": [1, 2]}[kind]


def test_init_counts_only_where_there_is_no_track():
    """The reference's rule: beside other tracks every good detection starts one."""
    tracker = ByteTracker(high=0.5, init=0.8)
    assert ids_over(tracker, detections((0, 0, 0.6)), detections((0, 0, 0.9))) == [[], [1]]
    assert ids_over(tracker, detections((0, 0), (300, 0, 0.6))) == [[1, 2]]


def test_overlap_is_weighted_with_the_score_for_good_detections_only():
    half = (0, 0, 40, 60, 0.9)  # 0.6 of a track's box
    assert ids_over(believed((0, 0), match_high=0.5), detections(half)) == [[1]]
    assert ids_over(believed((0, 0), match_high=0.55), detections(half)) == [[2]]
    assert ids_over(believed((0, 0), match_low=0.59), detections((0, 0, 40, 60, 0.5))) == [[1]]
    assert ids_over(believed((0, 0), match_low=0.61), detections((0, 0, 40, 60, 0.5))) == [[]]


def test_labels_do_not_mix():
    tracker = ByteTracker(match_high=0.0)
    person = np.append(detections((0, 0))[0], 0)[None]
    car = np.append(detections((0, 0))[0], 7)[None]
    assert ids_over(tracker, person, car) == [[1], [2]]
    found = tracker.update(np.concatenate([car, person]))
    assert dict(zip(found.ids.tolist(), found.labels.tolist(), strict=True)) == {1: 0, 2: 7}


def test_pairs_are_chosen_as_a_whole_and_dear_ones_cost_the_others_nothing():
    """Solving first and dropping pairs beyond the limit afterwards gives other ids.

    Overlaps: first track .85 and .18, second track .72 and .03. Without a limit the first track is worth more with
    the far detection, where the pair is too dear and is dropped, and the near detection goes to the second track.
    """

    def square(x: float) -> tuple[float, ...]:
        return (x, 0, x + 100, 100, 0.9)

    tracker = believed(square(0), square(24), match_high=0.3)
    found = tracker.update(detections(square(8), square(-70)))
    assert dict(zip(found.boxes[:, 0].tolist(), found.ids.tolist(), strict=True)) == {8: 1, -70: 3}


def test_order_of_the_result():
    """Continued tracks by row, then what tentative tracks and new ones got, then poor detections."""
    tracker = believed((0, 0), (200, 0))
    tracker.update(detections((0, 0), (200, 0), (400, 0)))  # 3 is tentative
    found = tracker.update(detections((0, 0, 0.5), (600, 0), (400, 0), (200, 0)))
    assert found.ids.tolist() == [2, 4, 3, 1]
    assert found.boxes[:, 0].tolist() == [200, 600, 400, 0]


def test_a_frame_without_detections_predicts_nothing():
    """The reference's quirk: after an empty frame a track is one step behind, after a frame of others' boxes not."""
    walk = [detections((10.0 * t, 0)) for t in range(12)]
    expected = {}
    for name, gap in (("empty", NOTHING), ("others", detections((5000, 5000, 0.2)))):
        tracker = ByteTracker()
        for frame in walk:
            tracker.update(frame)
        tracker.update(gap)
        tracker.update(detections((5000, 5000, 0.2)))
        expected[name] = tracker.snapshot()["filters"][0, 0, 0].item()
    assert expected["others"] - expected["empty"] == pytest.approx(10, abs=1)


def test_a_lost_track_grows_no_further():
    tracker = ByteTracker()
    for t in range(10):
        tracker.update(np.array([[0, 0, 40 + 4 * t, 100 + 10 * t, 0.9]], dtype=np.float32))
    heights = []
    for _ in range(5):
        tracker.update(detections((5000, 5000, 0.2)))
        heights.append(tracker.snapshot()["filters"][0, 3, 0].item())
    assert heights[0] > 195  # the first prediction still moves on
    assert np.ptp(heights) < 1e-9


def test_boxes_without_area_are_tracked():
    """No height, no width, neither: each keeps its number while it overlaps nothing, and harms nobody else's."""
    flat, thin, dot = (10, 10, 50, 10, 0.9), (200, 10, 200, 90, 0.9), (400, 10, 400, 10, 0.9)
    tracker = ByteTracker()
    frames = [tracker.update(detections(flat, thin, dot, (600, 0))) for _ in range(40)]
    assert all(len(found) == 4 for found in frames)
    assert {found.ids[found.boxes[:, 0] == 600].item() for found in frames} == {4}
    assert torch.isfinite(tracker.snapshot()["filters"]).all()


def test_a_track_survives_a_flat_box():
    """A box without height says nothing about the aspect: it must not throw the track off."""
    tracker = ByteTracker(match_low=0.0)
    for _ in range(5):
        tracker.update(detections((0, 0)))
    state = tracker.snapshot()
    state["filters"][0, 3, 0] = 1e-9  # as after many flat boxes
    tracker.restore(state)
    tracker.update(detections((0, 0)))
    assert torch.isfinite(tracker.snapshot()["filters"]).all()
    assert tracker.snapshot()["filters"][0, 2, 0].item() == pytest.approx(0.4, abs=0.05)


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1e6, 1e30])
def test_boxes_of_any_scale(size):
    tracker = ByteTracker()
    box = np.array([[0, 0, 0.4 * size, size, 0.9]])
    for _ in range(50):
        tracker.update(box)
        tracker.update(np.concatenate([box, box + [size, size, size, size, 0]]))
    assert torch.isfinite(tracker.snapshot()["filters"]).all()


# ---- what goes in and out --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_tensors_come_back_in_their_type(dtype):
    found = ByteTracker().update(as_tensors(torch.tensor([[0, 0, 8, 8, 0.875], [1, 1, 2, 2, 0.5]], dtype=dtype)))
    assert found.boxes.dtype == found.scores.dtype == dtype
    assert found.ids.dtype == found.labels.dtype == torch.int64
    assert found.predicted.dtype == torch.bool
    assert found.boxes.tolist() == [[0, 0, 8, 8]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_arrays_come_back_in_their_type(dtype):
    found = ByteTracker().update(np.array([[0, 0, 8, 8, 0.9, 3]], dtype=dtype))
    assert found.boxes.dtype == found.scores.dtype == dtype
    assert found.ids.dtype == found.labels.dtype == np.int64
    assert found.labels.tolist() == [3]


def test_boxes_come_back_to_the_last_bit():
    """In double precision too, although pairs are found in single precision."""
    box = np.array([[0.1, 0.2, 10.30000000001, 20.4, 0.9]])
    found = ByteTracker().update(box)
    assert np.array_equal(found.boxes, box[:, :4])
    assert found.boxes.base is None or not np.shares_memory(found.boxes, box)


def test_lists_of_rows_and_nothing_at_all():
    tracker = ByteTracker()
    assert tracker.update([[0, 0, 40, 100, 0.9]]).ids.tolist() == [1]
    for nothing in ([], np.zeros((0, 5)), np.zeros((0, 6)), torch.zeros(0, 5), as_tensors(np.zeros((0, 6)))):
        assert len(tracker.update(nothing)) == 0
        assert tuple(tracker.update(nothing).boxes.shape) == (0, 4)


def test_tensors_with_gradients_and_odd_strides():
    table = torch.rand(6, 10, requires_grad=True).mul(100)
    frame = as_tensors(table.detach().t()[:, :5].clone())
    frame.boxes = torch.stack([frame.boxes[:, 0], frame.boxes[:, 1]] * 2, dim=0).t().requires_grad_()
    frame.scores = torch.full((20,), 0.9)[::2]
    found = ByteTracker().update(frame)
    assert len(found) == 10
    assert not found.boxes.requires_grad


def test_rows_for_files():
    tracker = ByteTracker()
    for frame in (detections((5, 7)), as_tensors(detections((5, 7)))):
        rows = tracker.update(frame).rows(12)
        assert rows.dtype == np.float64
        assert rows.tolist() == [[12, 1, 5, 7, 40, 100, pytest.approx(0.9)]]
    assert tracker.update(NOTHING).rows(3).shape == (0, 7)


def test_names_and_text():
    assert svm_ext.ByteTracker is ByteTracker
    assert svm_ext.TrackerBank is TrackerBank
    tracker = believed((0, 0), (300, 0))
    assert repr(tracker) == "ByteTracker(2 tracks)"
    assert tracker.rules == TrackerRules()
    assert ByteTracker(0.6, 0.2).rules == TrackerRules(high=0.6, low=0.2)


# ---- filling gaps while they last ------------------------------------------------------------------------------------


def test_coasting_reports_lost_tracks_where_they_are_expected():
    tracker = ByteTracker()
    for t in range(12):
        tracker.update(detections((10.0 * t, 50, 0.8)))
    for gap, missed in enumerate((NOTHING, NOTHING, detections((5000, 0, 0.2)), NOTHING), start=1):
        found = tracker.update(missed, coast=3)
        assert found.predicted.tolist() == [True] * (gap <= 3)
        if gap <= 3:
            assert found.ids.tolist() == [1]
            assert found.boxes[0] == pytest.approx([110 + 10 * gap, 50, 150 + 10 * gap, 150], abs=3)
            assert found.scores[0] == pytest.approx(0.8)


@pytest.mark.parametrize("crowd", CROWDS[:3], ids=["plain", "dense", "classes"])
def test_coasting_changes_nothing_else(crowd):
    plain, coasting = ByteTracker(), ByteTracker()
    coasted = 0
    for number, frame in enumerate(crowd.frames_of(5)):
        without, found = plain.update(frame), coasting.update(frame, coast=number % 12)
        count = len(without)
        assert not found.predicted[:count].any()
        assert found.predicted[count:].all()
        assert rows_of(without) == rows_of(found)[:count]
        assert len(set(found.ids.tolist())) == len(found)
        assert (found.boxes[:, :2] <= found.boxes[:, 2:]).all()
        coasted += len(found) - count
    assert coasted > 0


def test_tentative_tracks_do_not_coast():
    tracker = believed((0, 0))
    tracker.update(detections((0, 0), (300, 0)))
    assert tracker.update(detections((0, 0)), coast=5).ids.tolist() == [1]


def test_coasting_keeps_kinds_and_types():
    tracker = believed((0, 0))
    empty = as_tensors(NOTHING.astype(np.float64))
    found = tracker.update(empty, coast=2)
    assert (found.boxes.dtype, found.scores.dtype) == (torch.float64, torch.float64)
    assert (found.ids.dtype, found.labels.dtype, found.predicted.dtype) == (torch.int64, torch.int64, torch.bool)
    found = tracker.update(np.zeros((0, 6), dtype=np.float16), coast=2)
    assert found.boxes.dtype == np.float16
    assert found.predicted.tolist() == [True]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="NO GPU: no detections on one were tracked")
def test_detections_on_a_gpu_come_back_there():
    tracker, other = ByteTracker(), ByteTracker()
    for frame in Crowd(frames=30).frames_of(1):
        found = tracker.update(as_tensors(frame, "cuda"), coast=2)
        assert {array.device.type for array in (found.ids, found.boxes, found.labels, found.predicted)} == {"cuda"}
        assert found.ids.tolist() == other.update(frame, coast=2).ids.tolist()
