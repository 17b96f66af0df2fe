"""From a video's picture to a model's input, and from the boxes found there back to the video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from ..models.detections import Detections

SIZE = (1440, 800)  # pixels, the longer and the shorter side that pictures are made to fit
MEAN = (123.675, 116.28, 103.53)  # RGB, of pixels from 0 to 255
STD = (58.395, 57.12, 57.375)
_SMOOTH_BELOW = 0.5  # scale


@dataclass(frozen=True)
class Fit:
    """How pictures of one size become a model's input: scaled with their shape kept, padded right and below."""

    source: tuple[int, int]  # width and height of the video
    scaled: tuple[int, int]  # width and height in the model's input
    padded: tuple[int, int]  # width and height of the input

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the input, as models are told."""
        return self.padded[1], self.padded[0]

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the input for a pixel of the video, in x and in y."""
        return self.scaled[0] / self.source[0], self.scaled[1] / self.source[1]

    def to_source(self, found: Detections) -> Detections:
        """Return boxes of the input as boxes of the video."""
        across, down = self.scale
        return found.rescale(1 / across, 1 / down)


def fit(source: tuple[int, int], limits: tuple[int, int] = SIZE, multiple: int = 32) -> Fit:
    """Return how pictures (width, height) fit into limits (longer side, shorter side), padded to a multiple."""
    for name, sides in (("source", source), ("size", limits)):
        if len(sides) != 2 or min(sides) < 1:
            raise ValueError(f"{name}: expected two sides of at least 1 pixel, got {sides!r}; give whole numbers")
    long, short = max(limits), min(limits)
    scale = min(long / max(source), short / min(source))
    scaled = tuple(max(1, int(side * scale + 0.5)) for side in source)
    return Fit(tuple(source), scaled, tuple(-(-side // multiple) * multiple for side in scaled))


def prepare(image: np.ndarray, how: Fit, out: Tensor | None = None) -> Tensor:
    """Return a picture, uint8 [H, W, 3] RGB, as a model's input [3, H, W]: scaled, normalised, padded with 0.

    `out` says where the result goes, and so the device that works and the type.
    """
    width, height = how.source
    if image.dtype != np.uint8 or image.shape != (height, width, 3):
        raise ValueError(
            f"frame: expected uint8 [{height}, {width}, 3], got {image.dtype} {list(image.shape)};"
            " a stream has pictures of one size, RGB, from 0 to 255"
        )
    if out is None:
        out = torch.empty(3, *how.image_size)
    across, down = how.scaled
    image = np.require(image, requirements=["C", "W"])  # what torch takes without a copy or a warning
    pixels = _resized(torch.from_numpy(image).to(out.device), (down, across), min(how.scale))  # [3, h, w]
    mean, std = (torch.tensor(values, device=out.device)[:, None, None] for values in (MEAN, STD))
    torch.addcmul(-mean / std, pixels.float(), 1 / std, out=out[:, :down, :across])
    out[:, down:] = 0
    out[:, :down, across:] = 0
    return out


def _resized(image: Tensor, size: tuple[int, int], scale: float) -> Tensor:
    """Resize [H, W, 3] to [3, h, w], bilinearly, in whole numbers as the video has them.

    The CPU resizes bytes three times as fast as floats. A picture that shrinks to less than half would alias:
    there each pixel averages all that it stands for. Above, it is the plain kind that the models were trained
    with, and as sharp.
    """
    pixels = image.permute(2, 0, 1)[None]  # [1, 3, H, W]
    if tuple(pixels.shape[2:]) == size:
        return pixels[0]
    if image.is_cuda:
        pixels = pixels.float()
    resized = F.interpolate(pixels, size, mode="bilinear", antialias=scale < _SMOOTH_BELOW)[0]
    return resized.round_() if image.is_cuda else resized
