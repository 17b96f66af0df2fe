"""Clips of annotated videos, as a map-style data set: `ClipDataset`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ._scenes.dice import CLIPS, Dice
from .videos import Clip, Video, VideoSet

Key = int | tuple[int, int]  # an index, or an epoch and an index


class Clips(Protocol):
    """A data set of clips: `data[i]`, or `data[epoch, i]` for what it is in a later epoch."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: Key) -> Clip: ...


def split_key(key: Key, length: int) -> tuple[int, int]:
    """Return epoch and index of a key."""
    epoch, index = key if isinstance(key, tuple) else (0, key)
    if not 0 <= index < length:
        raise IndexError(f"index: expected 0 to {length - 1}, got {index}")
    return epoch, index


class ClipDataset:
    """Item i is a clip (uint8 [T, 3, H, W], T targets) that starts at one of the videos' frames.

    Its frames are a stride apart, drawn once a clip, and end with the video: what lies beyond is the last frame again,
    and a single picture becomes a clip that stands still. Of each video a share of `sample` frames is started from,
    others in every epoch: a key (epoch, i) says which, so that no worker holds an epoch that is over.

    Pictures are kept as they are read until `kept_megabytes` are full: a small data set is read once by each worker.
    """

    def __init__(
        self,
        videos: VideoSet,
        *,
        clip_frames: int = 2,
        strides: tuple[int, int] = (1, 4),
        sample: float = 1.0,
        seed: int = 0,
        kept_megabytes: int = 256,
    ) -> None:
        if clip_frames < 1:
            raise ValueError(f"clip_frames: expected a whole number of at least 1, got {clip_frames}")
        if not 1 <= strides[0] <= strides[1]:
            raise ValueError(f"strides: expected the least and the greatest, from 1 on, got {strides}")
        if not 0 < sample <= 1:
            raise ValueError(f"sample: expected a share above 0 and up to 1, got {sample}")
        self.videos, self.clip_frames, self.strides, self.sample, self.seed = videos, clip_frames, strides, sample, seed
        self._kept: dict[str, Tensor] = {}
        self._room = kept_megabytes * 2**20  # bytes
        taken = [max(round(len(video) * sample), 1) for video in videos.videos]
        self._ends = np.cumsum(taken)  # the item after the last of each video

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, key: Key) -> Clip:
        epoch, index = split_key(key, len(self))
        number = int(np.searchsorted(self._ends, index, side="right"))
        video = self.videos.videos[number]
        before = int(self._ends[number - 1]) if number else 0
        start = self._starts(epoch, number)[index - before]
        stride = self.strides[0] + Dice(self.seed, CLIPS, epoch, index).below(self.strides[1] - self.strides[0] + 1)
        frames = [min(start + step * stride, len(video) - 1) for step in range(self.clip_frames)]
        pictures = {frame: self._picture(video, frame) for frame in dict.fromkeys(frames)}
        return torch.stack([pictures[frame] for frame in frames]), [video.target(frame) for frame in frames]

    def __getstate__(self) -> dict[str, Any]:
        return {
            **vars(self),
            "_kept": {},
            "_room": self._room + sum(picture.numel() for picture in self._kept.values()),
        }

    def _picture(self, video: Video, frame: int) -> Tensor:
        """Return a picture; clips are read in no order, so that none is worth more to be kept than another."""
        file = video.files[frame]
        if file in self._kept:
            return self._kept[file]
        picture = video.picture(frame)
        if picture.numel() <= self._room:
            self._room -= picture.numel()
            self._kept[file] = picture
        return picture

    def _starts(self, epoch: int, number: int) -> Sequence[int]:
        """Return the frames of a video that this epoch's clips start from."""
        frames = len(self.videos.videos[number])
        if self.sample == 1:
            return range(frames)
        return _chosen(self.seed, epoch, number, frames, max(round(frames * self.sample), 1))


@lru_cache(maxsize=64)
def _chosen(seed: int, epoch: int, number: int, frames: int, count: int) -> list[int]:
    order = np.argsort(Dice(seed, CLIPS, epoch, number, frames).uniforms(frames), kind="stable")
    return sorted(order[:count].tolist())
