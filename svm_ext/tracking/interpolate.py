"""Filling the gaps of finished tracks: offline, because a gap's far end lies in the future."""

from __future__ import annotations

import numpy as np

SHORT = 2  # tracks of so many boxes or fewer are taken for false alarms
SPARSE = 5  # tracks of so many boxes or fewer are too short to be filled
COLUMNS = 7  # frame, id, x, y, width, height, score


def interpolate_tracks(rows: np.ndarray, *, max_gap: int = 20, keep_short: bool = False) -> np.ndarray:
    """Fill the gaps of tracks with boxes on the straight line between their ends, with score 1.

    `rows` [n, 7] are frame, id, x, y, width, height, score in any order; what is returned is sorted by frame and
    then by id. A gap is filled where the frames at its ends are less than `max_gap` apart and the track has more than
    5 boxes. Tracks of one or two boxes are dropped unless `keep_short` says otherwise. A file without any track, or
    without any that is kept, gives no rows.
    """
    rows = _sorted(rows, max_gap)
    _, lengths = np.unique(rows[:, 1], return_counts=True)
    length = np.repeat(lengths, lengths)  # of the track that a row belongs to
    if not keep_short:
        rows, length = rows[length > SHORT], length[length > SHORT]
    filled = np.concatenate([rows, _between(rows, length, max_gap)])
    return filled[np.lexsort((filled[:, 1], filled[:, 0]))]


def _between(rows: np.ndarray, length: np.ndarray, max_gap: int) -> np.ndarray:
    """Return the rows that are missing between neighbours of one track."""
    if len(rows) < 2:
        return rows[:0]
    left, right = rows[:-1], rows[1:]
    gap = (right[:, 0] - left[:, 0]).astype(np.int64)
    fill = (left[:, 1] == right[:, 1]) & (length[:-1] > SPARSE) & (gap > 1) & (gap < max_gap)
    left, right, gap = left[fill], right[fill], gap[fill]
    missing = gap - 1
    offset = np.arange(missing.sum()) - np.repeat(missing.cumsum() - missing, missing) + 1  # 1, 2, .. in each gap
    left, right, gap = (np.repeat(array, missing, axis=0) for array in (left, right, gap))
    between = left.copy()
    between[:, 0] += offset
    between[:, 2:6] += (offset / gap)[:, None] * (right[:, 2:6] - left[:, 2:6])
    between[:, 6] = 1.0
    return between


def _sorted(rows: np.ndarray, max_gap: int) -> np.ndarray:
    """Check the arguments and return the rows track by track, each in time."""
    if isinstance(max_gap, bool) or not isinstance(max_gap, int) or max_gap < 1:
        raise ValueError(f"max_gap: expected a whole number of at least 1, got {max_gap!r}; 1 fills no gap")
    rows = np.asarray(rows, dtype=np.float64)
    if rows.shape == (0,):  # an empty list of rows
        rows = rows.reshape(0, COLUMNS)
    if rows.ndim != 2 or rows.shape[1] != COLUMNS:
        raise ValueError(
            f"rows: expected shape [n, {COLUMNS}], got {list(rows.shape)};"
            " give frame, id, x, y, width, height and score a row"
        )
    if not np.isfinite(rows).all():
        raise ValueError(f"rows: expected finite numbers, got {rows[~np.isfinite(rows)][0]}; leave such rows out")
    if not (rows[:, :2] == rows[:, :2].round()).all():
        raise ValueError("rows: expected whole frames and ids, got fractions; give frame and id first")
    rows = rows[np.lexsort((rows[:, 0], rows[:, 1]))]
    twice = (rows[1:, :2] == rows[:-1, :2]).all(axis=1)
    if twice.any():
        frame, track = rows[1:, :2][twice][0]
        raise ValueError(f"rows: expected an id once a frame, got id {track:g} twice in frame {frame:g}; keep one")
    return rows
