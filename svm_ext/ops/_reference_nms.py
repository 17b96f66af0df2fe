"""The oracle of nms in plain torch: every box against every other, best first."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import _check


def check(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> None:
    """Check what nms is given, in the words of the C++ library."""
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes: expected shape [n, 4], got {list(boxes.shape)}; give x1, y1, x2, y2 a row")
    for name, tensor in (("boxes", boxes), ("scores", scores)):
        if tensor.dtype not in (torch.float32, torch.float64):
            got = _check.name_of(tensor.dtype)
            raise ValueError(f"{name}: expected float32 or float64, got {got}; convert it with .float()")
    _check.dtype("groups", groups, torch.int64, "convert it with .long()")
    for name, tensor in (("scores", scores), ("groups", groups)):
        _check.shape(name, tensor, boxes.shape[:1], "n", f"there is one {name[:-1]} a box")
        _check.same_device(name, tensor, "boxes", boxes)
    if math.isnan(threshold):
        raise ValueError("threshold: expected a number, got nan; 0.7 is a usual one")


def best_first(scores: Tensor) -> Tensor:
    """Return the order of falling scores: NaN last, and of equal ones the first first."""
    missing = scores.isnan()
    order = scores.masked_fill(missing, -math.inf).argsort(descending=True, stable=True)
    return order[missing[order].argsort(stable=True)]


def overlaps(boxes: Tensor, threshold: float) -> Tensor:
    """Return [n, n] whether the IoU of two boxes exceeds the threshold; a box with a NaN overlaps nothing.

    Multiplied out, as in kernels/cpu/nms.h: exact for whole numbers, and NaN compares as false.
    """
    limit = torch.tensor(threshold, dtype=boxes.dtype, device=boxes.device)
    low, high = boxes[:, :2], boxes[:, 2:]  # [n, 2] corners
    area = (high - low).clamp(min=0).prod(1)  # [n]
    sides = torch.minimum(high[:, None], high) - torch.maximum(low[:, None], low)  # [n, n, 2]
    return sides.clamp(min=0).prod(2) * (1 + limit) > limit * (area[:, None] + area)


def nms_mask(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """Return [n] which boxes stay: those that no better kept box of their own group overlaps."""
    check(boxes, scores, groups, threshold)
    order = best_first(scores)
    suppresses = overlaps(boxes[order], threshold) & (groups[order][:, None] == groups[order])
    suppresses = suppresses.triu(1)  # [n, n] the better one in the row
    kept = torch.ones_like(order, dtype=torch.bool)
    for i in range(len(order)):
        kept &= ~(suppresses[i] & kept[i])
    return torch.empty_like(kept).scatter_(0, order, kept)
