"""Overlap of boxes, TrackEval's to the bit, and the assignment."""

from __future__ import annotations

import numpy as np
import pytest

from svm_ext.evaluate.similarity import assign, iou
from track_oracle import oracle


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("grid", [0.0, 5.0])
def test_is_trackevals_to_the_bit(scale: float, grid: float) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.uniform([0, 0, -5, -5], 40, (60, 4)) for _ in range(2))
    if grid:
        a, b = (np.round(boxes / grid) * grid for boxes in (a, b))
    a, b = a * scale, b * scale
    theirs = oracle("trackeval").datasets.MotChallenge2DBox._calculate_box_ious(a, b)
    np.testing.assert_array_equal(iou(a, b), theirs)


def test_by_hand() -> None:
    a = np.array([[0.0, 0, 10, 10], [0, 0, 0, 10], [5, 5, -5, -5]])
    b = np.array([[0.0, 0, 10, 10], [5, 0, 10, 10], [10, 0, 10, 10], [0, 0, 10, 0]])
    expected = np.array([[1, 1 / 3, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(iou(a, b), expected, rtol=1e-15)


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (3, 0)])
def test_no_boxes(n: int, m: int) -> None:
    assert iou(np.ones((n, 4)), np.ones((m, 4))).shape == (n, m)


def test_assignment_looks_at_the_sum() -> None:
    score = np.array([[0.9, 0.8], [0.8, 0.0]])
    rows, columns = assign(score)
    assert (rows.tolist(), columns.tolist()) == ([0, 1], [1, 0])
    rows, columns = assign(np.empty((0, 3)))
    assert (len(rows), len(columns)) == (0, 0)
