"""Average precision of detections, as COCO measures it; images come one after the other and are not kept."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .table import as_array

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # [T] overlaps that count as found
_RECALLS = np.linspace(0.0, 1.0, 101)  # [R] where precision is read off
_BELOW_ONE = 1 - 1e-10


@dataclass(frozen=True)
class DetectionResult:
    """What a detector found; every score is nan where there is nothing to find."""

    precision: dict[int, np.ndarray]  # class -> average precision [T]; only classes that the ground truth has
    recall: dict[int, np.ndarray]  # class -> part found [T]

    @property
    def ap(self) -> float:
        """Mean over classes and the ten thresholds 0.5, 0.55 ... 0.95."""
        return _mean(self.precision)

    def at(self, threshold: float) -> float:
        """Mean over classes at one of the ten thresholds."""
        here = np.isclose(THRESHOLDS, threshold)
        if not here.any():
            raise ValueError(f"threshold: expected one of 0.5, 0.55 ... 0.95, got {threshold}")
        return _mean({label: curve[here] for label, curve in self.precision.items()})

    def as_dict(self) -> dict[str, float]:
        """Return AP, AP50, AP75 and AR (mean recall)."""
        return {"AP": self.ap, "AP50": self.at(0.5), "AP75": self.at(0.75), "AR": _mean(self.recall)}


@dataclass
class _Class:
    """The detections of one class so far, best first within each image."""

    scores: list[np.ndarray] = field(default_factory=list)  # [D] each
    found: list[np.ndarray] = field(default_factory=list)  # [T, D]: on a box of the ground truth
    ignored: list[np.ndarray] = field(default_factory=list)  # [T, D]: in a crowd, neither right nor wrong
    wanted: int = 0


class AveragePrecision:
    """Counts detections image by image: `update` with each, then `result`."""

    def __init__(self, max_detections: int = 100) -> None:
        if max_detections < 1:
            raise ValueError(f"max_detections: expected at least 1 an image and class, got {max_detections}")
        self._most = max_detections
        self._classes: defaultdict[int, _Class] = defaultdict(_Class)

    def update(self, boxes: Any, scores: Any, labels: Any, gt_boxes: Any, gt_labels: Any, crowd: Any = None) -> None:
        """Count one image: boxes [n, 4] as x0, y0, x1, y1, scores [n], labels [n]; tensors, arrays or lists.

        `crowd` [m] marks boxes of the ground truth that stand for many: none need be found, and detections in them
        are ignored.
        """
        boxes, labels = _boxes_and_labels("", boxes, labels)
        gt_boxes, gt_labels = _boxes_and_labels("gt_", gt_boxes, gt_labels)
        scores = _vector("scores", as_array(scores, float), len(boxes))
        crowd = _vector("crowd", as_array(np.zeros(len(gt_boxes)) if crowd is None else crowd, bool), len(gt_boxes))
        for label in np.union1d(labels, gt_labels).tolist():
            mine, wanted = np.flatnonzero(labels == label), gt_labels == label
            mine = mine[np.argsort(-scores[mine], kind="stable")][: self._most]
            overlap = _overlap(boxes[mine], gt_boxes[wanted], crowd[wanted])
            of_class = self._classes[label]
            for kept, new in zip((of_class.found, of_class.ignored), _match(overlap, crowd[wanted]), strict=True):
                kept.append(new)
            of_class.scores.append(scores[mine])
            of_class.wanted += int((~crowd[wanted]).sum())

    def result(self) -> DetectionResult:
        """Return the scores of all images so far."""
        curves = {label: _curve(it) for label, it in sorted(self._classes.items()) if it.wanted}
        return DetectionResult(
            {label: ap for label, (ap, _) in curves.items()}, {label: ar for label, (_, ar) in curves.items()}
        )


def _boxes_and_labels(prefix: str, boxes: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    boxes = as_array(boxes, float)
    boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{prefix}boxes: expected [n, 4] as x0, y0, x1, y1, got {list(boxes.shape)}")
    if not np.isfinite(boxes).all():
        raise ValueError(f"{prefix}boxes: expected finite numbers, got {boxes[~np.isfinite(boxes)][0]}")
    return boxes, _vector(f"{prefix}labels", as_array(labels, np.int64), len(boxes))


def _vector(name: str, values: np.ndarray, size: int) -> np.ndarray:
    if values.shape != (size,):
        raise ValueError(f"{name}: expected one a box, [{size}], got {list(values.shape)}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: expected finite numbers, got {values[~np.isfinite(values)][0]}")
    return values


def _overlap(boxes: np.ndarray, gt: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Return intersection over union [D, G]; over the detection's own area in a crowd."""
    sides = np.minimum(boxes[:, None, 2:], gt[None, :, 2:]) - np.maximum(boxes[:, None, :2], gt[None, :, :2])
    intersection = np.maximum(sides, 0).prod(-1)  # [D, G]
    area, gt_area = ((corners[:, 2:] - corners[:, :2]).prod(-1) for corners in (boxes, gt))
    whole = area[:, None] + np.where(crowd, 0, gt_area - intersection)
    return np.divide(intersection, whole, out=np.zeros_like(intersection), where=intersection > 0)


def _match(overlap: np.ndarray, crowd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give each detection, best first, the best box that is left: found and ignored, [T, D]."""
    detections, boxes = overlap.shape
    limits = np.minimum(THRESHOLDS, _BELOW_ONE)[:, None]  # [T, 1]
    free = np.tile(~crowd, (len(limits), 1))  # [T, G]
    found, ignored = (np.zeros((len(limits), detections), bool) for _ in range(2))
    for index in np.flatnonzero((overlap >= limits[0]).any(1)):
        here = overlap[index] >= limits  # [T, G]
        score = np.where(here & free, overlap[index], 0)
        best = boxes - 1 - score[:, ::-1].argmax(1)  # [T], of equals the last, as COCO has it
        [hit] = np.nonzero(score[np.arange(len(limits)), best])
        free[hit, best[hit]] = False
        found[hit, index] = True
        ignored[:, index] = ~found[:, index] & (here & crowd).any(1)
    return found, ignored


def _curve(of_class: _Class) -> tuple[np.ndarray, np.ndarray]:
    """Return average precision and recall of one class, [T] each."""
    scores = np.concatenate(of_class.scores)  # [D]
    order = np.argsort(-scores, kind="stable")
    found, ignored = (np.concatenate(parts, axis=1)[:, order] for parts in (of_class.found, of_class.ignored))
    right, wrong = np.cumsum(found, axis=1), np.cumsum(~found & ~ignored, axis=1)  # [T, D]
    recall = right / of_class.wanted
    precision = right / np.maximum(1, right + wrong)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    precision = np.pad(precision, ((0, 0), (0, 1)))  # beyond the last recall there is none
    rows = zip(recall, precision, strict=True)
    average = np.array([row[np.searchsorted(reached, _RECALLS)].mean() for reached, row in rows])
    return average, right[:, -1] / of_class.wanted if len(scores) else np.zeros(len(THRESHOLDS))


def _mean(by_class: dict[int, Any]) -> float:
    return float(np.mean(list(by_class.values()))) if by_class else float("nan")
