"""Many streams in one call, and calls from many threads."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from svm_ext.tracking import ByteTracker, TrackerBank, TrackerRules
from tracker_scenes import Crowd, as_tensors, detections, rows_of

SCENES = [Crowd(frames=60, people=4 + 5 * number, labels=1 + number % 3).frames_of(number) for number in range(5)]


def alone(scene: list[np.ndarray], rules: TrackerRules, coast: int = 0) -> list[list[tuple]]:
    """What a tracker of its own gives for a scene."""
    tracker = ByteTracker(**vars(rules))
    return [rows_of(tracker.update(frame, coast=coast)) for frame in scene]


@pytest.mark.parametrize("coast", [0, 4])
@pytest.mark.parametrize("tensors", [False, True])
def test_streams_give_what_each_gives_alone(tensors, coast):
    rules = TrackerRules(high=0.6, init=0.65, retain=12)
    bank = TrackerBank(len(SCENES), rules)
    found = [[] for _ in SCENES]
    for step in zip(*SCENES, strict=True):
        given = [as_tensors(frame) for frame in step] if tensors else step
        for stream, tracks in enumerate(bank.update(given, coast=coast)):
            found[stream].append(rows_of(tracks))
    assert found == [alone(scene, rules, coast) for scene in SCENES]


def test_streams_come_in_any_order_and_number():
    """Each stream at a speed of its own: a frame that does not come is not an empty one."""
    bank, rng = TrackerBank(len(SCENES)), np.random.default_rng(0)
    at, found = [0] * len(SCENES), [[] for _ in SCENES]
    while any(at[stream] < len(scene) for stream, scene in enumerate(SCENES)):
        waiting = [stream for stream, scene in enumerate(SCENES) if at[stream] < len(scene)]
        named = rng.permutation(waiting)[: rng.integers(0, len(waiting) + 1)].tolist()
        given = [SCENES[stream][at[stream]] for stream in named]
        for stream, tracks in zip(named, bank.update(given, named), strict=True):
            found[stream].append(rows_of(tracks))
            at[stream] += 1
    assert found == [alone(scene, TrackerRules()) for scene in SCENES]


def test_kinds_may_differ_from_stream_to_stream():
    bank = TrackerBank(4)
    box = [[0, 0, 40, 100, 0.9]]
    given = [box, np.array(box), torch.tensor(box, dtype=torch.float64), as_tensors(np.array(box, dtype=np.float16))]
    found = bank.update(given)
    assert [type(tracks.boxes) for tracks in found] == [np.ndarray, np.ndarray, torch.Tensor, torch.Tensor]
    assert [str(tracks.boxes.dtype) for tracks in found][2:] == ["torch.float64", "torch.float16"]
    assert all(tracks.ids.tolist() == [1] for tracks in found)
    mixed = bank.update([torch.zeros(0, 5), torch.tensor(box, dtype=torch.float16), torch.zeros(0, 6), np.array(box)])
    assert [len(tracks) for tracks in mixed] == [0, 1, 0, 1]


def test_stream_ids_may_be_a_tensor():
    bank = TrackerBank(3)
    bank.update([detections((0, 0))], torch.tensor([2]))
    assert bank.alive() == [0, 0, 1]
    assert bank.alive(torch.tensor([2, 0])) == [1, 0]


def test_reset_of_one_stream():
    bank = TrackerBank(2)
    bank.update([detections((0, 0))] * 2)
    bank.reset([1])
    assert bank.alive() == [1, 0]
    found = bank.update([detections((900, 0))] * 2)
    assert [tracks.ids.tolist() for tracks in found] == [[2], [1]]
    bank.reset()
    assert bank.alive() == [0, 0]
    bank.reset([])


def test_no_streams_at_all():
    assert TrackerBank(0).update([]) == []
    assert TrackerBank(3).update([], []) == []
    assert TrackerBank(0).alive() == []


def test_text():
    bank = TrackerBank(2)
    bank.update([detections((0, 0), (300, 0))] * 2)
    assert repr(bank) == "TrackerBank(2 streams, 4 tracks)"


def test_threads_with_trackers_of_their_own():
    """The core runs without the interpreter's lock: every thread gets what it gets alone."""
    wanted = [alone(scene, TrackerRules()) for scene in SCENES]
    found: list = [None] * len(SCENES)

    def track(number: int) -> None:
        found[number] = alone(SCENES[number], TrackerRules())

    for _ in range(5):
        threads = [threading.Thread(target=track, args=(number,)) for number in range(len(SCENES))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == wanted


def test_threads_that_share_a_tracker_break_nothing():
    """In which order their frames come nobody knows, but each is taken in whole, and no number is given twice."""
    tracker = ByteTracker(retain=1)
    far = [detections((1e5 * number, 0)) for number in range(4)]
    new: list[list[int]] = [[] for _ in far]

    def track(number: int) -> None:
        for _ in range(300):
            new[number] += tracker.update(far[number]).ids.tolist()

    threads = [threading.Thread(target=track, args=(number,)) for number in range(len(far))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(map(len, new)) == 4 * 300
    firsts = [set(ids) for ids in new]
    assert sum(map(len, firsts)) == len(set.union(*firsts))
    assert tracker.snapshot()["frames"].tolist() == [1200]
