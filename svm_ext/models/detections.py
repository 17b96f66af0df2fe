"""Detections: the boxes found in one picture, and how they are chosen from what the head says."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .. import ops
from .head import Predictions


@dataclass(frozen=True, eq=False)
class Detections:
    """Boxes of one picture, best score first."""

    boxes: Tensor  # [n, 4] fp32, x1 y1 x2 y2 in pixels
    scores: Tensor  # [n] fp32
    labels: Tensor  # [n] int64

    def __post_init__(self) -> None:
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4:
            raise ValueError(f"boxes: expected shape [n, 4], got {list(self.boxes.shape)}; give x1, y1, x2, y2 a row")
        for name in ("scores", "labels"):
            if getattr(self, name).shape != self.boxes.shape[:1]:
                raise ValueError(
                    f"{name}: expected shape [n={len(self.boxes)}], got {list(getattr(self, name).shape)};"
                    f" there is one {name[:-1]} a box"
                )

    def __len__(self) -> int:
        return len(self.boxes)

    def to(self, device: torch.device | str) -> Detections:
        """Return the same boxes on another device."""
        return Detections(self.boxes.to(device), self.scores.to(device), self.labels.to(device))

    def rescale(self, sx: float, sy: float) -> Detections:
        """Return the same boxes with x times sx and y times sy, as in a picture that is larger by so much."""
        return replace(self, boxes=self.boxes * self.boxes.new_tensor([sx, sy, sx, sy]))


@torch.no_grad()
def best_of(predictions: Predictions, score_threshold: float, nms_threshold: float) -> list[Detections]:
    """Return the detections of each of N images: what scores at least the threshold, without doubles.

    A prior speaks for its best class. A score that is NaN is not below the threshold, so that broken pixels
    or weights show.
    """
    chance, labels = predictions.cls.sigmoid().max(-1)  # [N, P]
    scores = chance * predictions.obj.sigmoid()
    images, priors = (~(scores < score_threshold)).nonzero(as_tuple=True)  # [n]
    boxes, scores, labels = (x[images, priors] for x in (predictions.boxes.float(), scores.float(), labels))
    kept = ops.nms(boxes, scores, labels, images, nms_threshold)
    kept = kept[images[kept].argsort(stable=True)]  # by image, and then still by score
    counts = torch.bincount(images[kept], minlength=len(predictions.boxes)).tolist()
    parts = (x[kept].split(counts) for x in (boxes, scores, labels))
    return [Detections(*found) for found in zip(*parts, strict=True)]
