"""The ground in perspective: slabs, cobbles or asphalt, stains, a kerb."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .dice import Dice
from .facade import Theme
from .texture import grain

if TYPE_CHECKING:
    from .stage import Geometry


def paved(dice: Dice, geometry: Geometry, rows: np.ndarray, wide: int, colours: Theme) -> np.ndarray:
    """Draw the ground of these picture rows, uint8 [3, rows, wide], the camera in the middle."""
    depth = np.maximum((rows + 0.5) / geometry.height - geometry.horizon, geometry.eye / 14.0)
    z = (geometry.eye / depth)[:, None]  # [rows, 1] metres
    pixel = z / geometry.height  # metres to a pixel
    x = (np.arange(wide) + 0.5 - wide / 2)[None, :] * pixel  # [rows, wide]
    light = 250 + _stains(dice, x, z)
    light += dice.octets(len(rows), wide).astype(np.int64) - 128 >> 4
    far = z > 10.6
    if colours.kind == "asphalt":
        light, white = _asphalt(dice, x, z, light)
    else:
        size = (0.9, 0.9) if colours.kind == "slabs" else (0.32, 0.26)
        light, white = _slabs(dice, x, z, pixel, light, size), np.zeros(x.shape, bool)
    walk = _slabs(dice, x, z, pixel, light, (1.2, 0.5))
    kerb = (z > 10.4) & ~far
    main, side = (np.array(colour, np.int64)[:, None, None] for colour in colours.paving)
    picture = np.where(far, side * walk >> 8, main * light >> 8)
    picture = np.where(kerb, 196 * np.minimum(light, 256) >> 8, picture)
    picture = np.where(white, 214 * light >> 8, picture)
    return picture.clip(2, 226).astype(np.uint8)


def _stains(dice: Dice, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return broad light and dark patches that lie on the ground."""
    patches = grain(dice, 256, 256, 20)
    deep, across = (np.floor(where * 14.0).astype(np.int64) & 255 for where in (z, x))
    return patches[deep, across] >> 3


def _slabs(
    dice: Dice, x: np.ndarray, z: np.ndarray, pixel: np.ndarray, light: np.ndarray, size: tuple[float, float]
) -> np.ndarray:
    """Lay slabs of this width and depth in rows that are shifted against each other, each of its own grey."""
    course = np.floor(z / size[1])
    along = x / size[0] + (course % 2) * 0.5
    stone = np.floor(along)
    tones = (dice.octets(64, 64).astype(np.int64) - 128) >> 3
    light = light + tones[course.astype(np.int64) & 63, stone.astype(np.int64) & 63]
    gap = np.maximum(0.025, 0.6 * pixel)
    seam = ((along - stone) * size[0] < gap) | ((z / size[1] - course) * size[1] < gap * z * 0.45)
    faint = np.minimum(34.0 * (size[0] / 6.0) / pixel, 34.0).astype(np.int64)  # far seams run together
    return light - seam * faint


def _asphalt(dice: Dice, x: np.ndarray, z: np.ndarray, light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Roughen a road and mark it; return its light and where it is white."""
    light = light + (dice.octets(*x.shape).astype(np.int64) - 128 >> 3)
    start = dice.uniform(-4.0, 2.0)
    bar = (x - start) / 0.55
    zebra = (x > start) & (x < start + 3.6) & (np.floor(bar) % 2 == 0) & (z < 9.8) & (z > 3.0)
    line = (np.abs(z - 9.9) < 0.09) & (np.floor(x / 1.6) % 2 == 0)
    return light, zebra | line
