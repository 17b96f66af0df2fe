"""Overlap of boxes, and the assignment that makes the most of it."""

from __future__ import annotations

import numpy as np

EPS = np.finfo(float).eps  # TrackEval's slack in comparisons with a threshold


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return intersection over union [n, m] of boxes left, top, width, height; a box without area overlaps nothing."""
    (ax, ay, area_a), (bx, by, area_b) = map(_extent, (a[:, None], b[None]))  # [n, 1] and [1, m]
    intersection = _shared(ax, bx) * _shared(ay, by)  # [n, m]
    union = area_a + area_b - intersection
    real = (area_a > EPS) & (area_b > EPS) & (union > EPS)
    return np.divide(intersection, union, out=np.zeros_like(union), where=real)


_Range = tuple[np.ndarray, np.ndarray]


def _extent(box: np.ndarray) -> tuple[_Range, _Range, np.ndarray]:
    """Return where boxes begin and end in x and in y, and their areas.

    These from the corners, as TrackEval has it: width times height differs in the last bit, which may decide a tie.
    """
    x, y, width, height = (box[..., index] for index in range(4))
    right, bottom = x + width, y + height
    return (x, right), (y, bottom), (right - x) * (bottom - y)


def _shared(a: _Range, b: _Range) -> np.ndarray:
    """Return the length that two ranges share."""
    return np.maximum(np.minimum(a[1], b[1]) - np.maximum(a[0], b[0]), 0)


def assign(score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns, each once at most, whose scores have the largest sum."""
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(-score)
