"""Identity scores: one track of the results for each of the ground truth, all through (Ristani et al., 2016)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .preprocess import Scene
from .similarity import assign

THRESHOLD = 0.5


@dataclass(frozen=True)
class Identity:
    """Boxes under the right identity, missed ones, and false ones."""

    tp: int
    fn: int
    fp: int

    def scores(self) -> dict[str, float]:
        """Return IDF1, precision and recall, and the counts."""
        return {
            "IDF1": self.tp / max(1.0, self.tp + 0.5 * self.fp + 0.5 * self.fn),
            "IDP": self.tp / max(1.0, self.tp + self.fp),
            "IDR": self.tp / max(1.0, self.tp + self.fn),
            "IDTP": self.tp,
            "IDFP": self.fp,
            "IDFN": self.fn,
        }


def identity(scene: Scene) -> Identity:
    """Match whole tracks so that most boxes are right.

    The textbook fills a square matrix with the cost of leaving tracks alone. Each matched box takes one from the misses
    and one from the false boxes, so the cheapest matching there is the one with the most boxes in common here.
    """
    gt_count, pred_count = scene.counts()
    common = np.zeros((scene.gt_tracks, scene.pred_tracks))
    for gt, pred, similarity in scene.both:
        rows, columns = np.nonzero(similarity >= THRESHOLD)
        common[gt[rows], pred[columns]] += 1
    tp = int(common[assign(common)].sum())
    return Identity(tp, int(gt_count.sum()) - tp, int(pred_count.sum()) - tp)
