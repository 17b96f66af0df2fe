"""Sprites, and the brush that lays them on a canvas, all in integers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

BRIGHTEST = 235
SOLID = 128  # a pixel belongs to what covers half of it


@dataclass(frozen=True)
class Sprite:
    """A cut-out: colour uint8 [3, h, w], already multiplied by cover uint16 [h, w], of 0 to 255.

    `left` and `top` lead from the point where it is put down to its upper left corner. Colours end at
    `BRIGHTEST`, so that roundings of colour and cover cannot add up to more than a byte holds.
    """

    colour: np.ndarray
    cover: np.ndarray
    left: int
    top: int

    @classmethod
    def cut(cls, colour: np.ndarray, alpha: np.ndarray, left: int, top: int) -> Sprite:
        """Make a sprite of plain colours uint8 [3, h, w] and alpha uint8 [h, w]."""
        cover = alpha.astype(np.uint16)
        return cls(((colour.clip(0, BRIGHTEST) * (cover + 1)) >> 8).astype(np.uint8), cover, left, top)

    @cached_property
    def solid(self) -> np.ndarray:
        """Where it is there, bool [h, w]."""
        return self.cover >= SOLID

    @cached_property
    def area(self) -> int:
        """How many pixels it covers."""
        return int(np.count_nonzero(self.solid))

    @cached_property
    def bounds(self) -> tuple[int, int, int, int]:
        """The box x1, y1, x2, y2 around what it covers, from its upper left corner; empty where it covers nothing."""
        rows, columns = np.flatnonzero(self.solid.any(axis=1)), np.flatnonzero(self.solid.any(axis=0))
        if not len(rows):
            return 0, 0, 0, 0
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

    @cached_property
    def _gaps(self) -> np.ndarray:
        return 256 - self.cover

    def paint(self, pixels: np.ndarray, x: int, y: int) -> None:
        """Lay it on pixels uint8 [3, H, W], put down at x, y."""
        there, here = _overlap(self, pixels.shape[1:], x, y)
        under = pixels[:, there[0], there[1]]
        mixed = under * self._gaps[here]
        mixed >>= 8
        mixed += self.colour[:, here[0], here[1]]
        np.copyto(under, mixed, casting="unsafe")

    def claim(self, owners: np.ndarray, x: int, y: int, owner: int) -> None:
        """Write its number where it is there, into owners [H, W]."""
        there, here = _overlap(self, owners.shape, x, y)
        np.copyto(owners[there], owner, where=self.solid[here])

    def seen(self, owners: np.ndarray, x: int, y: int, owner: int) -> int:
        """Count the pixels that nobody painted over after `claim`."""
        there, _ = _overlap(self, owners.shape, x, y)
        return int(np.count_nonzero(owners[there] == owner))


def _overlap(sprite: Sprite, size: tuple[int, ...], x: int, y: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the rows and columns of the canvas under a sprite, and the sprite's own over the canvas."""
    (height, width), (bottom, right) = sprite.cover.shape, size
    left, top = x + sprite.left, y + sprite.top
    x1, y1 = min(max(left, 0), right), min(max(top, 0), bottom)
    x2, y2 = max(min(left + width, right), x1), max(min(top + height, bottom), y1)
    return (slice(y1, y2), slice(x1, x2)), (slice(y1 - top, y2 - top), slice(x1 - left, x2 - left))


def nudge(sprite: Sprite, quarters: int) -> Sprite:
    """Return it moved right by quarters of a pixel, 0 to 3."""
    if not quarters:
        return sprite
    right = quarters * 64
    colour, cover = (np.pad(plane, [(0, 0)] * (plane.ndim - 1) + [(1, 1)]) for plane in (sprite.colour, sprite.cover))
    colour, cover = (
        (plane[..., 1:] * np.uint16(256 - right) + plane[..., :-1] * np.uint16(right)) >> 8
        for plane in (colour.astype(np.uint16), cover)
    )
    return Sprite(colour.astype(np.uint8), cover, sprite.left, sprite.top)


def stretch(planes: np.ndarray, height: int, width: int, right: float = 0.0) -> np.ndarray:
    """Return planes uint16 [n, h, w] of bytes in another size, each pixel mixed from four, moved right by a share."""
    rows, row_share = _samples(planes.shape[1], height, 0.0)
    columns, column_share = _samples(planes.shape[2], width, right)
    down = planes.take(rows, axis=1) * (256 - row_share)[:, None]
    down += planes.take(rows + 1, axis=1) * row_share[:, None]
    down >>= 8
    across = down.take(columns, axis=2) * (256 - column_share)
    across += down.take(columns + 1, axis=2) * column_share
    across >>= 8
    return across


def _samples(old: int, new: int, later: float) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each new pixel, the old one before it and the share in 1/256 of the one after it."""
    at = ((2 * np.arange(new) + 1) * (old * 128)) // new - 128 - round(later * 256.0 * old / new)
    at = np.minimum(np.maximum(at, 0), (old - 1) * 256 - 1)
    return at >> 8, (at & 255).astype(np.uint16)


def resize(sprite: Sprite, scale: float, right: float = 0.0) -> Sprite:
    """Return it at another scale, put down at the same point or a share of a pixel to the right of it.

    The sprite must have an empty border of a pixel to the left and right.
    """
    old_height, old_width = sprite.cover.shape
    planes = np.empty((4, old_height, old_width), np.uint16)
    planes[:3], planes[3] = sprite.colour, sprite.cover
    height, width = max(round(old_height * scale), 2), max(round(old_width * scale), 2)
    planes = stretch(planes, height, width, right)
    return Sprite(planes[:3].astype(np.uint8), planes[3], round(sprite.left * scale), round(sprite.top * scale))


def smear(sprite: Sprite, length: int) -> Sprite:
    """Return it as an open shutter sees it while it moves sideways by `length` pixels, half before and half after."""
    if length < 2:
        return sprite
    padded = np.pad(
        np.concatenate([sprite.colour.astype(np.uint16), sprite.cover[None]]), [(0, 0), (0, 0), (length - 1,) * 2]
    )
    width = padded.shape[2] - length + 1
    planes = padded[:, :, :width].astype(np.uint32)
    for shift in range(1, length):
        planes += padded[:, :, shift : shift + width]
    planes = (planes // length).astype(np.uint16)
    return Sprite(planes[:3].astype(np.uint8), planes[3], sprite.left - length // 2, sprite.top)


def streak(pixels: np.ndarray, dx: float, dy: float) -> np.ndarray:
    """Return pixels uint8 [3, H, W] as seen by an open shutter while the camera moves by dx, dy."""
    taps = min(int(max(abs(dx), abs(dy))) + 1, 16)
    shares = [(2 * tap - taps + 1) / (2 * taps) for tap in range(taps)]
    return _mean_of([_shifted(pixels, round(dx * share), round(dy * share)) for share in shares])


def defocus(pixels: np.ndarray, radius: int) -> np.ndarray:
    """Return pixels uint8 [3, H, W] out of focus by a square of this radius."""
    for dx, dy in ((1, 0), (0, 1)):
        pixels = _mean_of([_shifted(pixels, dx * step, dy * step) for step in range(-radius, radius + 1)])
    return pixels


def _mean_of(images: list[np.ndarray]) -> np.ndarray:
    total = images[0].astype(np.uint16)
    for image in images[1:]:
        total += image
    return ((total + len(images) // 2) // np.uint16(len(images))).astype(np.uint8)


def _shifted(pixels: np.ndarray, dx: int, dy: int) -> np.ndarray:
    """Return pixels moved by whole steps, the border repeated."""
    if dy:
        pixels = pixels.take(np.arange(pixels.shape[1]) - dy, axis=1, mode="clip")
    if dx:
        pixels = pixels.take(np.arange(pixels.shape[2]) - dx, axis=2, mode="clip")
    return pixels


def nudge_layer(picture: np.ndarray, quarters: int) -> np.ndarray:
    """Return a picture uint8 [3, h, w] moved left by quarters of a pixel, its last column repeated."""
    here = picture.astype(np.uint16)
    after = np.concatenate([here[..., 1:], here[..., -1:]], axis=-1)
    return ((here * np.uint16(4 - quarters) + after * np.uint16(quarters)) >> 2).astype(np.uint8)
