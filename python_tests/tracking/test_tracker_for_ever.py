"""A tracker that never stops: memory and time a frame stay what they are, however many objects came and went."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path

import numpy as np
import pytest

from svm_ext.tracking import ByteTracker
from tracker_scenes import Crowd

STATUS = Path("/proc/self/statm")


def resident_bytes() -> int:
    gc.collect()
    return int(STATUS.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def endless(people: int, frames: int) -> list[np.ndarray]:
    """A piece of video to repeat: people walk through and are gone, others come; where it ends all are others."""
    crowd = Crowd(people=people, frames=frames, misses=0.1, false=2.0, empty=0.02)
    return crowd.frames_of(11)


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
@pytest.mark.skipif(not STATUS.exists(), reason="needs /proc")
def test_two_hundred_thousand_frames():
    """Each piece of the run takes the memory and the time of the first."""
    tracker = ByteTracker()
    scene = endless(10, 500)
    pieces, seconds = 20, []
    for _ in range(10):  # whatever is allocated once
        for frame in scene:
            tracker.update(frame)
    before = resident_bytes()
    for _ in range(pieces):
        fastest = float("inf")  # of the piece's twenty scenes: whatever else runs here only makes some slower
        for _ in range(200_000 // pieces // len(scene)):
            start = time.process_time()
            for frame in scene:
                tracker.update(frame)
            fastest = min(fastest, time.process_time() - start)
        seconds.append(fastest)
    grown = resident_bytes() - before
    assert tracker.snapshot()["frames"].item() == 205_000
    assert tracker.snapshot()["next_ids"].item() > 100_000
    assert tracker.alive < 60
    assert grown < 1 << 20, f"{grown} bytes more"
    assert min(seconds[-5:]) < 1.3 * min(seconds[:5]), seconds
