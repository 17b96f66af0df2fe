"""Textures in integers: grain, clouds, leaves, and the shading of round things."""

from __future__ import annotations

import numpy as np

from .dice import Dice
from .paint import BRIGHTEST, stretch

Colour = tuple[int, int, int]


def grain(dice: Dice, height: int, width: int, cell: float) -> np.ndarray:
    """Return smooth noise int64 [height, width] of -128 to 127, with hills about `cell` pixels wide."""
    rows, columns = max(int(height / cell), 1) + 2, max(int(width / cell), 1) + 2
    hills = dice.octets(1, rows, columns).astype(np.uint16)
    return stretch(hills, height, width)[0].astype(np.int64) - 128


def rough(dice: Dice, height: int, width: int, cell: float) -> np.ndarray:
    """Return noise int64 [height, width] of about -128 to 127 with hills of three sizes."""
    coarse, middle, fine = (grain(dice, height, width, max(cell / step, 1.0)) for step in (1, 2.5, 6))
    return (4 * coarse + 3 * middle + 2 * fine) * 7 >> 6


def tinted(colour: Colour, light: np.ndarray) -> np.ndarray:
    """Return a colour uint8 [3, h, w] under light int64 [h, w]; 256 leaves it as it is."""
    base = np.array(colour, np.int64)[:, None, None]
    return (base * light >> 8).clip(2, BRIGHTEST).astype(np.uint8)


def round_light(width: int) -> np.ndarray:
    """Return the light int64 [width] on an upright tube, from the upper left."""
    across = (2.0 * np.arange(width) + 1.0) / width - 1.0
    toward = np.sqrt(np.maximum(1.0 - across * across, 0.0))
    return np.floor(256.0 * (0.42 + 0.62 * np.maximum(0.75 * toward - 0.62 * across, 0.0))).astype(np.int64)


def disc(height: int, width: int) -> np.ndarray:
    """Return float64 [height, width]: 1 in the middle, 0 on the ellipse that touches the border, then negative."""
    down = (2.0 * np.arange(height) + 1.0) / height - 1.0
    across = (2.0 * np.arange(width) + 1.0) / width - 1.0
    return 1.0 - (down * down)[:, None] - (across * across)[None, :]


def edge(depth: np.ndarray, softness: float) -> np.ndarray:
    """Return alpha uint8: 0 where depth is negative, 255 from `softness` on."""
    return np.floor(255.0 * np.minimum(np.maximum(depth / softness, 0.0), 1.0)).astype(np.uint8)
