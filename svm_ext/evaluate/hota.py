"""HOTA: detection and association weighed alike, over nineteen thresholds of overlap (Luiten et al., IJCV 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .preprocess import Frame, Scene
from .similarity import EPS, assign

ALPHAS = np.arange(0.05, 0.99, 0.05)  # [A]


@dataclass(frozen=True)
class Hota:
    """What HOTA needs of a sequence; one value for each threshold, all of them sums over matched boxes."""

    tp: np.ndarray  # [A], as all that follow
    fn: np.ndarray
    fp: np.ndarray
    association: np.ndarray
    association_recall: np.ndarray
    association_precision: np.ndarray
    overlap: np.ndarray

    def curves(self) -> dict[str, np.ndarray]:
        """Return each score at each threshold."""
        found = np.maximum(1, self.tp)
        det_a = self.tp / np.maximum(1, self.tp + self.fn + self.fp)
        ass_a = self.association / found
        return {
            "HOTA": np.sqrt(det_a * ass_a),
            "DetA": det_a,
            "AssA": ass_a,
            "DetRe": self.tp / np.maximum(1, self.tp + self.fn),
            "DetPr": self.tp / np.maximum(1, self.tp + self.fp),
            "AssRe": self.association_recall / found,
            "AssPr": self.association_precision / found,
            "LocA": np.where(self.tp > 0, self.overlap / found, 1.0),
        }

    def scores(self) -> dict[str, float]:
        """Return each score's mean over the thresholds."""
        return {name: float(np.mean(curve)) for name, curve in self.curves().items()}


def hota(scene: Scene) -> Hota:
    """Match every frame by how well tracks fit as a whole, then count at each threshold."""
    gt_count, pred_count = scene.counts()  # [G], [P]
    alignment = _alignment(scene, gt_count, pred_count)
    matches = [_match(frame, alignment) for frame in scene.both]
    gt, pred = (np.concatenate([np.empty(0, np.int64), *(match[side] for match in matches)]) for side in (0, 1))
    overlap = np.concatenate([np.empty(0), *(match[2] for match in matches)])
    pairs, pair = np.unique(gt * scene.pred_tracks + pred, return_inverse=True)
    of_gt, of_pred = gt_count[pairs // max(1, scene.pred_tracks)], pred_count[pairs % max(1, scene.pred_tracks)]
    sums = np.zeros((5, len(ALPHAS)))
    for column, alpha in zip(sums.T, ALPHAS, strict=True):
        hit = overlap >= alpha - EPS
        together = np.bincount(pair[hit], minlength=len(pairs))  # how often each pair of tracks was matched
        shares = [together / whole for whole in (of_gt + of_pred - together, of_gt, of_pred)]
        column[:] = hit.sum(), *((together * share).sum() for share in shares), overlap[hit].sum()
    tp, *associations, overlaps = sums
    return Hota(tp, gt_count.sum() - tp, pred_count.sum() - tp, *associations, overlaps)


def _alignment(scene: Scene, gt_count: np.ndarray, pred_count: np.ndarray) -> np.ndarray:
    """Return how well each pair of tracks fits [G, P]: shared overlap as a part of all their boxes."""
    shared = np.zeros((scene.gt_tracks, scene.pred_tracks))
    for gt, pred, similarity in scene.both:
        rivals = similarity.sum(0)[None, :] + similarity.sum(1)[:, None] - similarity
        shared[gt[:, None], pred[None, :]] += similarity / np.where(rivals > EPS, rivals, np.inf)
    return shared / (gt_count[:, None] + pred_count[None, :] - shared)


def _match(frame: Frame, alignment: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the matched tracks of both sides and their overlap in this frame."""
    gt, pred, similarity = frame
    rows, columns = assign(alignment[gt[:, None], pred[None, :]] * similarity)
    return gt[rows], pred[columns], similarity[rows, columns]
