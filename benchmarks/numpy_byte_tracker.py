"""The baseline of bench_tracker.py: the same association in NumPy and SciPy, one box at a time.

Written the way tracker libraries are: a Kalman filter with its 8 x 8 matrices for every track, overlaps of all pairs
in one go, the assignment by SciPy on the square problem of rows + columns that leaves pairs beyond the limit alone.
No histories, no conversions: nothing is slower here than the way itself is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

PLACE, SPEED = 1 / 20, 1 / 160  # deviations, as shares of the height
MOTION = np.eye(8) + np.eye(8, k=4)  # positions move on by their speeds
MEASURE = np.eye(4, 8)
DIFFERENT_LABELS = 1e6


@dataclass
class Track:
    """One object."""

    id: int
    label: int
    seen: int
    boxes: int
    confirmed: bool
    mean: np.ndarray  # [8] centre x, centre y, aspect, height, and their speeds
    covariance: np.ndarray  # [8, 8]


def deviations(height: float, aspect: float, aspect_speed: float, place: float = PLACE, speed: float = SPEED):
    """Standard deviations of the eight numbers."""
    p, v = place * height, speed * height
    return np.array([p, p, aspect, p, v, v, aspect_speed, v])


def measured(box: np.ndarray) -> np.ndarray:
    """Centre x, centre y, aspect, height."""
    x1, y1, x2, y2 = box.astype(np.float64)
    return np.array([(x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / (y2 - y1), y2 - y1])


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of all pairs, single precision."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    size = np.maximum(high - low, 0)
    shared = size[..., 0] * size[..., 1]
    areas = [(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) for boxes in (first, second)]
    return shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, np.float32(1e-6))


def assign(costs: np.ndarray, limit: float) -> np.ndarray:
    """The column of each row, -1 for a row that stays alone."""
    rows, columns = costs.shape
    square = np.full((rows + columns, rows + columns), limit / 2)
    square[rows:, columns:] = 0
    square[:rows, :columns] = costs
    chosen = linear_sum_assignment(square)[1][:rows]
    return np.where(chosen < columns, chosen, -1)


class NumpyByteTracker:
    """As svm_ext.ByteTracker, for arrays [n, 5] of boxes and scores and [n] of labels; returns rows and ids."""

    def __init__(
        self,
        high=0.7,
        low=0.1,
        init=0.7,
        match_high=0.1,
        match_low=0.5,
        match_tentative=0.3,
        confirm=3,
        retain=30,
    ):
        self.high, self.low, self.init = np.float32([high, low, init])
        self.match_high, self.match_low, self.match_tentative = match_high, match_low, match_tentative
        self.confirm, self.retain = confirm, retain
        self.frame, self.next_id, self.tracks = 0, 1, []

    def update(self, detections: np.ndarray, labels: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Take in a frame; return which rows belong to which ids."""
        labels = np.zeros(len(detections), dtype=np.int64) if labels is None else labels
        scores = detections[:, 4]
        if not self.tracks or not len(detections):
            found = [(row, None) for row in np.flatnonzero(scores > self.init)]
        else:
            found = self._continue(detections, labels)
        ids = []
        for row, track in found:
            if track is None:
                track = self._start(detections[row, :4], labels[row])
            else:
                self._extend(track, detections[row, :4])
            ids.append(track.id)
        self.tracks = [track for track in self.tracks if self._lives(track)]
        self.frame += 1
        return np.array([row for row, _ in found], dtype=np.int64), np.array(ids, dtype=np.int64)

    def _continue(self, detections: np.ndarray, labels: np.ndarray) -> list[tuple[int, Track | None]]:
        scores = detections[:, 4]
        good = np.flatnonzero(scores > self.high)
        poor = np.flatnonzero((scores <= self.high) & (scores > self.low))
        confirmed = [track for track in self.tracks if track.confirmed]
        tentative = [track for track in self.tracks if not track.confirmed]
        for track in confirmed:
            self._predict(track)
        first = self._match(confirmed, detections, labels, good, True, self.match_high)
        left = np.array([row for row in good if row not in first], dtype=np.int64)
        second = self._match(tentative, detections, labels, left, True, self.match_tentative)
        taken = {id(track) for track in first.values()}
        missing = [track for track in confirmed if id(track) not in taken and track.seen == self.frame - 1]
        third = self._match(missing, detections, labels, poor, False, self.match_low)
        found = [(row, first[row]) for row in good if row in first]
        found += [(row, second.get(row)) for row in left]
        return found + [(row, third[row]) for row in poor if row in third]

    def _match(
        self,
        tracks: list[Track],
        detections: np.ndarray,
        labels: np.ndarray,
        rows: np.ndarray,
        weighted: bool,
        least: float,
    ) -> dict[int, Track]:
        if not tracks or not len(rows):
            return {}
        means = np.array([track.mean[:4] for track in tracks], dtype=np.float32)
        half = np.stack([means[:, 2] * means[:, 3], means[:, 3]], axis=1) / 2
        expected = np.concatenate([means[:, :2] - half, means[:, :2] + half], axis=1)
        overlap = overlaps(expected, detections[rows, :4])
        if weighted:
            overlap = overlap * detections[rows, 4]
        same = np.array([track.label for track in tracks])[:, None] == labels[rows][None]
        chosen = assign(1 - overlap + np.where(same, 0, DIFFERENT_LABELS), 1 - least)
        return {rows[column]: tracks[at] for at, column in enumerate(chosen) if column >= 0}

    def _predict(self, track: Track) -> None:
        if track.seen != self.frame - 1:
            track.mean[7] = 0
        noise = deviations(track.mean[3], 1e-2, 1e-5)
        track.mean = MOTION @ track.mean
        track.covariance = MOTION @ track.covariance @ MOTION.T + np.diag(noise**2)

    def _start(self, box: np.ndarray, label: int) -> Track:
        position = measured(box)
        noise = deviations(position[3], 1e-2, 1e-5, 2 * PLACE, 10 * SPEED)
        mean = np.concatenate([position, np.zeros(4)])
        track = Track(self.next_id, label, self.frame, 1, self.frame == 0, mean, np.diag(noise**2))
        self.tracks.append(track)
        self.next_id += 1
        return track

    def _extend(self, track: Track, box: np.ndarray) -> None:
        noise = deviations(track.mean[3], 1e-1, 0)[:4]
        projected = MEASURE @ track.covariance @ MEASURE.T + np.diag(noise**2)
        gain = np.linalg.solve(projected, MEASURE @ track.covariance).T
        track.mean = track.mean + gain @ (measured(box) - track.mean[:4])
        track.covariance = track.covariance - gain @ projected @ gain.T
        track.seen = self.frame
        track.boxes += 1
        track.confirmed |= track.boxes >= self.confirm

    def _lives(self, track: Track) -> bool:
        unseen = self.frame - track.seen
        return unseen < self.retain and (track.confirmed or unseen == 0)
