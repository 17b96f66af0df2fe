"""Clips of generated scenes, drawn once and kept in a folder: an epoch then costs no drawing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .._files import whole_file
from .scenes import SceneDataset
from .videos import Clip, Target

PIXELS, BOXES = "clips.npy", "boxes.npz"  # the files of a folder; the second is written last


class RenderedClips(Dataset[Clip]):
    """What `render` left in a folder, as a map-style data set: item i is (clip uint8 [T, 3, H, W], T targets).

    A key (epoch, i) takes other `clip_frames` of the clip in every epoch, every one or every second of them from a
    random one on, and mirrors half of them.
    """

    def __init__(self, folder: str | Path, *, clip_frames: int, seed: int = 0) -> None:
        folder = Path(folder)
        if not is_rendered(folder):
            raise FileNotFoundError(f"folder: expected rendered clips, got none in {folder}; render them again")
        self.clip_frames, self.seed = clip_frames, seed
        self._path = folder / PIXELS
        with np.load(folder / BOXES) as found:
            self._boxes, self._rows = found["boxes"], found["rows"]  # [n, 4]; [clips * frames + 1]
        self._clips: np.ndarray | None = None
        if not 1 <= clip_frames <= self._mapped().shape[1]:
            raise ValueError(
                f"clip_frames: expected 1 to the {self._mapped().shape[1]} of the rendered clips, got {clip_frames}"
            )

    def __len__(self) -> int:
        return len(self._mapped())

    def __getitem__(self, key: int | tuple[int, int]) -> Clip:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not 0 <= index < len(self):
            raise IndexError(f"index: expected 0 to {len(self) - 1}, got {index}")
        dice = np.random.default_rng((self.seed, epoch, index))
        frames = self._mapped().shape[1]
        step = int(dice.integers(1, 3)) if 2 * self.clip_frames <= frames else 1
        start = int(dice.integers(frames - step * (self.clip_frames - 1)))
        chosen = range(start, start + step * self.clip_frames, step)[: self.clip_frames]
        clip = torch.from_numpy(self._mapped()[index, chosen.start : chosen[-1] + 1 : step])  # [T, 3, H, W]
        targets = [self._target(index * frames + frame) for frame in chosen]
        return mirrored(clip, targets) if dice.integers(2) else (clip, targets)

    def _target(self, frame: int) -> Target:
        boxes = torch.from_numpy(self._boxes[self._rows[frame] : self._rows[frame + 1]])  # [n, 4]
        return {"boxes": boxes, "labels": torch.zeros(len(boxes), dtype=torch.int64)}

    def _mapped(self) -> np.ndarray:
        """Return all pixels, uint8 [clips, frames, 3, H, W]; every process maps the file for itself."""
        if self._clips is None:
            self._clips = np.load(self._path, mmap_mode="c")
        return self._clips

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_clips": None}


def is_rendered(folder: str | Path) -> bool:
    """Tell whether a folder holds clips that `render` finished."""
    return (Path(folder) / BOXES).is_file()


def mirrored(clip: Tensor, targets: list[Target]) -> Clip:
    """Return a clip [T, 3, H, W] and its boxes with left and right exchanged."""
    width, turned = clip.shape[-1], []
    for target in targets:
        boxes = target["boxes"].clone()
        boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
        turned.append({**target, "boxes": boxes})
    return clip.flip(-1), turned


def render(
    scenes: SceneDataset,
    folder: str | Path,
    *,
    size: tuple[int, int],
    workers: int = 0,
    told: Callable[[int], None] | None = None,
) -> None:
    """Draw all clips of a data set and keep them in a folder, scaled to `size` (height, width).

    `told` hears how many are done. A folder that was finished is left as it is.
    """
    folder = Path(folder)
    if is_rendered(folder):
        return
    folder.mkdir(parents=True, exist_ok=True)
    shape = (len(scenes), scenes.clip_frames, 3, *size)
    clips = np.lib.format.open_memmap(folder / PIXELS, "w+", np.uint8, shape)
    scale = size[0] / scenes.config.size[0]
    boxes: list[np.ndarray] = []
    for index, (clip, targets) in enumerate(DataLoader(scenes, batch_size=None, num_workers=workers)):
        clips[index] = scaled(clip, size).numpy()
        boxes += [target["boxes"].numpy() * np.float32(scale) for target in targets]
        if told:
            told(index + 1)
    clips.flush()
    rows = np.cumsum([0, *map(len, boxes)])
    with whole_file(folder / BOXES) as part, part.open("wb") as file:
        np.savez(file, boxes=np.concatenate([np.empty((0, 4), np.float32), *boxes]), rows=rows)


def scaled(clip: Tensor, size: tuple[int, int]) -> Tensor:
    """Return pictures uint8 [T, 3, h, w] in another size; each pixel is the mean of all that it stands for."""
    return clip if clip.shape[-2:] == size else F.interpolate(clip, size, mode="bilinear", antialias=True)
