"""Average precision: pycocotools' to the last digit, and cases done by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from svm_ext.evaluate import AveragePrecision, DetectionResult
from track_oracle import coco_scores

BOX = [0.0, 0.0, 16.0, 16.0]
FAR = [100.0, 0.0, 116.0, 16.0]


def random_images(
    seed: int, *, classes: int = 1, images: int = 12, crowd: float = 0.0, ties: bool = False
) -> list[Any]:
    """Boxes on whole pixels, some found well, some badly, some twice, some under another class."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(images):
        wanted = rng.integers(0, 9)
        corners = rng.integers(0, 60, (wanted, 2))
        gt = np.concatenate([corners, corners + rng.integers(6, 40, (wanted, 2))], axis=1).astype(float)
        labels = rng.integers(1, classes + 1, wanted)
        seen = rng.choice(wanted, rng.integers(0, 2 * wanted + 1)) if wanted else np.empty(0, int)
        boxes = gt[seen] + rng.integers(-3, 4, (len(seen), 4))
        named = np.where(rng.random(len(seen)) < 0.8, labels[seen], rng.integers(1, classes + 1, len(seen)))
        false = rng.integers(0, 4)
        start = rng.integers(0, 60, (false, 2))
        boxes = np.concatenate([boxes, np.concatenate([start, start + rng.integers(6, 30, (false, 2))], axis=1)])
        scores = rng.random(len(boxes))
        found.append(
            {
                "boxes": boxes,
                "scores": np.round(scores, 1) if ties else scores,
                "labels": np.concatenate([named, rng.integers(1, classes + 1, false)]),
                "gt_boxes": gt,
                "gt_labels": labels,
                "crowd": rng.random(wanted) < crowd,
            }
        )
    return found


def result_of(images: list[Any], max_detections: int = 100) -> DetectionResult:
    meter = AveragePrecision(max_detections)
    for image in images:
        meter.update(**image)
    return meter.result()


def check(images: list[Any], classes: int, max_detections: int = 100) -> DetectionResult:
    """Compare every class and threshold with pycocotools, and return ours."""
    ours = result_of(images, max_detections)
    precision, recall = coco_scores(images, list(range(1, classes + 1)), max_detections)  # [T, R, K], [T, K]
    known = [label for label in range(1, classes + 1) if recall[0, label - 1] > -1]
    assert list(ours.precision) == list(ours.recall) == known
    for label in known:
        average = precision[:, :, label - 1].mean(1)
        np.testing.assert_allclose(ours.precision[label], average, rtol=0, atol=1e-12)
        np.testing.assert_allclose(ours.recall[label], recall[:, label - 1], rtol=0, atol=1e-12)
    if known:
        assert ours.ap == pytest.approx(precision[precision > -1].mean(), abs=1e-12)
        assert ours.at(0.5) == pytest.approx(precision[0][precision[0] > -1].mean(), abs=1e-12)
    return ours


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("crowd", [0.0, 0.3])
@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_pycocotools(seed: int, classes: int, crowd: float, ties: bool) -> None:
    found = check(random_images(seed, classes=classes, crowd=crowd, ties=ties), classes)
    assert 0 < found.ap < found.at(0.5) < 1


@pytest.mark.parametrize("most", [1, 3, 10])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_a_limit_of_detections(most: int, seed: int) -> None:
    images = random_images(20 + seed, classes=2, crowd=0.1, ties=True)
    limited = check(images, 2, most)
    assert limited.ap <= result_of(images).ap


def test_agrees_where_a_class_is_never_there() -> None:
    images = random_images(5, classes=2)
    for image in images:
        image["labels"] = image["labels"] + 1  # class 3 is only ever detected, class 1 only ever there
    found = check(images, 3)
    assert list(found.precision) == [1, 2]
    assert found.precision[1].max() == 0


def test_agrees_where_all_is_crowd() -> None:
    images = random_images(6)
    for image in images:
        image["crowd"] = np.ones(len(image["gt_boxes"]), bool)
    assert math.isnan(check(images, 1).ap)


@pytest.mark.parametrize("side", ["", "gt_"])
def test_agrees_where_a_side_is_empty(side: str) -> None:
    images = random_images(7)
    for image in images:
        image[f"{side}boxes"], image[f"{side}labels"] = np.empty((0, 4)), np.empty(0, int)
        image["crowd" if side else "scores"] = np.empty(0)
    found = check(images, 1)
    assert math.isnan(found.ap) if side else found.ap == 0


def test_nothing_at_all_is_nan() -> None:
    assert all(math.isnan(value) for value in AveragePrecision().result().as_dict().values())
    assert all(math.isnan(value) for value in result_of(random_images(0, images=0)).as_dict().values())


def image(boxes: list[Any], scores: list[float], gt: list[Any], crowd: list[bool] | None = None) -> dict[str, Any]:
    found = {"boxes": boxes, "scores": scores, "labels": [0] * len(boxes), "gt_boxes": gt, "gt_labels": [0] * len(gt)}
    return found if crowd is None else {**found, "crowd": crowd}


def test_all_found_is_one() -> None:
    assert result_of([image([BOX, FAR], [0.2, 0.9], [FAR, BOX])]).as_dict() == {"AP": 1, "AP50": 1, "AP75": 1, "AR": 1}


def test_a_box_found_twice_is_found_once() -> None:
    """The worse score is a false one; behind the found box it costs nothing, before a second one half of the rest."""
    assert result_of([image([BOX, BOX], [0.9, 0.8], [BOX])]).ap == 1
    two = result_of([image([BOX, BOX, FAR], [0.9, 0.8, 0.7], [BOX, FAR])])
    assert two.ap == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_overlap_decides_at_each_threshold() -> None:
    """A box of which three quarters are covered counts up to 0.75, that included."""
    found = result_of([image([[0, 0, 12, 16]], [0.9], [BOX])])
    assert found.precision[0].tolist() == [1] * 6 + [0] * 4
    assert (found.at(0.75), found.at(0.8)) == (1, 0)
    assert found.ap == pytest.approx(0.6)


def test_what_lies_in_a_crowd_is_neither_right_nor_wrong() -> None:
    crowd = [0.0, 0.0, 160.0, 160.0]
    inside, outside = [10.0, 10.0, 26.0, 26.0], [200.0, 0.0, 216.0, 16.0]
    found = image([inside, inside, FAR], [0.9, 0.8, 0.7], [crowd, FAR], [True, False])
    assert result_of([found]).ap == 1
    found = image([outside, FAR], [0.9, 0.7], [crowd, FAR], [True, False])
    assert result_of([found]).ap == 0.5


def test_a_box_is_matched_before_the_crowd_around_it() -> None:
    crowd = [0.0, 0.0, 160.0, 160.0]
    assert result_of([image([BOX], [0.5], [crowd, BOX], [True, False])]).as_dict()["AR"] == 1


def test_classes_count_alike_however_many_boxes_they_have() -> None:
    meter = AveragePrecision()
    meter.update([BOX] + [FAR], [0.9, 0.9], [1, 2], [BOX, FAR, [50, 50, 70, 70]], [1, 2, 2])
    assert meter.result().at(0.5) == pytest.approx((1 + 51 / 101) / 2)


def test_tensors_of_a_detector_are_taken_as_they_are() -> None:
    boxes = torch.tensor([BOX, FAR], dtype=torch.bfloat16, requires_grad=True)
    meter = AveragePrecision()
    meter.update(boxes, torch.tensor([0.9, 0.8]), torch.tensor([0, 0]), torch.tensor([BOX]), torch.tensor([0]))
    assert meter.result().ap == 1
    meter.update(torch.empty(0, 4), torch.empty(0), torch.empty(0), torch.empty(0, 4), torch.empty(0))
    assert meter.result().ap == 1


def test_result_can_be_asked_again_and_again() -> None:
    images = random_images(3)
    meter = AveragePrecision()
    for one in images:
        meter.update(**one)
        meter.result()
    assert meter.result().as_dict() == result_of(images).as_dict()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"boxes": [[0, 0, 1]]}, r"boxes: expected \[n, 4\] as x0, y0, x1, y1, got \[1, 3\]"),
        ({"gt_boxes": BOX}, r"gt_boxes: expected \[n, 4\] as x0, y0, x1, y1, got \[4\]"),
        ({"boxes": [[0, 0, 1, float("nan")]]}, "boxes: expected finite numbers, got nan"),
        ({"scores": [0.5, 0.6]}, r"scores: expected one a box, \[1\], got \[2\]"),
        ({"scores": [float("inf")]}, "scores: expected finite numbers, got inf"),
        ({"labels": 0}, r"labels: expected one a box, \[1\], got \[\]"),
        ({"gt_labels": []}, r"gt_labels: expected one a box, \[1\], got \[0\]"),
        ({"crowd": [True, False]}, r"crowd: expected one a box, \[1\], got \[2\]"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_not_counted(changed: dict[str, Any], told: str) -> None:
    meter = AveragePrecision()
    with pytest.raises(ValueError, match=told):
        meter.update(**{**image([BOX], [0.5], [BOX]), **changed})
    assert math.isnan(meter.result().ap)


def test_thresholds_and_limits_that_are_not_there() -> None:
    with pytest.raises(ValueError, match="threshold: expected one of 0.5, 0.55 ... 0.95, got 0.52"):
        result_of([image([BOX], [0.5], [BOX])]).at(0.52)
    with pytest.raises(ValueError, match="max_detections: expected at least 1 an image and class, got 0"):
        AveragePrecision(0)
