"""The far end of a place: sky, a skyline, a row of houses with windows and shops."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .dice import Dice
from .texture import Colour, grain, rough, tinted


class Theme(NamedTuple):
    """The colours of a place."""

    sky: tuple[Colour, Colour]  # above, at the horizon
    walls: tuple[Colour, ...]
    trim: Colour
    paving: tuple[Colour, Colour]
    kind: str  # slabs, cobbles, asphalt


THEMES = (
    Theme(((104, 148, 196), (206, 214, 214)), ((188, 120, 88), (206, 170, 126), (164, 96, 78), (214, 192, 156)),
          (226, 220, 206), ((168, 158, 144), (140, 132, 120)), "slabs"),
    Theme(((142, 160, 176), (206, 208, 206)), ((146, 150, 152), (176, 172, 164), (118, 128, 136), (190, 184, 172)),
          (214, 214, 210), ((140, 142, 144), (118, 120, 124)), "slabs"),
    Theme(((98, 156, 204), (222, 222, 206)), ((222, 194, 124), (208, 142, 104), (178, 190, 176), (224, 208, 172)),
          (230, 224, 210), ((176, 160, 134), (152, 136, 112)), "cobbles"),
    Theme(((212, 168, 132), (228, 200, 160)), ((166, 112, 92), (192, 146, 110), (132, 100, 96), (202, 168, 134)),
          (222, 206, 182), ((150, 132, 120), (126, 110, 104)), "cobbles"),
    Theme(((120, 150, 180), (200, 206, 210)), ((132, 92, 80), (158, 150, 140), (110, 116, 122), (180, 160, 134)),
          (206, 202, 194), ((104, 106, 110), (92, 94, 98)), "asphalt"),
)  # fmt: skip


def theme(dice: Dice) -> Theme:
    """Return the colours of a place."""
    return dice.pick(THEMES)


def sky(dice: Dice, height: int, width: int, colours: Theme) -> np.ndarray:
    """Draw sky, clouds and far roofs, uint8 [3, height, width]."""
    share = np.arange(height, dtype=np.int64)[:, None] * 256 // height
    above, below = (np.array(colour, np.int64)[:, None, None] for colour in colours.sky)
    picture = (above * (256 - share) + below * share) >> 8
    clouds = (rough(dice, height, width, height * 0.5) + 10).clip(0, 70)
    picture = picture + ((232 - picture) * clouds >> 7)
    outline = grain(dice, 1, width, height * 0.13)[0] * height // 700 + height * 5 // 8
    far = np.arange(height)[:, None] > outline
    hills = (below * 5 + np.array([[[70]], [[92]], [[96]]]) * 3) >> 3
    return np.where(far, hills, picture).clip(0, 235).astype(np.uint8)


def houses(
    dice: Dice, height: int, width: int, metre: float, colours: Theme, below: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a row of houses, uint8 [3, height, width], and where they are, bool [height, width].

    They stand on the row `below` pixels above the last one.
    """
    picture, roof = np.zeros((3, height, width), np.uint8), np.zeros((height, width), bool)
    picture[:] = np.array(colours.walls[0])[:, None, None]
    base, left = height - below, -dice.below(round(3 * metre))
    while left < width:
        house = _House(picture, dice, metre, base, left, left + round(dice.uniform(4.5, 8.5) * metre))
        top = house.draw(colours)
        roof[max(top, 0) :, max(left, 0) : house.right] = True
        left = house.right + (round(dice.uniform(0.6, 2.0) * metre) if dice.chance(0.35) else 0)
    roof[base - max(round(0.5 * metre), 1) :] = True  # a low wall closes the gaps
    soil = slice(base - max(round(0.12 * metre), 1), None)
    picture[:, soil] = tinted((92, 86, 80), 256 + (grain(dice, height, width, 3)[soil] >> 2))
    return picture, roof


class _House:
    """One house, drawn on a picture from column `left` to `right`, in metres from its lower left corner."""

    def __init__(self, picture: np.ndarray, dice: Dice, metre: float, base: int, left: int, right: int) -> None:
        self.picture, self.dice, self.metre = picture, dice, metre
        self.base, self.left, self.right = base, left, right
        self.wide = (right - left) / metre

    def fill(self, x1: float, x2: float, y1: float, y2: float, colour: Colour, falls: int = 0) -> None:
        """Fill a rectangle; its light falls by this much of 256 from top to bottom."""
        top, bottom = max(self.base - round(y2 * self.metre), 0), max(self.base - round(y1 * self.metre), 0)
        start, stop = self.left + round(x1 * self.metre), self.left + round(x2 * self.metre)
        start, stop = max(start, 0), max(min(stop, self.right, self.picture.shape[2]), 0)
        if bottom > top and stop > start:
            light = 256 - falls * np.arange(bottom - top, dtype=np.int64)[:, None] // (bottom - top)
            light = np.broadcast_to(light, (bottom - top, stop - start))
            self.picture[:, top:bottom, start:stop] = tinted(colour, light)

    def draw(self, colours: Theme) -> int:
        """Draw it and return the row of its roof."""
        dice, tall = self.dice, self.dice.uniform(4.6, 9.0)
        wall = dice.pick(colours.walls)
        top = self.base - round(tall * self.metre)
        self._wall(wall, max(top, 0))
        self.fill(0, self.wide, 3.25, 3.45, colours.trim, 60)
        self.fill(0, self.wide, tall - 0.22, tall, colours.trim, 50)
        self.fill(0, self.wide, 0, 0.35, (96, 90, 86))
        self._windows(colours, tall)
        self._ground_floor(colours)
        return top

    def _wall(self, colour: Colour, top: int) -> None:
        start, stop = max(self.left, 0), max(min(self.right, self.picture.shape[2]), 0)
        if stop > start and self.base > top:
            light = 244 + (rough(self.dice, self.base - top, stop - start, 0.9 * self.metre) >> 3)
            light += self.dice.octets(self.base - top, stop - start).astype(np.int64) - 128 >> 4
            self.picture[:, top : self.base, start:stop] = tinted(colour, light)

    def _windows(self, colours: Theme, tall: float) -> None:
        dice, step = self.dice, self.dice.uniform(1.5, 2.1)
        glass = dice.pick(((66, 82, 98), (88, 106, 120), (54, 60, 70)))
        count = max(int((self.wide - 0.5) / step), 1)
        start = (self.wide - count * step) / 2 + (step - 0.95) / 2
        for storey in (4.1, 6.9):
            for x in (start + step * number for number in range(count)):
                if storey + 1.6 < tall:
                    self.fill(x - 0.1, x + 1.05, storey - 0.14, storey + 1.5, colours.trim, 20)
                    self.fill(x, x + 0.95, storey, storey + 1.4, glass, -90)
                    self.fill(x + 0.44, x + 0.52, storey, storey + 1.4, colours.trim)
                    if dice.chance(0.3):
                        self.fill(x, x + 0.95, storey + 0.7, storey + 1.4, (202, 190, 166), 30)

    def _ground_floor(self, colours: Theme) -> None:
        dice, x = self.dice, 0.4
        cloth = dice.pick(((170, 60, 54), (62, 104, 84), (70, 92, 140), (200, 160, 86)))
        shop = dice.chance(0.6)
        while x + 1.2 < self.wide:
            if dice.chance(0.3):
                self.fill(x, x + 1.05, 0, 2.25, dice.pick(((78, 56, 44), (46, 62, 66), (110, 80, 56))), 40)
                x += 1.5
                continue
            wide = min(dice.uniform(1.4, 2.6) if shop else 1.1, self.wide - x - 0.2)
            low = 0.5 if shop else 1.0
            self.fill(x - 0.07, x + wide + 0.07, low - 0.08, 2.35, colours.trim, 30)
            self.fill(x, x + wide, low, 2.28, (70, 74, 78), -70)
            self.fill(x + 0.1, x + wide * dice.uniform(0.3, 0.8), low, low + dice.uniform(0.3, 0.9), (140, 120, 98), 60)
            if shop:
                self._awning(x - 0.15, x + wide + 0.15, cloth)
            x += wide + dice.uniform(0.4, 0.8)

    def _awning(self, x1: float, x2: float, cloth: Colour) -> None:
        stripes = max(round((x2 - x1) / 0.28), 1)
        for stripe in range(stripes):
            left = x1 + (x2 - x1) * stripe / stripes
            self.fill(left, left + (x2 - x1) / stripes, 2.3, 2.8, cloth if stripe % 2 else (224, 216, 200), 70)
