"""A tracker that never stops: memory and time a frame stay what they are, however many objects came and went."""

from __future__ import annotations

import pytest

import long_runs
from svm_ext.tracking import ByteTracker
from tracker_scenes import endless


def test_tracks_are_as_many_as_the_scene_holds():
    tracker, most = ByteTracker(), 0
    scene = endless(10, 250)
    for _ in range(8):
        for frame in scene:
            tracker.update(frame)
        most = max(most, tracker.alive)
    assert most < 60
    assert tracker.snapshot()["next_ids"].item() > 1000


@pytest.mark.slow
@pytest.mark.skipif(not long_runs.STATUS.exists(), reason="needs /proc")
def test_two_hundred_thousand_frames():
    """Each piece of the run takes the memory and the time of the first."""
    run = long_runs.in_fresh_process(long_runs.track_for_ever, 20, 20)
    assert run.frames == 205_000
    assert run.ids > 100_000
    assert run.alive < 60
    assert run.grown < 1 << 20, f"{run.grown} bytes more"
    assert min(run.seconds[-5:]) < 1.3 * min(run.seconds[:5]), run.seconds
