"""What MOTChallenge counts: which boxes take part, and how the two sides of a frame overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .similarity import EPS, assign, iou
from .table import TrackTable

PEDESTRIAN = 1
CLASSES = range(1, 14)
# Results that lie on one of these classes are neither right nor wrong: a person on a vehicle, a static person,
# a distractor, a reflection; in MOT20 also a vehicle that is no car. MOT15's ground truth has no classes.
DISTRACTORS: dict[str, tuple[int, ...]] = {"MOT15": (), "MOT17": (2, 7, 8, 12), "MOT20": (2, 6, 7, 8, 12)}


class Frame(NamedTuple):
    """The two sides of one frame."""

    gt: np.ndarray  # [G] int64: which track of the ground truth, from 0 without gaps
    pred: np.ndarray  # [P] int64: which track of the results
    similarity: np.ndarray  # [G, P]


@dataclass(frozen=True)
class Scene:
    """One sequence ready to be counted; frames in which neither side has a box are left out."""

    frames: list[Frame]
    gt_tracks: int
    pred_tracks: int
    length: int

    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the number of boxes of each track of the ground truth and of the results."""
        gt = np.concatenate([np.empty(0, np.int64), *(frame.gt for frame in self.frames)])
        pred = np.concatenate([np.empty(0, np.int64), *(frame.pred for frame in self.frames)])
        return np.bincount(gt, minlength=self.gt_tracks), np.bincount(pred, minlength=self.pred_tracks)

    @property
    def both(self) -> list[Frame]:
        """The frames in which both sides have boxes."""
        return [frame for frame in self.frames if len(frame.gt) and len(frame.pred)]


def prepare(name: str, gt: TrackTable, pred: TrackTable, benchmark: str, length: int | None = None) -> Scene:
    """Apply a benchmark's rules to one sequence; without a length it ends with the last box."""
    _check_labels(name, gt, pred, benchmark)
    frames = [_pair(gt, pred, *rows, benchmark) for rows in _rows_of_frames(gt.frame, pred.frame)]
    gt_tracks = _renumber([frame.gt for frame in frames])
    pred_tracks = _renumber([frame.pred for frame in frames])
    paired = [Frame(*it) for it in zip(gt_tracks, pred_tracks, [frame.similarity for frame in frames], strict=True)]
    length = max(gt.last_frame, pred.last_frame) if length is None else length
    return Scene(paired, _tracks(gt_tracks), _tracks(pred_tracks), length)


def _check_labels(name: str, gt: TrackTable, pred: TrackTable, benchmark: str) -> None:
    if benchmark == "MOT15":
        return
    if (bad := ~np.isin(gt.label, CLASSES)).any():
        got = f"got {gt.label[bad][0]} in frame {gt.frame[bad][0]}"
        raise ValueError(
            f"gt: expected {benchmark}'s classes 1 to 13 in {name}, {got}; MOT15 is the benchmark without classes"
        )
    if (bad := pred.label > PEDESTRIAN).any():
        got = f"got {pred.label[bad][0]} in frame {pred.frame[bad][0]}"
        raise ValueError(
            f"pred: expected only pedestrians in {name} (class 1, or -1 for unknown), {got}; leave the others out"
        )


def _rows_of_frames(gt: np.ndarray, pred: np.ndarray) -> list[tuple[slice, slice]]:
    """Return, for each frame with a box, the rows of the two sorted columns that belong to it."""
    numbers = np.union1d(gt, pred)
    starts, ends = ([np.searchsorted(column, numbers, side) for column in (gt, pred)] for side in ("left", "right"))
    gt_rows, pred_rows = (map(slice, start, end) for start, end in zip(starts, ends, strict=True))
    return list(zip(gt_rows, pred_rows, strict=True))


def _pair(gt: TrackTable, pred: TrackTable, gt_rows: slice, pred_rows: slice, benchmark: str) -> Frame:
    """Take from one frame the boxes that count; ids are still those of the files."""
    similarity = iou(gt.box[gt_rows], pred.box[pred_rows])  # [G, P]
    wanted, label = gt.mark[gt_rows].astype(np.int64) != 0, gt.label[gt_rows]
    counted = ~_on_distractors(similarity, np.isin(label, DISTRACTORS[benchmark]))  # [P]
    if benchmark != "MOT15":
        wanted &= label == PEDESTRIAN
    return Frame(gt.id[gt_rows][wanted], pred.id[pred_rows][counted], similarity[:, counted][wanted])


def _on_distractors(similarity: np.ndarray, distractor: np.ndarray) -> np.ndarray:
    """Say of each result [P] whether the best matching of all boxes puts it on a distractor [G]."""
    score = np.where(similarity < 0.5 - EPS, 0, similarity)
    found = np.zeros(similarity.shape[1], bool)
    if score[distractor].any():  # else no matching can
        rows, columns = assign(score)
        found[columns[(score[rows, columns] > EPS) & distractor[rows]]] = True
    return found


def _renumber(ids: list[np.ndarray]) -> list[np.ndarray]:
    """Give the ids of all frames numbers from 0 without gaps, in the same order."""
    if not ids:
        return []
    numbers = np.unique(np.concatenate(ids), return_inverse=True)[1]
    return np.split(numbers, np.cumsum([len(of_frame) for of_frame in ids])[:-1])


def _tracks(numbers: list[np.ndarray]) -> int:
    return 1 + max((int(of_frame.max()) for of_frame in numbers if len(of_frame)), default=-1)
