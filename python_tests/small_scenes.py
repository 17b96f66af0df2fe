"""Scenes small enough to be scored by hand."""

from __future__ import annotations

from svm_ext.evaluate import TrackTable
from svm_ext.evaluate.preprocess import Scene, prepare

PLACES = [[100.0 * place, 0.0, 100.0 * place + 10, 10.0] for place in range(5)]  # boxes that never touch
# One side has no box, or neither.
EMPTY = [([], []), ([{}], [{}]), ([{1: 0}], [{}]), ([{}], [{1: 0}])]


def scene(gt: list[dict[int, int]], pred: list[dict[int, int]]) -> Scene:
    """A scene from, for each frame, the place at which each id stands."""
    tables = [
        TrackTable.from_frames([list(it) for it in side], [[PLACES[place] for place in it.values()] for it in side])
        for side in (gt, pred)
    ]
    return prepare("a", *tables, "MOT17")


def overlapping(share: float) -> Scene:
    """One box and a result that shares this part of what both cover."""
    width = 10 * share
    return prepare("a", *(TrackTable.from_frames([[1]], [[[0, 0, right, 10]]]) for right in (10.0, width)), "MOT17")
