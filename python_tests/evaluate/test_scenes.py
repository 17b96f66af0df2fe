"""Scores of generated scenes: a detector that knows the truth is perfect, and hidden people do not count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from svm_ext.data.scenes import Scene, SceneConfig, SceneFrame
from svm_ext.evaluate.scenes import SceneTrial, truth
from svm_ext.models.detections import Detections
from svm_ext.tracking import TrackerRules

RULES = TrackerRules(high=0.5, init=0.5, confirm=1)
SIZE = (96, 160)


class Oracle(nn.Module):
    """Finds what it was told beforehand."""

    strides = (4, 8, 16)

    def __init__(self, frames: list[SceneFrame], least: float = 0.0, score: float = 0.9) -> None:
        super().__init__()
        self.eval()
        self.answers = [torch.from_numpy(frame.boxes[frame.visibility >= least]) for frame in frames]
        self.score, self.asked = score, 0

    def new_memory(self, streams: int, image_size: tuple[int, int], **options: object) -> Memory:
        return Memory(streams)

    def forward(self, frames: Tensor, memory: object, streams: Tensor) -> list[Detections]:
        boxes = self.answers[self.asked]
        self.asked += 1
        return [Detections(boxes, torch.full((len(boxes),), self.score), torch.zeros(len(boxes), dtype=torch.int64))]


class Memory:
    """As much of a StreamMemory as a session asks for."""

    frames, evict, nbytes = 4, "merge", 128

    def __init__(self, streams: int) -> None:
        self.streams = streams

    def reset(self, streams: object) -> None:
        """Forget nothing: there is nothing."""


@pytest.fixture(scope="module")
def frames() -> list[SceneFrame]:
    return list(Scene(3, SceneConfig(size=SIZE, statues=0, shake=0.0)).frames(0, 40))


def scored(frames: list[SceneFrame], model: Oracle, visible: float = 0.2) -> SceneTrial:
    trial = SceneTrial(model, visible=visible, rules=RULES)
    model.config = type("Config", (), {"picture_size": (160, 96)})()
    trial.begin()
    for frame in frames:
        trial.step(frame)
    return trial


def test_who_knows_the_truth_is_perfect(frames: list[SceneFrame]) -> None:
    scores = scored(frames, Oracle(frames)).scores()
    assert scores.ap50 == scores.ap50_hard == pytest.approx(1)
    assert scores.tracks["FN"] == scores.tracks["FP"] == 0
    assert scores.tracks["MOTA"] > 0.9
    assert scores.frames_per_second > 0
    assert scores.memory_bytes == 128


def test_hidden_people_need_not_be_found_and_may_be(frames: list[SceneFrame]) -> None:
    assert any((frame.visibility < 0.2).any() for frame in frames)
    for least in (0.0, 0.2):
        tracks = scored(frames, Oracle(frames, least)).scores().tracks
        assert tracks["FP"] == tracks["FN"] == 0
        assert tracks["GT_Dets"] == sum(int((frame.visibility >= 0.2).sum()) for frame in frames)


def test_who_misses_half_hidden_people_loses_there(frames: list[SceneFrame]) -> None:
    scores = scored(frames, Oracle(frames, 0.5)).scores()
    hard = sum(int(((f.visibility >= 0.2) & ((f.visibility < 0.5) | f.blurred)).sum()) for f in frames)
    assert scores.hard == hard > 0
    assert scores.ap50_hard < 0.7
    assert scores.ap50 > scores.ap50_hard
    assert scores.tracks["FN"] > 0


def test_scenes_add_up_and_share_no_people(frames: list[SceneFrame]) -> None:
    model = Oracle(frames * 2)
    trial = scored(frames, model)
    one = trial.scores().tracks
    trial.begin()
    for frame in frames:
        trial.step(frame)
    both = trial.scores().tracks
    assert both["GT_IDs"] == 2 * one["GT_IDs"]
    assert both["IDSW"] == 2 * one["IDSW"]
    assert both["Frames"] == 80


def test_a_scene_that_has_not_begun_is_an_error(frames: list[SceneFrame]) -> None:
    with pytest.raises(ValueError, match="begin"):
        SceneTrial(Oracle(frames), visible=0.2).step(frames[0])


def test_a_frame_has_the_scenes_own_time(frames: list[SceneFrame]) -> None:
    trial = SceneTrial(Oracle(frames[10:]), visible=0.2, rules=RULES)
    trial.begin()
    result = trial.step(frames[10])
    assert (result.index, result.time) == (10, 0.4)


def test_truth_marks_the_hidden(frames: list[SceneFrame]) -> None:
    table = truth(frames, 0.2)
    seen = np.concatenate([frame.visibility for frame in frames])
    assert (table.label == np.where(seen >= 0.2, 1, 8)).all()
    assert len(truth([replace(frames[0], ids=frames[0].ids[:0], boxes=frames[0].boxes[:0],
                              visibility=frames[0].visibility[:0])], 0.2)) == 0  # fmt: skip
