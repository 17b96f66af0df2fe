"""What a tracker is given and what it returns: a detector's boxes, and boxes with the numbers of their objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .boxes import xyxy_to_xywh

Array = np.ndarray | Tensor

_MOST_EXACT = 2.0**53  # whole numbers beyond it are not told apart as floating point


@dataclass(frozen=True, eq=False)
class Tracks:
    """The objects of one frame: arrays or tensors, like the detections that they were made from."""

    ids: Array  # [n] int64, from 1, never given twice by one tracker
    boxes: Array  # [n, 4] the detections' own boxes
    scores: Array  # [n]
    labels: Array  # [n]
    predicted: Array  # [n] bool: not detected in this frame, box and score are expected ones (`coast`)

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, frame: int) -> np.ndarray:
        """Return float64 [n, 7]: frame, id, x, y, width, height, score, as MOTChallenge files have them."""
        boxes, scores, ids = (to_numpy(array, np.float64) for array in (self.boxes, self.scores, self.ids))
        frames = np.full(len(ids), float(frame))
        return np.column_stack([frames, ids, xyxy_to_xywh(boxes), scores])


@dataclass(frozen=True, eq=False)
class Given:
    """One frame's detections as the user gave them, their shapes checked."""

    boxes: Array  # [n, 4]
    scores: Array  # [n]
    labels: Array  # [n]

    def tracks(self, rows: np.ndarray, ids: np.ndarray) -> Tracks:
        """Return the detections that belong to tracks, values, types and device as they were given."""
        if not isinstance(self.boxes, Tensor):
            predicted = np.zeros(len(rows), dtype=bool)
            return Tracks(ids, self.boxes[rows], self.scores[rows], self.labels[rows], predicted)
        device = self.boxes.device
        at = torch.from_numpy(rows).to(device)
        picked = (array.index_select(0, at) for array in (self.boxes, self.scores, self.labels))
        predicted = torch.zeros(len(rows), dtype=torch.bool, device=device)
        return Tracks(torch.from_numpy(ids).to(device), *picked, predicted)


def read_detections(detections: Any) -> Given:
    """Take boxes, scores and labels from an object that has them or from the columns of one array."""
    if hasattr(detections, "boxes"):
        boxes = _array("boxes", detections.boxes)
        scores = _array("scores", getattr(detections, "scores", None))
        labels = _array("labels", getattr(detections, "labels", None))
        if not isinstance(boxes, Tensor) == isinstance(scores, Tensor) == isinstance(labels, Tensor):
            raise ValueError(
                f"detections: expected three tensors or three arrays, got {type(boxes).__name__},"
                f" {type(scores).__name__} and {type(labels).__name__}; convert them to one kind"
            )
    else:
        table = _array("detections", detections)
        if table.shape == (0,):  # an empty list of rows
            table = table.reshape(0, 5)
        if table.ndim != 2 or table.shape[1] not in (5, 6):
            raise ValueError(
                f"detections: expected shape [n, 5] or [n, 6], got {list(table.shape)};"
                " give x1, y1, x2, y2, score and perhaps a label a row"
            )
        boxes, scores = table[:, :4], table[:, 4]
        labels = table[:, 5] if table.shape[1] == 6 else _zeros_like(scores)
    _check_shapes(boxes, scores, labels)
    return Given(boxes, scores, _whole(labels))


def to_numpy(array: Array, dtype: type[np.generic]) -> np.ndarray:
    """Return the values on the CPU, contiguous, in another type."""
    if isinstance(array, Tensor):
        array = (array.float() if array.dtype == torch.bfloat16 else array).cpu().numpy()
    if array.dtype == dtype:
        return np.ascontiguousarray(array)
    with np.errstate(over="ignore"):  # too large for the type: infinite, and refused as that
        return np.ascontiguousarray(array, dtype=dtype)


def join(arrays: Sequence[Array], dtype: type[np.generic]) -> np.ndarray:
    """Return the values of several arrays one behind the other; tensors of one device come in one transfer."""
    if len(arrays) == 1:
        return to_numpy(arrays[0], dtype)
    if all(isinstance(array, Tensor) for array in arrays) and len({array.device for array in arrays}) == 1:
        return to_numpy(torch.cat(tuple(arrays)), dtype)
    return np.concatenate([to_numpy(array, dtype) for array in arrays])


def _array(name: str, given: Any) -> Array:
    """Return a tensor or array of numbers; lists become arrays."""
    if isinstance(given, Tensor):
        if given.dtype.is_complex:
            raise ValueError(f"{name}: expected real numbers, got {given.dtype}; give pixels and scores")
        return given.detach() if given.requires_grad else given
    try:
        array = np.asarray(given)
    except ValueError:  # rows of unequal length
        raise ValueError(f"{name}: expected rows of one length, got unequal ones; give one row a box") from None
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name}: expected numbers, got {type(given).__name__}; give an array or a tensor")
    return array


def _zeros_like(scores: Array) -> Array:
    if isinstance(scores, Tensor):
        return torch.zeros(len(scores), dtype=torch.int64, device=scores.device)
    return np.zeros(len(scores), dtype=np.int64)


def _check_shapes(boxes: Array, scores: Array, labels: Array) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes: expected shape [n, 4], got {list(boxes.shape)}; give x1, y1, x2, y2 a row")
    for name, array in (("scores", scores), ("labels", labels)):
        if array.shape != boxes.shape[:1]:
            raise ValueError(f"{name}: expected shape [n={len(boxes)}], got {list(array.shape)}; give one a box")


def _whole(labels: Array) -> Array:
    """Return labels as whole numbers; a column of a table holds them as floating point."""
    floating = labels.dtype.is_floating_point if isinstance(labels, Tensor) else labels.dtype.kind == "f"
    if not floating:
        return labels
    exact = labels.double() if isinstance(labels, Tensor) else labels.astype(np.float64)
    fits = (abs(exact) < _MOST_EXACT) & (exact == exact.round())  # false for what is not finite, too
    if not bool(fits.all()):
        raise ValueError(f"labels: expected whole numbers, got {exact[~fits][0].item()}; number the classes")
    return exact.long() if isinstance(exact, Tensor) else exact.astype(np.int64)
