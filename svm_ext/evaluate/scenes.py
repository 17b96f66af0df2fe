"""Scores what a detector and its tracker find in generated scenes, frame by frame as they come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ..data import demo
from ..data.scenes import FPS, SceneFrame
from ..models.registry import load_model
from ..stream.results import FrameResult
from ..stream.session import StreamSession
from ..stream.sources import Frame
from ..tracking import TrackerRules
from .ap import AveragePrecision
from .preprocess import PEDESTRIAN
from .table import TrackTable
from .tracks import COMBINED, evaluate_tracks

_DISTRACTOR = 8  # one of the classes that preprocessing takes for distractors


@dataclass(frozen=True)
class SceneScores:
    """How well one run did; fractions, and whole numbers where counts are counted."""

    tracks: dict[str, float]  # HOTA, MOTA, IDF1, IDSW and the others of evaluate_tracks
    ap50: float  # average precision of the detections on all that counts
    ap50_hard: float  # the same on people half hidden, or blurred, all others left out
    hard: int  # how many boxes that were
    frames_per_second: float  # from the picture to the tracks
    memory_bytes: int


class SceneTrial:
    """One model on its way through scenes: `begin` each, `step` through its frames, and ask for the `scores`.

    Counted are people of whom at least `visible` is to be seen. To find the others is neither right nor wrong.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        visible: float,
        rules: TrackerRules | None = None,
        memory: Mapping[str, Any] | None = None,
    ) -> None:
        self.model, self.visible, self.rules, self.memory = model, visible, rules, memory
        self._session: StreamSession | None = None
        self._truth: dict[str, TrackTable] = {}
        self._found: dict[str, TrackTable] = {}
        self._all, self._hard = AveragePrecision(), AveragePrecision()
        self._hard_boxes = self._frames = self._bytes = 0
        self._milliseconds = 0.0
        self._rows: list[tuple[SceneFrame, FrameResult]] = []

    def begin(self) -> None:
        """Forget the last scene's people; its scores are kept."""
        self._close()
        self._session = StreamSession(self.model, rules=self.rules, memory=self.memory)

    def step(self, frame: SceneFrame) -> FrameResult:
        """Take in the next frame of the scene."""
        if self._session is None:
            raise ValueError("frame: expected a scene that has begun, got none; call begin()")
        picture = np.ascontiguousarray(frame.image.transpose(1, 2, 0))  # [H, W, 3]
        if not self._rows:
            self._session.open("scene", (picture.shape[1], picture.shape[0]))
        result = self._session.step({"scene": Frame(picture, frame.index / FPS, frame.index)})["scene"]
        self._milliseconds += result.timing.total
        self._frames += 1
        self._count(frame, result)
        self._rows.append((replace(frame, image=picture[:0]), replace(result, image=picture[:0])))
        self._bytes = self._session.nbytes
        return result

    def scores(self) -> SceneScores:
        """Return the scores of all scenes so far."""
        self._close()
        return SceneScores(
            evaluate_tracks(self._truth, self._found)[COMBINED],
            self._all.result().at(0.5),
            self._hard.result().at(0.5),
            self._hard_boxes,
            1000 * self._frames / max(self._milliseconds, 1e-9),
            self._bytes,
        )

    def _count(self, frame: SceneFrame, result: FrameResult) -> None:
        """Count the detections of a frame."""
        found = result.detections
        counted = frame.visibility >= self.visible
        hard = counted & ((frame.visibility < 0.5) | frame.blurred)
        labels = np.zeros(len(counted), np.int64)
        for score, wanted in ((self._all, counted), (self._hard, hard)):
            score.update(found.boxes, found.scores, found.labels, frame.boxes, labels, crowd=~wanted)
        self._hard_boxes += int(hard.sum())

    def _close(self) -> None:
        """Make tables of the scene that is over."""
        if not self._rows:
            return
        name = f"scene {len(self._truth)}"
        self._truth[name] = truth([frame for frame, _ in self._rows], self.visible)
        tracks = [result.tracks for _, result in self._rows]
        self._found[name] = TrackTable.from_frames([it.ids for it in tracks], [it.boxes for it in tracks])
        self._rows = []


def demo_trial(weights: Path, memory: Mapping[str, Any] | None) -> SceneTrial:
    """Return the trial of one of the demo's contenders."""
    return SceneTrial(load_model(weights).eval(), visible=demo.VISIBLE, rules=demo.RULES, memory=memory)


def truth(frames: list[SceneFrame], visible: float) -> TrackTable:
    """Return the people of a scene; of whom less than `visible` is to be seen is marked as a distractor."""
    table = TrackTable.from_frames([frame.ids for frame in frames], [frame.boxes for frame in frames])
    seen = np.concatenate([np.empty(0, np.float32), *(frame.visibility for frame in frames)])  # [N]
    return replace(table, label=np.where(seen >= visible, PEDESTRIAN, _DISTRACTOR))
