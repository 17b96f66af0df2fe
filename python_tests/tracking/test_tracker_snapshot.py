"""Snapshots of trackers: exact, fit for safetensors, and refused where they are not what frames leave behind."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from svm_ext.tracking import ByteTracker, TrackerBank, TrackerRules
from tracker_scenes import Crowd, detections, rows_of

CROWD = Crowd(people=15, frames=90, labels=2)
State = dict[str, Tensor]


def busy(**rules: float) -> ByteTracker:
    """A tracker with tracks of all kinds: in sight, lost, tentative."""
    tracker = ByteTracker(**rules)
    for frame in CROWD.frames_of(4)[:40]:
        tracker.update(frame)
    assert set(tracker.snapshot()["tracks"][:, 5].tolist()) == {0, 1}
    return tracker


def same(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("cut", [0, 1, 7, 30, 60, 89])
def test_going_on_from_a_snapshot_changes_nothing(cut):
    frames = CROWD.frames_of(cut)
    whole, before, after = ByteTracker(), ByteTracker(), ByteTracker()
    wanted = [rows_of(whole.update(frame, coast=3)) for frame in frames]
    found = [rows_of(before.update(frame, coast=3)) for frame in frames[:cut]]
    after.restore(before.snapshot())
    found += [rows_of(after.update(frame, coast=3)) for frame in frames[cut:]]
    assert found == wanted
    assert same(whole.snapshot(), after.snapshot())


def test_through_a_file(tmp_path):
    tracker, other = busy(), ByteTracker()
    save_file(tracker.snapshot(), tmp_path / "tracks.safetensors")
    other.restore(load_file(tmp_path / "tracks.safetensors"))
    assert same(tracker.snapshot(), other.snapshot())


def test_arrays_do_as_well():
    tracker, other = busy(), ByteTracker()
    other.restore({name: tensor.numpy() for name, tensor in tracker.snapshot().items()})
    assert same(tracker.snapshot(), other.snapshot())


def test_a_snapshot_is_a_copy():
    tracker = busy()
    state = tracker.snapshot()
    kept = {name: tensor.clone() for name, tensor in state.items()}
    tracker.update(detections((0, 0)))
    assert same(state, kept)
    tracker.restore(state)
    state["filters"].zero_()
    assert same(tracker.snapshot(), kept)


def test_a_new_tracker_can_be_taken_and_put_back():
    tracker = busy()
    tracker.restore(ByteTracker().snapshot())
    assert same(tracker.snapshot(), ByteTracker().snapshot())
    assert tracker.update(detections((0, 0))).ids.tolist() == [1]


def test_streams_of_a_bank_move_between_banks():
    bank = TrackerBank(4)
    for number in range(30):
        bank.update([CROWD.frames_of(seed)[number] for seed in range(4)])
    state = bank.snapshot([3, 1])
    other = TrackerBank(3)
    other.update([detections((0, 0))] * 3)
    untouched = other.snapshot([1])
    other.restore(state, [0, 2])
    assert same(other.snapshot([0, 2]), state)
    assert same(other.snapshot([1]), untouched)
    single = ByteTracker()
    single.restore(bank.snapshot([2]))
    assert same(single.snapshot(), bank.snapshot([2]))
    assert same(TrackerBank(0).snapshot(), bank.snapshot([]))


def change(name: str, value: object, at: tuple = ()) -> Callable[[State], None]:
    """Something to do to a snapshot: put a value where it does not belong."""

    def apply(state: State) -> None:
        if at:
            state[name] = state[name].clone()
            state[name][at] = value
        else:
            state[name] = value

    return apply


def drop(name: str) -> Callable[[State], None]:
    return lambda state: state.pop(name)


def cut(name: str) -> Callable[[State], None]:
    return lambda state: state.update({name: state[name][:-1].clone()})


TRACK = {name: column for column, name in enumerate(("id", "label", "seen", "boxes", "predicted", "confirmed"))}
NONSENSE = {
    "no version": (drop("version"), "state: expected a snapshot of a tracker, got dict"),
    "another version": (change("version", torch.tensor([2])), r"state: expected version 1, got \[2\]; take a new"),
    "version is a number": (change("version", 1), "version: expected a tensor of int64, got int"),
    "no rules": (drop("rules"), "rules: expected a tensor of float64, got NoneType"),
    "too few rules": (cut("rules"), "rules: expected 8 numbers, got 7"),
    "no filters": (drop("filters"), "filters: expected a tensor of float64, got NoneType"),
    "narrow filters": (
        change("filters", torch.zeros(0, 4, 5)),
        "filters: expected a tensor of float64, got torch.float32",
    ),
    "too few filters": (cut("filters"), r"filters: expected shape \[\d+, 4, 5\], got \[\d+, 4, 5\]"),
    "flat filters": (change("filters", torch.zeros(20, dtype=torch.float64)), r"filters: expected shape .* got \[20\]"),
    "too few tracks": (cut("tracks"), r"tracks: expected shape"),
    "too few scores": (cut("scores"), r"tracks: expected shape|filters: expected shape"),
    "no streams": (cut("frames"), "streams: expected as many as the snapshot holds, 0, got 1"),
    "no next id": (cut("next_ids"), r"next_ids: expected shape \[1\], got \[0\]"),
    "no count": (cut("counts"), r"counts: expected shape \[1\], got \[0\]"),
    "count below zero": (change("counts", -1, (0,)), "counts: expected the tracks of each stream"),
    "count too large": (change("counts", 10**18, (0,)), "counts: expected the tracks of each stream"),
    "count too small": (change("counts", 1, (0,)), "counts: expected the tracks of each stream"),
    "negative frame": (change("frames", -1, (0,)), "got counters below their start"),
    "frame of no video": (change("frames", 2**62, (0,)), "got counters that no video reaches"),
    "no ids left": (change("next_ids", 2**62, (0,)), "got counters that no video reaches"),
    "ids not given out": (change("next_ids", 1, (0,)), "got ids that are not rising, or not given out yet"),
    "id zero": (change("tracks", 0, (0, TRACK["id"])), "got ids that are not rising"),
    "id twice": (change("tracks", 1, (slice(2), TRACK["id"])), "got ids that are not rising"),
    "seen in the future": (change("tracks", 40, (0, TRACK["seen"])), "last seen in no frame so far"),
    "seen before the start": (change("tracks", -1, (0, TRACK["seen"])), "last seen in no frame so far"),
    "long over": (change("tracks", 1, (0, TRACK["seen"])), "got a track that is over"),
    "more boxes than frames": (change("tracks", 99, (0, TRACK["boxes"])), "got a track with more boxes than frames"),
    "no boxes": (change("tracks", 0, (0, TRACK["boxes"])), "got a track with more boxes than frames, or with none"),
    "predicted ahead": (change("tracks", 40, (0, TRACK["predicted"])), "got a track with more predictions than"),
    "half confirmed": (change("tracks", 2, (0, TRACK["confirmed"])), "tracks: expected confirmed as 0 or 1"),
    "no place": (change("filters", float("nan"), (0, 0, 0)), "got a track whose numbers are not finite"),
    "endless speed": (change("filters", float("inf"), (0, 3, 1)), "got a track whose numbers are not finite"),
    "variance below zero": (change("filters", -1.0, (0, 1, 2)), "got a track whose numbers are not finite"),
    "no score": (change("scores", float("nan"), (0,)), "got a track whose numbers are not finite"),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_refused_and_changes_nothing(name):
    spoil, message = NONSENSE[name]
    tracker = ByteTracker()
    tracker.update(detections((0, 0)))
    before = tracker.snapshot()
    state = busy().snapshot()
    spoil(state)
    with pytest.raises(ValueError, match=message) as caught:
        tracker.restore(state)
    assert "\n" not in str(caught.value)
    assert same(before, tracker.snapshot())


@pytest.mark.parametrize("state", [None, [], {}, "state", {"version": None}])
def test_what_is_no_snapshot_at_all(state):
    with pytest.raises(ValueError, match="expected a (snapshot|tensor)"):
        ByteTracker().restore(state)


def test_one_bad_stream_spoils_no_other():
    bank = TrackerBank(2)
    for frame in CROWD.frames_of(1)[:40]:
        bank.update([frame, frame])
    state, before = bank.snapshot(), bank.snapshot()
    bank.update([detections((0, 0))] * 2)
    after = bank.snapshot()
    state["tracks"][-1, TRACK["id"]] = 0
    with pytest.raises(ValueError, match="ids that are not rising"):
        bank.restore(state)
    assert same(bank.snapshot(), after)
    bank.restore(before)
    assert same(bank.snapshot(), before)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"high": 0.6}, r"high: expected 0.6 like this tracker, got 0.7 in the snapshot; make a tracker with"),
        ({"retain": 31}, r"retain: expected 31 like this tracker, got 30.0 in the snapshot"),
    ],
)
def test_other_rules_do_not_fit(rules, message):
    with pytest.raises(ValueError, match=message):
        ByteTracker(**rules).restore(busy().snapshot())


def test_a_lost_track_that_is_tentative_is_refused():
    state = busy().snapshot()
    confirmed = state["tracks"][:, TRACK["confirmed"]].bool()
    lost = state["tracks"][:, TRACK["seen"]] < 39
    assert (confirmed & lost).any()
    state["tracks"][lost, TRACK["confirmed"]] = 0
    with pytest.raises(ValueError, match="a track that is over"):
        ByteTracker().restore(state)


def test_wrong_number_of_streams():
    state = TrackerBank(2).snapshot()
    with pytest.raises(ValueError, match="streams: expected as many as the snapshot holds, 2, got 3; name them"):
        TrackerBank(3).restore(state)
    with pytest.raises(IndexError, match="streams: expected ids from 0 and below 3, got 3"):
        TrackerBank(3).restore(state, [0, 3])
    with pytest.raises(ValueError, match="streams: expected each stream once"):
        TrackerBank(3).restore(state, [1, 1])


def test_random_damage_is_refused_or_harmless():
    """Whatever a snapshot says, restoring and going on neither crashes nor gives ids out twice."""
    rng = np.random.default_rng(0)
    good = busy(retain=10).snapshot()
    frames = CROWD.frames_of(9)
    accepted = 0
    for _ in range(400):
        state = {name: tensor.clone() for name, tensor in good.items()}
        tensor = state[rng.choice(["frames", "next_ids", "counts", "tracks", "filters", "scores"])].view(-1)
        largest = 1e300 if tensor.dtype == torch.float64 else 1e15
        tensor[rng.integers(len(tensor))] = float(rng.choice([-1, 0, 1, 2, 39, 41, 1e6, largest]))
        tracker = ByteTracker(retain=10)
        try:
            tracker.restore(state)
        except ValueError:
            continue
        accepted += 1
        for frame in frames[:12]:
            ids = tracker.update(frame, coast=5).ids.tolist()
            assert len(ids) == len(set(ids))
    assert 20 < accepted < 380


def test_rules_are_kept_in_the_order_of_their_names():
    assert busy().snapshot()["rules"].tolist() == list(map(float, vars(TrackerRules()).values()))
