"""CLEAR MOT: misses, false boxes and identity switches, frame by frame (Bernardin and Stiefelhagen, 2008)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .preprocess import Frame, Scene
from .similarity import EPS, assign

THRESHOLD = 0.5
_NONE = -1


@dataclass(frozen=True)
class Clear:
    """What CLEAR MOT counts in a sequence."""

    tp: int
    fn: int
    fp: int
    switches: int
    fragments: int
    mostly_tracked: int
    partly_tracked: int
    mostly_lost: int
    overlap: float

    def scores(self, *, combined: bool) -> dict[str, float]:
        """Return the scores of one sequence, or of several combined.

        Where there is no ground truth, MOTA is 0 for a sequence and minus the false boxes combined: TrackEval's rule.
        """
        gt = self.tp + self.fn
        mota = (self.tp - self.fp - self.switches) / max(1, gt) if gt or combined else 0.0
        return {
            "MOTA": mota,
            "MOTP": self.overlap / max(1, self.tp),
            "IDSW": self.switches,
            "TP": self.tp,
            "FP": self.fp,
            "FN": self.fn,
            "Frag": self.fragments,
            "MT": self.mostly_tracked,
            "PT": self.partly_tracked,
            "ML": self.mostly_lost,
        }


class _Tracks:
    """What each track of the ground truth has seen so far; all arrays [G]."""

    def __init__(self, tracks: int) -> None:
        self.last = np.full(tracks, _NONE)  # the result that matched it last
        self.now = np.full(tracks, _NONE)  # the result that matched it in the last frame with boxes on both sides
        self.found = np.zeros(tracks, np.int64)
        self.begun = np.zeros(tracks, np.int64)  # stretches of frames in which it was found
        self.switches = 0
        self.overlap = 0.0

    def step(self, frame: Frame) -> None:
        gt, pred, similarity = frame
        # To go on as in the frame before is worth more than any overlap.
        score = 1000 * (pred[None, :] == self.now[gt][:, None]) + similarity
        score[similarity < THRESHOLD - EPS] = 0
        rows, columns = assign(score)
        real = score[rows, columns] > EPS
        rows, columns = rows[real], columns[real]
        matched, by = gt[rows], pred[columns]
        before = self.last[matched]
        self.switches += int(((before != _NONE) & (before != by)).sum())
        self.begun[matched] += self.now[matched] == _NONE
        self.found[matched] += 1
        self.last[matched] = by
        self.now[:] = _NONE
        self.now[matched] = by
        self.overlap += float(similarity[rows, columns].sum())


def clear(scene: Scene) -> Clear:
    """Match frame by frame, each going on where the last one stood.

    A frame in which one side has no box at all interrupts nothing, as in TrackEval.
    """
    gt_count, pred_count = scene.counts()
    tracks = _Tracks(scene.gt_tracks)
    for frame in scene.both:
        tracks.step(frame)
    share = tracks.found / gt_count
    mostly, at_all = int((share > 0.8).sum()), int((share >= 0.2).sum())
    tp = int(tracks.found.sum())
    fragments = int((tracks.begun[tracks.begun > 0] - 1).sum())
    return Clear(
        tp=tp,
        fn=int(gt_count.sum()) - tp,
        fp=int(pred_count.sum()) - tp,
        switches=tracks.switches,
        fragments=fragments,
        mostly_tracked=mostly,
        partly_tracked=at_all - mostly,
        mostly_lost=scene.gt_tracks - at_all,
        overlap=tracks.overlap,
    )
