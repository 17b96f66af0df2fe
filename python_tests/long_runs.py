"""Runs long enough to show what a program never gives back, each in a process of its own.

Resident memory is a matter of the whole process: in one that has run other tests, holes in the heap and what libraries
keep for later may add megabytes at any moment.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/statm")


def in_fresh_process(run: Callable[..., Any], *given: Any) -> Any:
    """Call a function, which its module tells by name, in a new process; return its result."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(run, *given).result()


def resident() -> int:
    """Bytes in memory, without what was freed and not yet given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(STATUS.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Tracked:
    """How a long run of a tracker went."""

    grown: int  # bytes
    seconds: list[float]  # the fastest scene of each piece of the run
    frames: int
    ids: int  # given to objects
    alive: int


def track_for_ever(pieces: int, scenes: int) -> Tracked:
    """Track a scene of 500 frames again and again, ten times before memory is looked at."""
    from svm_ext.tracking import ByteTracker
    from tracker_scenes import endless

    tracker, scene, seconds = ByteTracker(), endless(10, 500), []

    def once() -> float:
        start = time.process_time()
        for frame in scene:
            tracker.update(frame)
        return time.process_time() - start

    for _ in range(10):  # whatever is allocated once
        once()
    before = resident()
    for _ in range(pieces):
        seconds.append(min(once() for _ in range(scenes)))  # whatever else runs here only makes some slower
    grown, counts = resident() - before, tracker.snapshot()
    return Tracked(grown, seconds, counts["frames"].item(), counts["next_ids"].item(), tracker.alive)


def write_for_long(path: Path, frames: int) -> list[int]:
    """Write a video; return the bytes in memory after every hundredth frame."""
    from svm_ext.stream.writer import VideoWriter
    from video_kit import noise

    sizes = []
    with VideoWriter(path) as writer:
        for index, image in enumerate(noise(frames, (64, 48))):
            writer.write(image, index / 25)
            if index % 100 == 99:
                sizes.append(resident())
    return sizes


@dataclass(frozen=True)
class Soaked:
    """How a long run of a session went, at ten moments."""

    sizes: list[int]  # bytes in memory
    times: list[float]  # processor seconds since the moment before
    held: list[int]  # bytes that the session says it holds
    streams: int
    rooms: int
    frames_seen: int | None  # by a detector that counts


def soak(real: bool, steps: int, streams: int) -> Soaked:
    """Run generated frames through a session, of the real model at its smallest or of a detector of bright spots."""
    from svm_ext.stream.session import StreamSession
    from video_kit import BrightDetector, small_model, walk

    smallest = dict(layers=3, stages=(0, 1, 2), outputs=(0, 1, 2), conv_blocks=(), width=32, heads=1, neck_channels=8)
    model = small_model(**smallest, score_threshold=0.01) if real else BrightDetector()
    many = StreamSession(model, size=(64, 32))
    for number in range(streams):
        many.open(number, (64, 32))
    images = list(walk(60, size=(64, 32)))
    sizes, times, held = [], [], []
    for _ in range(10):
        start = time.process_time()
        for step in range(steps // 10):
            many.step({number: images[(step + 7 * number) % 60] for number in range(streams)})
        times.append(time.process_time() - start)
        sizes.append(resident())
        held.append(many.nbytes)
    seen = sum(model.batches) if isinstance(model, BrightDetector) else None
    return Soaked(sizes, times, held, len(many._streams), len(many._rooms), seen)
