"""The tracker against the same association in NumPy, on one thread.

    python benchmarks/bench_tracker.py --quick          a few seconds
    python benchmarks/bench_tracker.py --json FILE      what is quoted, about a minute

Every contender gives the baseline's ids in every frame, or nothing is measured. Contenders take turns.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from numpy_byte_tracker import NumpyByteTracker

from svm_ext import ByteTracker, TrackerBank
from svm_ext._files import whole_file
from svm_ext.bench import machine
from svm_ext.bench.case import Contender
from svm_ext.bench.measure import FULL, QUICK, cpu_clock, interleave, rounds_for

WIDTH, HEIGHT = 1920, 1080
BASELINE, OURS = "NumPy, box by box", "ByteTracker"
Ids = list[list[int]]


@dataclass(frozen=True)
class Load:
    """So many people on so many streams, for so many frames."""

    people: int
    frames: int
    streams: int = 1

    @property
    def name(self) -> str:
        return f"{self.people} people, {self.frames} frames" + (f", {self.streams} streams" * (self.streams > 1))


LOADS = (Load(30, 1000), Load(200, 200), Load(30, 200, 16))
GOAL = 20.0  # times the baseline's frames per second, for the first load


def walkers(people: int, frames: int, seed: int) -> list[np.ndarray]:
    """Frames of detections [n, 5]: people who walk through the picture and turn at its borders.

    A twentieth of them is missed in each frame, scores dip as behind others, and a few boxes are nobody's.
    """
    rng = np.random.default_rng(seed)
    place = rng.uniform([0, 0], [WIDTH, HEIGHT], (people, 2))
    speed = rng.normal(0, 3, (people, 2))
    size = np.stack([rng.uniform(30, 80, people), rng.uniform(90, 220, people)], axis=1)
    found = []
    for _ in range(frames):
        place = place + speed
        speed = np.where((place < 0) | (place > [WIDTH, HEIGHT]), -speed, speed)
        seen = rng.random(people) > 0.05
        centre = place[seen] + rng.normal(0, 2, (seen.sum(), 2))
        boxes = np.concatenate([centre - size[seen] / 2, centre + size[seen] / 2], axis=1)
        scores = np.clip(rng.normal(0.85, 0.15, seen.sum()), 0.05, 0.99)
        false = rng.uniform([0, 0], [WIDTH, HEIGHT], (rng.poisson(1), 2))
        boxes = np.concatenate([boxes, np.concatenate([false, false + 60], axis=1)])
        scores = np.concatenate([scores, rng.uniform(0.1, 0.8, len(false))])
        found.append(np.concatenate([boxes, scores[:, None]], axis=1).astype(np.float32))
    return found


def as_tensors(frame: np.ndarray) -> SimpleNamespace:
    """A frame as a detector gives it."""
    boxes, scores = torch.from_numpy(frame[:, :4].copy()), torch.from_numpy(frame[:, 4].copy())
    return SimpleNamespace(boxes=boxes, scores=scores, labels=torch.zeros(len(frame), dtype=torch.int64))


def contenders(load: Load) -> dict[str, Callable[[], Ids]]:
    """Who tracks this load; each starts anew and returns the ids of every frame and stream."""
    videos = [walkers(load.people, load.frames, seed) for seed in range(load.streams)]
    tensors = [[as_tensors(frame) for frame in video] for video in videos]
    steps = list(zip(*videos, strict=True))  # one frame of every stream

    def baseline() -> Ids:
        trackers = [NumpyByteTracker() for _ in videos]
        return [tracker.update(frame)[1] for step in steps for tracker, frame in zip(trackers, step, strict=True)]

    def ours(frames: list[tuple]) -> Ids:
        trackers = [ByteTracker() for _ in videos]
        return [tracker.update(frame).ids for step in frames for tracker, frame in zip(trackers, step, strict=True)]

    def bank() -> Ids:
        trackers = TrackerBank(load.streams)
        return [tracks.ids for step in steps for tracks in trackers.update(step)]

    tensor_steps = list(zip(*tensors, strict=True))
    found = {BASELINE: baseline, OURS: lambda: ours(steps), f"{OURS}, tensors": lambda: ours(tensor_steps)}
    return found | ({"TrackerBank": bank} if load.streams > 1 else {})


def measure(load: Load, quick: bool) -> dict[str, dict[str, float]]:
    """Frames per second and microseconds a frame of every contender, and its ratio to the baseline."""
    runs = contenders(load)
    right = [np.asarray(ids).tolist() for ids in runs[BASELINE]()]
    for name, run in runs.items():
        if [np.asarray(ids).tolist() for ids in run()] != right:
            raise SystemExit(f"{load.name}: {name} does not give the baseline's ids")
    plan = QUICK if quick else FULL
    rounds = {name: rounds_for(plan, cpu_clock(run)) for name, run in runs.items()}
    timings, _ = interleave([Contender(name, run) for name, run in runs.items()], rounds)
    frames = load.frames * load.streams
    return {
        name: {
            "us_a_frame": timing.ms * 1e3 / frames,
            "frames_per_second": frames / timing.ms * 1e3,
            "ratio": timings[BASELINE].ms / timing.ms,
            "ratio_best": timings[BASELINE].best_ms / timing.best_ms,
            "rounds": rounds[name],
        }
        for name, timing in timings.items()
    }


def main(arguments: list[str]) -> None:
    """Measure all loads, print them, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="shorter videos, few rounds")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures and what they were taken on")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    command = shlex.join(["python", "benchmarks/bench_tracker.py", *arguments])
    result = {"schema": 1, "machine": machine.describe("cpu", command), "goal": GOAL, "loads": {}}
    for load in LOADS:
        load = Load(load.people, load.frames // 10, load.streams) if options.quick else load
        print(f"{load.name}\n{'':28}{'us a frame':>12}{'frames/s':>12}{'ratio':>8}")
        result["loads"][load.name] = rows = measure(load, options.quick)
        for name, row in rows.items():
            print(f"  {name:26}{row['us_a_frame']:12.1f}{row['frames_per_second']:12.0f}{row['ratio']:8.1f}")
    if options.json:
        with whole_file(options.json) as part:
            part.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
