"""Detections, and how they are chosen: threshold, best class, suppression, one list an image."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from helpers import Backend
from svm_ext.models.detections import Detections, best_of
from svm_ext.models.head import HeadMaps, Predictions, decode

BOX = [10.0, 20.0, 30.0, 60.0]


def logit(p: float) -> float:
    return math.inf if p == 1 else math.log(p / (1 - p))


def predicted(*images: list[tuple[list[float], float, list[float]]]) -> Predictions:
    """Predictions of images, each a list of (box, objectness, probability of each class)."""
    boxes = torch.tensor([[box for box, _, _ in image] for image in images])
    obj = torch.tensor([[logit(p) for _, p, _ in image] for image in images])
    cls = torch.tensor([[[logit(p) for p in ps] for _, _, ps in image] for image in images])
    return Predictions(boxes, cls, obj, torch.zeros_like(boxes), torch.ones(boxes.shape[1], 3))


def moved(box: list[float], by: float) -> list[float]:
    return [box[0] + by, box[1], box[2] + by, box[3]]


def detections(count: int = 3) -> Detections:
    return Detections(torch.rand(count, 4), torch.rand(count), torch.arange(count))


def test_score_is_class_times_objectness() -> None:
    [found] = best_of(predicted([(BOX, 0.5, [0.3, 0.8])]), 0.01, 0.7)
    torch.testing.assert_close(found.scores, torch.tensor([0.4]))
    assert found.labels.tolist() == [1]
    assert found.boxes.tolist() == [BOX]


def test_best_first() -> None:
    [found] = best_of(predicted([(moved(BOX, 50 * i), p, [0.9]) for i, p in enumerate((0.2, 0.9, 0.5))]), 0.01, 0.7)
    assert found.boxes[:, 0].tolist() == [60, 110, 10]
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)


def test_threshold_is_the_least_that_counts() -> None:
    exact = torch.tensor([logit(0.25)]).sigmoid().item()  # what a prior of certain class scores
    image = [(BOX, 0.25, [1.0]), (moved(BOX, 50), 0.24, [1.0])]
    assert len(best_of(predicted(image), exact, 0.7)[0]) == 1
    assert len(best_of(predicted(image), 0.2, 0.7)[0]) == 2
    assert len(best_of(predicted(image), 0.0, 0.7)[0]) == 2


def test_doubles_go_within_their_class_and_image_only() -> None:
    same = [(BOX, 0.9, [0.9, 0.1]), (moved(BOX, 1), 0.8, [0.9, 0.1]), (moved(BOX, 2), 0.7, [0.1, 0.9])]
    first, second = best_of(predicted(same, same), 0.01, 0.7)
    for found in (first, second):
        assert found.boxes[:, 0].tolist() == [10, 12]
        assert found.labels.tolist() == [0, 1]


def test_nms_threshold() -> None:
    shifted = [(BOX, 0.9, [0.9]), (moved(BOX, 5), 0.8, [0.9])]  # IoU 15 / 25
    assert len(best_of(predicted(shifted), 0.01, 0.61)[0]) == 2
    assert len(best_of(predicted(shifted), 0.01, 0.59)[0]) == 1


def test_nothing_found() -> None:
    found = best_of(predicted([(BOX, 0.001, [0.5])], [(BOX, 0.9, [0.9])], [(BOX, 0.001, [0.5])]), 0.01, 0.7)
    assert [len(x) for x in found] == [0, 1, 0]
    assert found[0].boxes.shape == (0, 4)
    assert found[0].scores.shape == found[0].labels.shape == (0,)
    assert found[0].labels.dtype == torch.int64


def test_no_images_and_no_priors() -> None:
    none = Predictions(
        torch.zeros(0, 5, 4), torch.zeros(0, 5, 1), torch.zeros(0, 5), torch.zeros(0, 5, 4), torch.ones(5, 3)
    )
    assert best_of(none, 0.01, 0.7) == []
    bare = Predictions(
        torch.zeros(2, 0, 4), torch.zeros(2, 0, 1), torch.zeros(2, 0), torch.zeros(2, 0, 4), torch.ones(0, 3)
    )
    assert [len(found) for found in best_of(bare, 0.01, 0.7)] == [0, 0]


def test_batch_is_its_images_alone() -> None:
    boxes = torch.rand(3, 40, 2).repeat(1, 1, 2) * 50
    boxes[..., 2:] += 5 + 10 * torch.rand(3, 40, 2)
    batch = Predictions(boxes, torch.randn(3, 40, 2), torch.randn(3, 40), boxes, torch.ones(40, 3))
    found = best_of(batch, 0.1, 0.5)
    assert sum(map(len, found)) < 120
    for i in range(3):
        [alone] = best_of(Predictions(*(x[i : i + 1] for x in batch[:4]), batch.priors), 0.1, 0.5)
        assert torch.equal(found[i].boxes, alone.boxes)
        torch.testing.assert_close(found[i].scores, alone.scores)
        assert torch.equal(found[i].labels, alone.labels)


def test_nan_shows() -> None:
    """Broken pixels give broken boxes, not an empty picture that looks well."""
    image = [(BOX, 0.9, [0.9]), ([math.nan] * 4, math.nan, [math.nan])]
    [found] = best_of(predicted(image), 0.01, 0.7)
    assert len(found) == 2
    assert found.scores[0] > 0.8
    assert found.scores[1].isnan()
    assert found.boxes[1].isnan().all()


def test_boxes_come_in_fp32_and_without_gradient() -> None:
    wide = Predictions(*(x.double().requires_grad_() for x in predicted([(BOX, 0.9, [0.9])])))
    [found] = best_of(wide, 0.01, 0.7)
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    assert not found.boxes.requires_grad
    assert not found.scores.requires_grad


def test_rescale() -> None:
    found = Detections(torch.tensor([BOX]), torch.ones(1), torch.zeros(1, dtype=torch.int64))
    larger = found.rescale(2, 0.5)
    assert larger.boxes.tolist() == [[20, 10, 60, 30]]
    assert found.boxes.tolist() == [BOX]
    assert larger.scores is found.scores


def test_length_and_device() -> None:
    assert len(detections(3)) == 3
    moved_away = detections(2).to("meta")
    assert {x.device.type for x in (moved_away.boxes, moved_away.scores, moved_away.labels)} == {"meta"}


def test_frozen() -> None:
    with pytest.raises(AttributeError):
        detections().boxes = torch.zeros(0, 4)


@pytest.mark.parametrize(
    ("boxes", "scores", "labels", "message"),
    [
        (torch.zeros(4), torch.zeros(1), torch.zeros(1), r"boxes: expected shape \[n, 4\], got \[4\]"),
        (torch.zeros(2, 5), torch.zeros(2), torch.zeros(2), r"boxes: expected shape \[n, 4\], got \[2, 5\]"),
        (torch.zeros(2, 4), torch.zeros(3), torch.zeros(2), r"scores: expected shape \[n=2\], got \[3\]"),
        (torch.zeros(2, 4), torch.zeros(2), torch.zeros(2, 1), r"labels: expected shape \[n=2\], got \[2, 1\]"),
    ],
)
def test_wrong_shapes(boxes: Tensor, scores: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Detections(boxes, scores, labels)


def test_golden_detections(golden: Callable[[str], Path], backend: Backend) -> None:
    case = load_file(golden("detector_eval.safetensors"))
    for t in range(5):
        maps = HeadMaps(*([case[f"{part}/{t}/{level}"] for level in range(3)] for part in ("cls", "box", "obj")))
        for b, found in enumerate(best_of(decode(maps, (8, 16, 32)), 0.01, 0.7)):
            expected = case[f"detections/{t}/{b}"]
            torch.testing.assert_close(found.boxes, expected[:, :4], rtol=1e-5, atol=1e-4)
            torch.testing.assert_close(found.scores, expected[:, 4], rtol=1e-5, atol=1e-6)
            assert torch.equal(found.labels, case[f"labels/{t}/{b}"])
