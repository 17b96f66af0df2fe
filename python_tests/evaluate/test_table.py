"""Tables from lists of frames, as a running tracker has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from svm_ext.evaluate import TrackTable
from svm_ext.evaluate.table import as_array, repeated

BOX = [10.0, 20.0, 40.0, 80.0]


def test_corners_become_sides_and_frames_count_from_one() -> None:
    table = TrackTable.from_frames([[], [3, 1], [], [1]], [[], [BOX, BOX], [], [BOX]])
    assert table.frame.tolist() == [2, 2, 4]
    assert table.id.tolist() == [3, 1, 1]
    assert table.box.tolist() == [[10, 20, 30, 60]] * 3
    assert table.mark.tolist() == table.label.tolist() == [1, 1, 1]
    assert table.last_frame == 4


@pytest.mark.parametrize(
    ("ids", "boxes"),
    [
        (torch.tensor([3, 1]), torch.tensor([BOX, BOX], requires_grad=True)),
        (torch.tensor([3, 1], dtype=torch.int32), torch.tensor([BOX, BOX], dtype=torch.bfloat16)),
        (np.array([3, 1]), np.array([BOX, BOX], np.float32)),
        ((3, 1), (tuple(BOX), tuple(BOX))),
        ([3.0, 1.0], [BOX, BOX]),
    ],
)
def test_tensors_arrays_and_lists_are_the_same(ids: Any, boxes: Any) -> None:
    table = TrackTable.from_frames([ids], [boxes])
    assert table.id.tolist() == [3, 1]
    assert table.box.dtype == np.float64
    assert table.box.tolist() == [[10, 20, 30, 60]] * 2


@pytest.mark.parametrize("frames", [0, 1, 5])
def test_frames_without_boxes(frames: int) -> None:
    table = TrackTable.from_frames([torch.empty(0, dtype=torch.int64)] * frames, [torch.empty(0, 4)] * frames)
    assert (len(table), table.last_frame, table.box.shape) == (0, 0, (0, 4))


def test_the_given_boxes_are_left_as_they_are() -> None:
    boxes = np.array([BOX])
    TrackTable.from_frames([[1]], [boxes])
    assert boxes.tolist() == [BOX]


@pytest.mark.parametrize(
    ("ids", "boxes", "told"),
    [
        ([[1]], [[BOX], [BOX]], "boxes: expected one entry a frame, 1 as ids has, got 2"),
        ([[1], [1, 2]], [[BOX], [BOX]], r"in frame 2, got ids \[2\] and boxes \[1, 4\]"),
        ([[1]], [BOX], r"in frame 1, got ids \[1\] and boxes \[4\]"),
        ([1], [[BOX]], r"in frame 1, got ids \[\] and boxes \[1, 4\]"),
        ([[1]], [[BOX[:3]]], r"in frame 1, got ids \[1\] and boxes \[1, 3\]"),
        ([[1]], [[[0, 0, float("nan"), 1]]], "boxes: expected finite numbers, got nan in frame 1"),
        ([[]], [[BOX]], r"got ids \[0\] and boxes \[1, 4\]"),
        ([[-1]], [[BOX]], "ids: expected whole numbers from 0, got -1 in frame 1"),
        ([[1.5]], [[BOX]], "ids: expected whole numbers from 0, got 1.5 in frame 1"),
        ([[7], [2, 7, 2]], [[BOX], [BOX] * 3], "ids: expected each id once a frame, got 2 twice in frame 2"),
    ],
)
def test_what_cannot_be_meant_is_refused(ids: Any, boxes: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        TrackTable.from_frames(ids, boxes)


def test_rows_are_sorted_by_frame_and_stay_together() -> None:
    frame, id = np.array([3, 1, 3, 1]), np.array([1, 2, 3, 4])
    box = np.arange(16.0).reshape(4, 4)
    table = TrackTable.from_columns(frame, id, box, id * 0.1, id * 10)
    assert table.frame.tolist() == [1, 1, 3, 3]
    assert table.id.tolist() == [2, 4, 1, 3]
    assert table.box[:, 0].tolist() == [4, 12, 0, 8]
    assert table.label.tolist() == [20, 40, 10, 30]


def test_repeated_gives_the_earliest_row_that_repeats_and_the_one_it_repeats() -> None:
    frame = np.array([1, 2, 2, 1, 2, 2])
    assert repeated(frame, np.array([5, 5, 6, 7, 6, 5])) == (2, 4)
    assert repeated(frame, np.array([5, 5, 6, 7, 8, 9])) is None
    assert repeated(frame[:0], frame[:0]) is None
    assert repeated(np.array([1, 1, 1]), np.array([4, 4, 4])) == (0, 1)


def test_as_array_keeps_large_whole_numbers() -> None:
    assert as_array(torch.tensor([2**53 + 1]), np.int64).tolist() == [2**53 + 1]
