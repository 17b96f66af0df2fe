"""Annotated videos in memory: where their pictures lie, and compact arrays of what is to be found in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

Target = dict[str, Tensor]  # boxes [n, 4] xyxy, labels [n], ids [n], visibility [n]
Clip = tuple[Tensor, list[Target]]  # uint8 [T, 3, H, W] and a target for each frame

SMALLEST_PICTURE = 32  # pixels; pictures with a shorter side are of no use to a detector
_COLUMNS = ("boxes", "labels", "ids", "visibility")


@dataclass(frozen=True)
class Video:
    """A video as one file per frame, or a single picture, which is a video of one frame.

    The rows of frame t are `rows[t] : rows[t + 1]` of the arrays. An id of -1 says that nobody knows who it is.
    """

    name: str
    files: tuple[str, ...]  # one picture a frame
    size: tuple[int, int]  # height and width
    rows: np.ndarray  # int64 [frames + 1]
    boxes: np.ndarray  # float32 [n, 4], x1 y1 x2 y2
    labels: np.ndarray  # int64 [n]
    ids: np.ndarray  # int64 [n]
    visibility: np.ndarray  # float32 [n]
    fps: float = 30.0

    def __len__(self) -> int:
        return len(self.files)

    def target(self, frame: int) -> Target:
        """Return what is to be found in a frame."""
        here = slice(int(self.rows[frame]), int(self.rows[frame + 1]))
        return {name: torch.from_numpy(getattr(self, name)[here].copy()) for name in _COLUMNS}

    def picture(self, frame: int) -> Tensor:
        """Read a frame, uint8 [3, H, W] RGB."""
        picture = read_picture(self.files[frame])
        if tuple(picture.shape[1:]) != self.size:
            found, told = ("x".join(map(str, size[::-1])) for size in (tuple(picture.shape[1:]), self.size))
            raise ValueError(
                f"{self.files[frame]}: expected {told} pixels as in its annotations, got {found};"
                " annotate the picture as it is stored, not as its EXIF turns it"
            )
        return picture

    def cut(self, start: int, stop: int | None = None) -> Video:
        """Return frames start to stop, counted from 0, as a video of their own."""
        frames = range(len(self))[start:stop]
        if not frames:
            raise ValueError(f"start: expected frames within 0 to {len(self)}, got {start} to {stop}")
        rows = self.rows[frames.start : frames.stop + 1]
        here = slice(int(rows[0]), int(rows[-1]))
        columns = {name: getattr(self, name)[here] for name in _COLUMNS}
        return replace(self, files=self.files[frames.start : frames.stop], rows=rows - rows[0], **columns)


@dataclass(frozen=True)
class VideoSet:
    """Videos with the same classes; label i stands for `classes[i]`."""

    videos: tuple[Video, ...]
    classes: tuple[str, ...]

    @property
    def frames(self) -> int:
        """How many frames there are in all."""
        return sum(map(len, self.videos))

    @property
    def boxes(self) -> int:
        """How many boxes there are in all."""
        return sum(len(video.boxes) for video in self.videos)


class Annotations:
    """Collects the boxes of one video, frame by frame in any order, but for those that nothing can be learnt from.

    Left out are boxes marked as ignored or as a crowd, thinner than a pixel, or wholly beside the picture.
    """

    def __init__(self, frames: int, size: tuple[int, int]) -> None:
        self._frames, self._size = frames, size
        self._found: list[tuple[int, float, float, float, float, int, int, float]] = []
        self.left_out = 0

    def add(
        self,
        frame: int,
        box: Sequence[float],
        *,
        label: int = 0,
        id: int = -1,
        visibility: float = 1.0,
        ignore: bool = False,
    ) -> None:
        """Add a box x, y, width, height."""
        x, y, width, height = box
        height_of_picture, width_of_picture = self._size
        reaches_in = x < width_of_picture and y < height_of_picture and x + width > 0 and y + height > 0
        if reaches_in and width >= 1 and height >= 1 and not ignore:
            self._found.append((frame, x, y, x + width, y + height, label, id, visibility))
        else:
            self.left_out += 1

    def video(self, name: str, files: Iterable[str], fps: float = 30.0) -> Video:
        """Return the video that they annotate."""
        table = np.array(self._found, np.float64).reshape(-1, 8)
        table = table[np.argsort(table[:, 0], kind="stable")]
        rows = np.searchsorted(table[:, 0], np.arange(self._frames + 1)).astype(np.int64)
        return Video(
            name,
            tuple(files),
            self._size,
            rows,
            table[:, 1:5].astype(np.float32),
            table[:, 5].astype(np.int64),
            table[:, 6].astype(np.int64),
            table[:, 7].astype(np.float32),
            fps,
        )


def read_picture(path: str | Path) -> Tensor:
    """Read a picture file, uint8 [3, H, W] RGB, as it is stored."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            pixels = np.array(picture.convert("RGB"))  # [H, W, 3]
    except UnidentifiedImageError as error:
        raise ValueError(f"{path}: expected a picture, got something else; is the file damaged?") from error
    except (SyntaxError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path}: expected a whole picture, got a damaged one ({error}); copy it again") from error
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def picture_size(path: str | Path) -> tuple[int, int]:
    """Return height and width of a picture file without reading its pixels."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return picture.height, picture.width
    except UnidentifiedImageError as error:
        raise ValueError(f"{path}: expected a picture, got something else; is the file damaged?") from error
