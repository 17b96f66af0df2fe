"""Runs a detector that remembers and its tracker over annotated videos, frame by frame as if live, and scores both.

Pictures are read one after the other and forgotten: what this needs does not grow with the length of the videos.
Sequences may be dealt to several processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..data.mot import read_videos, sequence_folders
from ..data.videos import Video
from ..stream.session import StreamSession
from ..tracking import TrackerRules
from .ap import AveragePrecision, DetectionResult
from .motchallenge import read_tracks
from .table import TrackTable
from .tracks import COMBINED, TrackResult, evaluate_tracks


@dataclass(frozen=True)
class MotResult:
    """Scores of one run over all sequences; `tracks` is None where the ground truth knows no identities."""

    tracks: TrackResult | None
    detections: dict[str, DetectionResult]  # by sequence, and COMBINED
    frames_per_second: float  # of all processes together, reading pictures included

    def as_dict(self) -> dict[str, dict[str, float]]:
        """Return all scores of each sequence by its name, then COMBINED; nan where there is nothing to find."""
        tracks = self.tracks.as_dict() if self.tracks else {}
        return {name: {**found.as_dict(), **tracks.get(name, {})} for name, found in self.detections.items()}


@dataclass(frozen=True)
class MotPlan:
    """How a run is done: what the model remembers, what it sees, how boxes become tracks."""

    memory_frames: int | None = None  # None: as the model's configuration says
    size: tuple[int, int] | None = None  # longer and shorter side that pictures are scaled to; None: the model's own
    rules: TrackerRules = TrackerRules()
    benchmark: str = "MOT17"


@dataclass(frozen=True)
class _Found:
    """What was found in one sequence: a list entry a frame."""

    ids: list[np.ndarray]
    boxes: list[np.ndarray]
    detections: list[tuple[np.ndarray, np.ndarray, np.ndarray]]  # boxes, scores, labels


def evaluate_mot(
    model: nn.Module,
    data: str | Path,
    plan: MotPlan | None = None,
    *,
    sequences: Sequence[str] | None = None,
    jobs: int = 1,
    on_sequence: Callable[[str, int, int], None] | None = None,
) -> MotResult:
    """Track every sequence of a data set and score detections and tracks.

    `data` is what `svm_ext.data.read_videos` takes. MOTChallenge folders are scored by the rules of the benchmark,
    marks and distractors included. `on_sequence` is called with name, number and total as a sequence ends.
    """
    plan, videos = plan or MotPlan(), _videos(data, sequences)
    began = time.monotonic()
    found: dict[str, _Found] = {}
    for number, (video, result) in enumerate(zip(videos, _runs(model.eval(), videos, plan, jobs), strict=True)):
        found[video.name] = result
        if on_sequence:
            on_sequence(video.name, number, len(videos))
    seconds = time.monotonic() - began
    detections = {video.name: _score_detections([video], found) for video in videos}
    detections[COMBINED] = _score_detections(videos, found)
    frames = sum(map(len, videos))
    return MotResult(_score_tracks(data, videos, found, plan.benchmark), detections, frames / max(seconds, 1e-9))


def _videos(data: str | Path, sequences: Sequence[str] | None) -> list[Video]:
    videos = {video.name: video for video in read_videos(data).videos}
    if strange := [name for name in sequences or () if name not in videos]:
        raise ValueError(f"sequences: expected names of {', '.join(videos)}, got {strange[0]}")
    return [video for name, video in videos.items() if sequences is None or name in sequences]


def _runs(model: nn.Module, videos: Sequence[Video], plan: MotPlan, jobs: int) -> Any:
    """Yield what is found in each video, in their order."""
    if jobs < 1:
        raise ValueError(f"jobs: expected at least 1 process, got {jobs}")
    if min(jobs, len(videos)) == 1:
        return (_run(model, video, plan) for video in videos)
    return _in_processes(model, videos, plan, min(jobs, len(videos)))


def _in_processes(model: nn.Module, videos: Sequence[Video], plan: MotPlan, jobs: int) -> Any:
    threads = max(torch.get_num_threads() // jobs, 1)
    # A fresh interpreter each: a forked one would share the threads and locks of this one.
    with ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (threads,)) as pool:
        futures = [pool.submit(_run, model, video, plan) for video in videos]
        try:
            yield from (future.result() for future in futures)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _run(model: nn.Module, video: Video, plan: MotPlan) -> _Found:
    """Track one video from its first frame to its last."""
    memory = {} if plan.memory_frames is None else {"frames": plan.memory_frames}
    session = StreamSession(model, size=plan.size, rules=plan.rules, memory=memory)
    height, width = video.size
    session.open(video.name, (width, height))
    found = _Found([], [], [])
    for frame in range(len(video)):
        picture = np.ascontiguousarray(video.picture(frame).permute(1, 2, 0).numpy())  # [H, W, 3]
        result = session.step({video.name: picture})[video.name]
        found.ids.append(np.asarray(result.tracks.ids))
        found.boxes.append(np.asarray(result.tracks.boxes))
        seen = result.detections
        found.detections.append((seen.boxes.numpy(), seen.scores.numpy(), seen.labels.numpy()))
    return found


def _score_detections(videos: Sequence[Video], found: dict[str, _Found]) -> DetectionResult:
    score = AveragePrecision()
    for video in videos:
        for frame, seen in enumerate(found[video.name].detections):
            target = video.target(frame)
            score.update(*seen, target["boxes"], target["labels"])
    return score.result()


def _score_tracks(
    data: str | Path, videos: Sequence[Video], found: dict[str, _Found], benchmark: str
) -> TrackResult | None:
    truth = _truth(Path(data), videos)
    if truth is None:
        return None
    tables = {name: TrackTable.from_frames(it.ids, it.boxes) for name, it in found.items()}
    return evaluate_tracks(truth, tables, benchmark=benchmark)


def _truth(data: Path, videos: Sequence[Video]) -> dict[str, TrackTable] | None:
    """Return the ground truth of each video, None where it has no identities."""
    if data.is_dir() and not (data / "annotations.json").is_file():
        folders = {folder.name: folder for folder in sequence_folders(data)}
        return {
            video.name: read_tracks(folders[video.name] / "gt/gt.txt", ground_truth=True, frames=len(video))
            for video in videos
        }
    if any((video.ids < 0).any() for video in videos):
        return None
    targets = {video.name: [video.target(frame) for frame in range(len(video))] for video in videos}
    return {
        name: TrackTable.from_frames([frame["ids"] for frame in frames], [frame["boxes"] for frame in frames])
        for name, frames in targets.items()
    }
