"""Detections to track: single boxes by hand, and random crowds that come, hide, change their score and leave."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch


def detections(*boxes: tuple[float, ...], score: float = 0.9) -> np.ndarray:
    """Rows [n, 5] from boxes (x, y) of 40 x 100 pixels, (x, y, score), or whole (x1, y1, x2, y2, score)."""
    rows = []
    for box in boxes:
        if len(box) == 5:
            rows.append(box)
        else:
            x, y, *own = box
            rows.append((x, y, x + 40, y + 100, own[0] if own else score))
    return np.array(rows, dtype=np.float32).reshape(-1, 5)


@dataclass(frozen=True)
class Crowd:
    """What a random scene is made of."""

    people: int = 12
    frames: int = 120
    labels: int = 1
    misses: float = 0.15  # share of detections that are missing
    false: float = 1.5  # boxes a frame that are nobody's
    empty: float = 0.05  # share of frames without any detection
    width: float = 600.0

    def frames_of(self, seed: int) -> list[np.ndarray]:
        """Frames of detections [n, 6], in random order within a frame."""
        rng = np.random.default_rng(seed)
        place = rng.uniform(0, self.width, (self.people, 2))
        speed = rng.normal(0, 4, (self.people, 2))
        size = np.stack([rng.uniform(20, 70, self.people), rng.uniform(50, 180, self.people)], axis=1)
        label = rng.integers(0, self.labels, self.people)
        frames = []
        for _ in range(self.frames):
            place = place + speed
            gone = rng.random(self.people) < 0.01  # somebody else comes instead
            place[gone] = rng.uniform(0, self.width, (gone.sum(), 2))
            seen = rng.random(self.people) > self.misses
            centre = place[seen] + rng.normal(0, 2, (seen.sum(), 2))
            half = size[seen] * rng.normal(1, 0.03, (seen.sum(), 1)) / 2
            known = np.concatenate([centre - half, centre + half], axis=1)
            count = rng.poisson(self.false)
            corner = rng.uniform(0, self.width, (count, 2))
            nobody = np.concatenate([corner, corner + rng.uniform(5, 100, (count, 2))], axis=1)
            boxes = np.concatenate([known, nobody])
            scores = np.clip(rng.normal(0.75, 0.25, len(boxes)), 0.01, 0.99)
            labels = np.concatenate([label[seen], rng.integers(0, self.labels, count)])
            rows = np.concatenate([boxes, scores[:, None], labels[:, None]], axis=1).astype(np.float32)
            frames.append(rng.permutation(rows)[: 0 if rng.random() < self.empty else None])
        return frames


def as_tensors(frame: np.ndarray | torch.Tensor, device: str = "cpu") -> SimpleNamespace:
    """A frame [n, 5] or [n, 6] as a detector gives it."""
    table = torch.as_tensor(frame, device=device)
    labels = table[:, 5].long() if table.shape[1] == 6 else torch.zeros(len(table), dtype=torch.long, device=device)
    return SimpleNamespace(boxes=table[:, :4].contiguous(), scores=table[:, 4].contiguous(), labels=labels)


def rows_of(tracks: object) -> list[tuple]:
    """Tracks as plain numbers, to compare."""
    arrays = (tracks.ids, tracks.boxes, tracks.scores, tracks.labels, tracks.predicted)
    return [tuple(map(str, column)) for column in zip(*(np.asarray(array).tolist() for array in arrays), strict=True)]


def endless(people: int, frames: int) -> list[np.ndarray]:
    """A piece of video to repeat: people walk through and are gone, others come; where it ends all are others."""
    crowd = Crowd(people=people, frames=frames, misses=0.1, false=2.0, empty=0.02)
    return crowd.frames_of(11)
