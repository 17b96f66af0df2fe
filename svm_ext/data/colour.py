"""Colours of whole pictures: hue, saturation and brightness."""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK = 1 << 15  # pixels that are worked on at a time, so that what comes in between stays in the cache


def shift_hsv(frames: Tensor, shift: tuple[int, int, int]) -> Tensor:
    """Return frames uint8 [..., 3, H, W] RGB with something added to hue (of 180), saturation and value (of 255).

    What is grey has no hue and stays grey.
    """
    out = torch.empty_like(frames)
    rows = max(_BLOCK // frames.shape[-1], 1)
    pictures = zip(frames.flatten(0, -4), out.flatten(0, -4), strict=True)  # [3, H, W]
    for given, changed in pictures:
        for block, result in zip(given.split(rows, dim=1), changed.split(rows, dim=1), strict=True):
            _shift(block, result, shift)
    return out


def _shift(pixels: Tensor, out: Tensor, shift: tuple[int, int, int]) -> None:
    """Change pixels uint8 [3, h, W] into out."""
    hue, saturation, value = shift
    channels = pixels.float()
    bright, dark = channels.amax(0), channels.amin(0)  # [h, W]
    spread = bright - dark
    if hue:
        channels = _turned(channels, bright, spread, hue / 30.0)
    # A colour is bright - spread * distance, where distance is 0 for the strongest channel and 1 for the weakest.
    new_bright = (bright + value).clamp_(0, 255)
    new_spread = (spread / bright.clamp(min=1.0) + saturation / 255.0).clamp_(0, 1).mul_(new_bright)
    ratio = new_spread.div_(spread.clamp(min=1.0)).mul_(spread > 0)
    channels = (channels - bright).mul_(ratio).add_(new_bright)
    out.copy_(channels.round_().clamp_(0, 255))


def _turned(channels: Tensor, bright: Tensor, spread: Tensor, sextants: float) -> Tensor:
    """Return colours [3, h, W] of the same brightness and spread, their hue turned by sixths of the circle."""
    red, green, blue = channels
    width = spread.clamp(min=1.0)
    hue = torch.where(bright == red, green - blue, torch.where(bright == green, blue - red, red - green))
    hue.div_(width).add_(torch.where(bright == red, 0.0, torch.where(bright == green, 2.0, 4.0)))
    starts = torch.tensor([5.0, 3.0, 1.0])[:, None, None] + sextants
    place = torch.remainder(hue + starts, 6.0)  # [3, h, W]
    return bright - spread * torch.minimum(place, 4.0 - place).clamp_(0.0, 1.0)
