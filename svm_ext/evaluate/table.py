"""Boxes with identities, one row each: what ground truth and a tracker's results have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class TrackTable:
    """One sequence's boxes in the order of their frames, columns as in MOTChallenge files."""

    frame: np.ndarray  # [N] int64, from 1
    id: np.ndarray  # [N] int64, from 0, once a frame at most
    box: np.ndarray  # [N, 4] float64: left, top, width, height
    mark: np.ndarray  # [N] float64: ground truth marked 0 is not to be found; of results, the score
    label: np.ndarray  # [N] int64: MOTChallenge's class, 1 is a pedestrian

    def __len__(self) -> int:
        return len(self.id)

    @property
    def last_frame(self) -> int:
        """The number of the last frame that has a box, 0 without boxes."""
        return int(self.frame[-1]) if len(self) else 0

    @classmethod
    def from_columns(cls, frame: np.ndarray, id: np.ndarray, box: np.ndarray, *rest: np.ndarray) -> TrackTable:
        """Sort rows by frame; those of one frame keep their order."""
        order = np.argsort(frame, kind="stable")
        return cls(*(column[order] for column in (frame, id, box, *rest)))

    @classmethod
    def from_frames(cls, ids: Sequence[Any], boxes: Sequence[Any]) -> TrackTable:
        """Make a table of pedestrians from one entry a frame: ids [n], and boxes [n, 4] as x0, y0, x1, y1.

        Entries are tensors, arrays or lists; frames are numbered from 1.
        """
        if len(ids) != len(boxes):
            raise ValueError(f"boxes: expected one entry a frame, {len(ids)} as ids has, got {len(boxes)}")
        rows = [_frame(number, *entry) for number, entry in enumerate(zip(ids, boxes, strict=True), 1)]
        frame = np.repeat(np.arange(1, len(rows) + 1), [len(of_frame) for of_frame, _ in rows])  # [N]
        id = np.concatenate([np.empty(0, np.int64), *(of_frame for of_frame, _ in rows)])
        box = np.concatenate([np.empty((0, 4)), *(corners for _, corners in rows)])
        box[:, 2:] -= box[:, :2]
        if twice := repeated(frame, id):
            raise ValueError(f"ids: expected each id once a frame, got {id[twice[1]]} twice in frame {frame[twice[1]]}")
        return cls(frame, id, box, np.ones(len(id)), np.ones(len(id), np.int64))


def as_array(values: Any, dtype: type) -> np.ndarray:
    """Return a tensor of any device and type, an array or a list, as an array of this type."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.double() if values.is_floating_point() else values
    return np.asarray(values, dtype)


def repeated(frame: np.ndarray, id: np.ndarray) -> tuple[int, int] | None:
    """Return two rows, the later one as early as can be, that have the same id in the same frame."""
    order = np.lexsort((id, frame))
    same = np.flatnonzero((frame[order[1:]] == frame[order[:-1]]) & (id[order[1:]] == id[order[:-1]]))
    if not len(same):
        return None
    earliest = same[np.argmin(order[same + 1])]
    return int(order[earliest]), int(order[earliest + 1])


def _frame(number: int, ids: Any, boxes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return one frame's ids [n] and corners [n, 4], checked."""
    exact, corners = as_array(ids, float), as_array(boxes, float)
    corners = corners.reshape(0, 4) if corners.size == 0 else corners
    if exact.ndim != 1 or corners.shape != (len(exact), 4):
        shapes = f"got ids {list(exact.shape)} and boxes {list(corners.shape)}"
        raise ValueError(f"boxes: expected ids [n] and boxes [n, 4] in frame {number}, {shapes}")
    if not np.isfinite(corners).all():
        raise ValueError(f"boxes: expected finite numbers, got {corners[~np.isfinite(corners)][0]} in frame {number}")
    if (bad := (exact < 0) | (exact % 1 != 0)).any():
        raise ValueError(f"ids: expected whole numbers from 0, got {exact[bad][0]:g} in frame {number}")
    return exact.astype(np.int64), corners
