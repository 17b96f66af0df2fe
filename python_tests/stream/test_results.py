"""FrameResult: what it gives to others."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from svm_ext.stream.results import FrameResult, Timing
from svm_ext.tracking import Tracks


def result(count: int) -> FrameResult:
    tracks = Tracks(
        torch.arange(3, 3 + count),
        torch.arange(4.0 * count).reshape(-1, 4),
        torch.linspace(0.5, 0.9, count),
        torch.ones(count, dtype=torch.int64),
        torch.zeros(count, dtype=torch.bool),
    )
    return FrameResult("door", 7, 0.28, tracks, None, Timing(1.0, 2.0, 4.0), 8, np.zeros((4, 4, 3), np.uint8))


class FakeSupervision(ModuleType):
    """What is needed of that library, which checks what it is given."""

    class Detections:
        def __init__(self, xyxy, confidence, class_id, tracker_id):
            assert xyxy.ndim == 2
            assert xyxy.shape[1] == 4
            assert all(isinstance(it, np.ndarray) for it in (xyxy, confidence, class_id, tracker_id))
            assert len(xyxy) == len(confidence) == len(class_id) == len(tracker_id)
            self.xyxy, self.confidence, self.class_id, self.tracker_id = xyxy, confidence, class_id, tracker_id


@pytest.mark.parametrize("count", [0, 1, 5])
def test_supervision(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setitem(sys.modules, "supervision", FakeSupervision("supervision"))
    found = result(count).to_supervision()
    assert found.xyxy.shape == (count, 4)
    assert found.xyxy.dtype == np.float32
    assert found.tracker_id.tolist() == list(range(3, 3 + count))
    assert found.class_id.tolist() == [1] * count
    assert np.allclose(found.confidence, np.linspace(0.5, 0.9, count))


def test_the_real_supervision() -> None:
    supervision = pytest.importorskip("supervision")
    found = result(2).to_supervision()
    assert isinstance(found, supervision.Detections)
    assert len(found) == 2


def test_without_supervision_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match="type `pip install supervision`"):
        result(1).to_supervision()


def test_plain_values_survive_json() -> None:
    values = result(2).to_dict()
    assert json.loads(json.dumps(values)) == values
    assert values["frame"] == 7
    assert values["tracks"][1] == {"id": 4, "box": [4, 5, 6, 7], "score": 0.9, "label": 1}


def test_arrays_will_do_as_well_as_tensors() -> None:
    tensors = result(2)
    names = ("ids", "boxes", "scores", "labels", "predicted")
    arrays = Tracks(*(np.asarray(getattr(tensors.tracks, name)) for name in names))
    made = FrameResult("door", 7, 0.28, arrays, None, tensors.timing, 8, tensors.image)
    assert made.to_dict() == tensors.to_dict()


def test_timing_adds_up() -> None:
    assert result(0).timing.total == 7


def test_a_result_prints_without_its_picture() -> None:
    assert "image" not in repr(result(0))
