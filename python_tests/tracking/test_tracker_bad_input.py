"""What cannot be tracked is refused in one line, and before anything changes."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import svm_ext.tracking.byte_tracker as module
from svm_ext.tracking import ByteTracker, TrackerBank, TrackerRules
from tracker_scenes import Crowd, as_tensors, detections

GOOD = detections((0, 0), (300, 0))
NAN, INF = float("nan"), float("inf")


def with_value(row: int, column: int, value: float) -> np.ndarray:
    table = GOOD.astype(np.float64)
    table[row, column] = value
    return table


def boxes_with(**other: object) -> SimpleNamespace:
    return SimpleNamespace(**(vars(as_tensors(GOOD)) | other))


BAD = [
    (with_value(1, 0, NAN), r"boxes: expected finite numbers, got nan in row 1; leave"),
    (with_value(0, 2, INF), r"boxes: expected finite numbers, got inf in row 0"),
    (with_value(0, 1, -INF), r"boxes: expected finite numbers, got -inf in row 0"),
    (with_value(1, 3, 1e39), r"boxes: expected finite numbers, got inf in row 1"),  # beyond single precision
    (with_value(1, 4, NAN), r"scores: expected finite numbers, got nan in row 1"),
    (with_value(1, 4, INF), r"scores: expected finite numbers, got inf in row 1"),
    (with_value(1, 0, 341), r"boxes: expected x1 <= x2 and y1 <= y2, got \[341, 0, 340, 100\] in row 1; pass corners"),
    (with_value(0, 3, -1), r"boxes: expected x1 <= x2 and y1 <= y2, got \[0, 0, 40, -1\] in row 0"),
    (np.zeros(5), r"detections: expected shape \[n, 5\] or \[n, 6\], got \[5\]"),
    (np.zeros((2, 4)), r"detections: expected shape .* got \[2, 4\]; give x1, y1, x2, y2, score"),
    (np.zeros((1, 2, 5)), r"detections: expected shape .* got \[1, 2, 5\]"),
    (np.zeros((0, 4)), r"detections: expected shape .* got \[0, 4\]"),
    (np.array([[0, 0, 1, 1, 0.9, 0.5]]), r"labels: expected whole numbers, got 0.5"),
    (np.array([[0, 0, 1, 1, 0.9, NAN]]), r"labels: expected whole numbers, got nan"),
    (torch.tensor([[0, 0, 1, 1, 0.9, INF]]), r"labels: expected whole numbers, got inf"),
    (torch.tensor([[0, 0, 1, 1, 0.9, 1e30]]), r"labels: expected whole numbers, got 1.0"),
    ([[0, 0, 1, 1, 0.9], [0, 0, 1]], r"detections: expected rows of one length, got unequal ones"),
    (None, r"detections: expected numbers, got NoneType"),
    ("boxes", r"detections: expected numbers, got str"),
    (np.zeros((1, 5), dtype=complex), r"detections: expected numbers, got ndarray"),
    (torch.zeros(1, 5, dtype=torch.complex64), r"detections: expected real numbers, got torch.complex64"),
    (boxes_with(scores=None), r"scores: expected numbers, got NoneType"),
    (SimpleNamespace(boxes=torch.zeros(1, 4)), r"scores: expected numbers, got NoneType"),
    (boxes_with(scores=np.zeros(2)), r"detections: expected three tensors or three arrays, got Tensor, ndarray and"),
    (boxes_with(scores=torch.zeros(3)), r"scores: expected shape \[n=2\], got \[3\]; give one a box"),
    (boxes_with(labels=torch.zeros(2, 1)), r"labels: expected shape \[n=2\], got \[2, 1\]"),
    (boxes_with(labels=torch.tensor([0.0, NAN])), r"labels: expected whole numbers, got nan"),
    (boxes_with(boxes=torch.zeros(2, 5)), r"boxes: expected shape \[n, 4\], got \[2, 5\]"),
    (boxes_with(boxes=torch.zeros(4)), r"boxes: expected shape \[n, 4\], got \[4\]"),
    (boxes_with(boxes=torch.full((2, 4), NAN)), r"boxes: expected finite numbers, got nan in row 0"),
]


def same_state(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("bad", "message"), BAD, ids=[str(number) for number in range(len(BAD))])
def test_bad_detections_are_refused_before_anything_changes(bad, message):
    bank = TrackerBank(3)
    bank.update([GOOD] * 3)
    before = bank.snapshot()
    with pytest.raises(ValueError, match=message) as caught:
        bank.update([bad], [1])
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=message.split(" in row")[0].split(";")[0]):
        bank.update([GOOD, GOOD, bad])
    assert same_state(before, bank.snapshot())


def test_the_message_names_the_stream():
    with pytest.raises(ValueError, match=r"got nan in row 1 of detections\[2\]; leave"):
        TrackerBank(3).update([GOOD, GOOD[:0], with_value(1, 0, NAN)])


@pytest.mark.parametrize(
    ("streams", "count", "error", "message"),
    [
        ([0, 0], 2, ValueError, "streams: expected each stream once, got 0 twice"),
        ([3], 1, IndexError, "streams: expected ids from 0 and below 3, got 3"),
        ([-1], 1, IndexError, "streams: expected ids from 0 and below 3, got -1"),
        ([0], 2, ValueError, "detections: expected one entry for each of 1 streams, got 2"),
        (None, 2, ValueError, "detections: expected one entry for each of 3 streams, got 2"),
        (1, 1, ValueError, r"streams: expected a sequence of ids, got 1; write \[1\]"),
        ([0.5], 1, ValueError, r"streams: expected whole numbers, got \[0.5\]"),
        (torch.tensor([0.5]), 1, ValueError, "streams: expected whole numbers"),
        (["0"], 1, ValueError, "streams: expected whole numbers"),
    ],
)
def test_bad_streams(streams, count, error, message):
    bank = TrackerBank(3)
    bank.update([GOOD] * 3)
    before = bank.snapshot()
    with pytest.raises(error, match=message):
        bank.update([GOOD] * count, streams)
    assert same_state(before, bank.snapshot())


@pytest.mark.parametrize("call", ["reset", "alive", "snapshot"])
def test_bad_streams_elsewhere(call):
    for streams, error in (([3], IndexError), ([0, 0], ValueError), (0, ValueError)):
        with pytest.raises(error, match="streams: expected"):
            getattr(TrackerBank(3), call)(streams)


@pytest.mark.parametrize("coast", [-1, 1.5, True, None, 10**12])
def test_bad_coast(coast):
    tracker = ByteTracker()
    with pytest.raises(ValueError, match="coast: expected a whole number of frames, got"):
        tracker.update(GOOD, coast=coast)
    assert tracker.alive == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in ("high", "low", "init", "match_high", "match_low") for value in (-0.1, 1.1, NAN, "0.7")]
    + [(name, value) for name in ("confirm", "retain") for value in (0, -1, 2.0, True, 10**12)]
    + [("match_tentative", None), ("high", True)],
)
def test_bad_rules(name, value):
    with pytest.raises(ValueError, match=f"{name}: expected a .*number from"):
        ByteTracker(**{name: value})


def test_rules_that_contradict_each_other():
    with pytest.raises(ValueError, match=r"low: expected at most high \(0.5\), got 0.6"):
        TrackerRules(high=0.5, low=0.6)


@pytest.mark.parametrize("streams", [-1, 1.0, True, None])
def test_bad_number_of_streams(streams):
    with pytest.raises(ValueError, match="streams: expected a whole number of at least 0, got"):
        TrackerBank(streams)


def test_arrays_that_do_not_belong_together_never_reach_the_trackers():
    """The core itself, as nobody should call it: it reads nothing that is not there."""
    native = module._native()
    bank = native.Bank(2, native.Rules(0.7, 0.1, 0.7, 0.1, 0.5, 0.3, 3, 30))
    boxes, scores, labels = np.zeros((2, 4), np.float32), np.zeros(2, np.float32), np.zeros(2, np.int64)
    for given in (
        (boxes, scores, labels, [3], [0]),
        (boxes, scores, labels, [-1, 3], [0, 1]),
        (boxes, scores, labels, [2], [0, 1]),
        (boxes, scores[:1], labels, [2], [0]),
        (boxes[:, :3].copy(), scores, labels, [2], [0]),
        (boxes.reshape(8), scores, labels, [2], [0]),
    ):
        with pytest.raises(ValueError, match="expected"):
            bank.update(*given)
    for given in (
        (boxes.astype(float), scores, labels),
        (boxes, scores, labels.astype(np.int32)),
        (boxes.T, scores, labels),
    ):
        with pytest.raises(TypeError):
            bank.update(*given, [2], [0])
    assert bank.counts([0, 1]) == ([0, 0], [0, 0])


def test_a_missing_core_is_told_in_one_line(monkeypatch):
    """As where the ops were carried to a machine with another Python: they work, trackers say what to do."""
    monkeypatch.setitem(sys.modules, "svm_ext._tracker", None)
    with pytest.raises(
        ImportError, match=r"the compiled tracker is missing for Python 3\.\d+.*pip install \."
    ) as caught:
        ByteTracker()
    assert "\n" not in str(caught.value)


def test_an_outdated_core_is_told(monkeypatch):
    monkeypatch.setattr(module, "_SCHEMA", 2)
    with pytest.raises(ImportError, match="expected a compiled tracker of schema 2, got 1; type `pip install .`"):
        TrackerBank(1)


def test_the_package_and_its_ops_do_without_the_core(tmp_path):
    code = """
import sys
sys.modules["svm_ext._tracker"] = None
import torch, svm_ext, svm_ext.tracking
from svm_ext.tracking import interpolate_tracks
print(len(svm_ext.ops.nms(torch.rand(3, 4), torch.rand(3), torch.zeros(3, dtype=torch.int64), None, 0.5)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_random_rubbish_never_breaks_a_tracker():
    """Any table of numbers is tracked or refused; what follows is tracked as if nothing had been."""
    rng = np.random.default_rng(0)
    tracker, untouched = ByteTracker(), ByteTracker()
    refused = 0
    for frame in Crowd(frames=100).frames_of(3):
        rubbish = frame.copy()
        if rubbish.size:
            rubbish[rng.integers(len(rubbish)), rng.integers(6)] = rng.choice([NAN, INF, -INF])
            with pytest.raises(ValueError, match="expected"):
                tracker.update(rubbish)
            refused += 1
        assert tracker.update(frame).ids.tolist() == untouched.update(frame).ids.tolist()
    assert refused > 80
