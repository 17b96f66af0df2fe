"""nms: what is left of overlapping boxes of many classes."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import ops
from ...ops import _reference_nms
from .. import baselines
from ..case import Case, Contender

BOXES = (300, 1000, 3000)  # after the score threshold; the last is a crowded street
THRESHOLD = 0.7
_BOXES_PER_OBJECT = 20
_CLASSES = 3


def bytes_moved(boxes: int) -> int:
    """Read four corners and a score (fp32) and a label (int64), write a bit in a byte."""
    return boxes * (5 * 4 + 8 + 1)


def detections(boxes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return boxes, scores and labels as a detector gives them: many around every object, of all sizes."""
    objects = max(1, boxes // _BOXES_PER_OBJECT)
    middle, size = torch.rand(objects, 2) * torch.tensor([1440.0, 800.0]), torch.rand(objects, 2) * 150 + 5
    which = torch.randint(objects, (boxes,))
    middle = middle[which] + torch.randn(boxes, 2) * size[which] * 0.1
    size = size[which] * torch.exp(torch.randn(boxes, 2) * 0.15)
    labels = torch.randint(_CLASSES, (objects,))[which]
    return torch.cat([middle - size / 2, middle + size / 2], 1), torch.rand(boxes), labels


def build(count: int, device: str = "cpu") -> Case:
    """Return the case: ours, and a plain torch loop."""
    boxes, scores, labels = (x.to(device) for x in detections(count))

    def as_mask(kept: Tensor) -> Tensor:
        return torch.zeros(count, device=device).index_fill_(0, kept, 1.0)

    contenders = [
        Contender("nms", lambda: ops.nms(boxes, scores, labels, iou_threshold=THRESHOLD), as_mask),
        Contender("loop", lambda: baselines.nms_loop(boxes, scores, labels, THRESHOLD), as_mask),
    ]

    def expected(rows: Tensor) -> tuple[Tensor, Tensor]:
        kept = _reference_nms.nms_mask(boxes.double(), scores.double(), labels, THRESHOLD)[rows].double()
        return kept, kept.float()

    return Case("nms", torch.float32, {"boxes": count}, bytes_moved(count), 0, contenders, expected, count)
