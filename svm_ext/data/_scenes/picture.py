"""One frame: the layers of a place, things and people before them, the camera's faults, and who is seen how well."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .camera import Shot, develop
from .cast import Pose
from .figures import Look
from .paint import Sprite, defocus, resize, smear, streak
from .props import Prop
from .stage import WALL, Stage
from .texture import disc, edge

_SHARP = 0.04  # metres; who walks stays sharp, who runs does not: one sharp picture tells nobody from a statue
_THING = 255  # the owner of pixels that belong to nobody


class Seen(NamedTuple):
    """One person in a frame."""

    id: int
    person: int
    box: tuple[int, int, int, int]  # the whole person, x1 y1 x2 y2
    visibility: float  # share of its pixels that is in the picture with nothing in front
    blurred: bool


class Drawn(NamedTuple):
    """A frame and everybody in it."""

    pixels: np.ndarray  # uint8 [3, H, W]
    people: list[Seen]


def draw(stage: Stage, shot: Shot, poses: list[Pose], blur: float) -> Drawn:
    """Draw a frame."""
    size = stage.geometry.height, stage.geometry.width
    easel = _Easel(stage, shot, np.empty((3, *size), np.uint8), np.zeros(size, np.uint8), blur)
    easel.background()
    for thing in sorted([*stage.props, *poses], key=lambda thing: -thing.z):
        if isinstance(thing, Prop):
            easel.prop(thing)
        else:
            easel.person(thing)
    pixels = easel.pixels
    if max(abs(way) for way in shot.streak) >= 1.5:
        pixels = streak(pixels, *shot.streak)
    if shot.defocus:
        pixels = defocus(pixels, shot.defocus)
    return Drawn(develop(pixels, shot, _vignette(*size)), easel.people())


class _Easel:
    """A frame in the making."""

    def __init__(self, stage: Stage, shot: Shot, pixels: np.ndarray, owners: np.ndarray, blur: float) -> None:
        self.stage, self.shot, self.blur = stage, shot, blur
        self.pixels = pixels  # uint8 [3, H, W]
        self.owners = owners  # uint8 [H, W]: the number of the person whose pixel it is
        self._there: list[tuple[Pose, Sprite, int, int, int]] = []  # who, sprite, column, row, smear

    def background(self) -> None:
        """Draw sky, houses and ground, each moved by what its distance makes of the camera's move."""
        layers, geometry = self.stage.layers, self.stage.geometry
        down, base = round(self.shot.pan[1]), round(geometry.row(WALL))
        top = max(0, min(base + down, geometry.height))
        rows = slice(layers.margin_y - down, layers.margin_y - down + top)
        for layer, metre in ((layers.sky, 0.0), (layers.wall, geometry.metre(WALL))):
            quarter, columns = self._columns(metre)
            roof = layers.roof[rows, columns] if metre else True
            np.copyto(self.pixels[:, :top], layer[quarter, :, rows, columns], where=roof)
        for row in range(top, geometry.height):
            depth = (row - down + 0.5) / geometry.height - geometry.horizon
            quarter, columns = self._columns(geometry.height * depth / geometry.eye)
            self.pixels[:, row] = layers.ground[quarter, row - down - base + layers.margin_y, :, columns]

    def _columns(self, metre: float) -> tuple[int, slice]:
        """Return the sub-pixel step and the columns of a layer on which a metre is so many pixels."""
        left = round(4.0 * (self.stage.layers.margin_x - self.shot.pan[0] + self.shot.x * metre))
        return left % 4, slice(left // 4, left // 4 + self.stage.geometry.width)

    def _foot(self, x: float, z: float) -> tuple[int, int, int]:
        """Return column, quarter of a column, and row where something stands."""
        geometry = self.stage.geometry
        quarters = round(4.0 * (geometry.column(x - self.shot.x, z) + self.shot.pan[0]))
        return quarters // 4, quarters % 4, round(geometry.row(z) + self.shot.pan[1])

    def prop(self, prop: Prop) -> None:
        """Draw a thing."""
        column, quarter, row = self._foot(prop.x, prop.z)
        _shadow(round(2.6 * prop.half * self.stage.geometry.metre(prop.z))).paint(self.pixels, column, row)
        prop.sprites[quarter].paint(self.pixels, column, row)
        prop.sprites[quarter].claim(self.owners, column, row, _THING)

    def person(self, pose: Pose) -> None:
        """Draw a person or a statue, unless it is out of sight."""
        metre = self.stage.geometry.metre(pose.z)
        column, quarter, row = self._foot(pose.x, pose.z)
        if not -metre < column < self.stage.geometry.width + metre:
            return
        sprite = figure(pose.look, pose.view, pose.pose, max(round(pose.look.height * metre), 4), quarter)
        moved = abs(pose.across) * 0.5 * self.blur  # metres while the shutter is open
        smeared = round(moved * metre) if moved > _SHARP else 0
        _shadow(round(0.62 * metre)).paint(self.pixels, column, row)
        smear(sprite, smeared).paint(self.pixels, column, row)
        if pose.person:
            self._there.append((pose, sprite, column, row, smeared))
        sprite.claim(self.owners, column, row, len(self._there) if pose.person else _THING)

    def people(self) -> list[Seen]:
        """Return everybody whose box reaches into the picture."""
        height, width = self.owners.shape
        washed = max(*(abs(way) for way in self.shot.streak), 2.0 * self.shot.defocus)
        found = []
        for number, (pose, sprite, column, row, smeared) in enumerate(self._there, start=1):
            left, top, right, bottom = sprite.bounds
            x, y = column + sprite.left, row + sprite.top
            box = x + left, y + top, x + right, y + bottom
            if box[0] < width and box[1] < height and box[2] > 0 and box[3] > 0:
                visibility = sprite.seen(self.owners, column, row, number) / sprite.area
                blurred = 6.0 * max(washed, smeared) > right - left
                found.append(Seen(pose.id, pose.person, box, visibility, blurred))
        return found


@lru_cache(maxsize=768)
def figure(look: Look, view: int, pose: int, tall: int, quarters: int) -> Sprite:
    """Return a person `tall` pixels high, moved right by quarters of a pixel."""
    master = 48  # bodies are drawn in few sizes, each twice the one before, and then made smaller
    while master < tall:
        master *= 2
    return resize(look.sprite(view, pose, master), tall / master, quarters / 4.0)


@lru_cache(maxsize=512)
def _shadow(width: int) -> Sprite:
    """Return the shadow under something of this width."""
    height, width = max(width * 2 // 7, 2), max(width, 2)
    soft = edge(disc(height, width), 1.6)
    return Sprite.cut(np.zeros((3, height, width), np.uint8), soft, -(width * 2 // 5), -(height * 3 // 5))


@lru_cache(maxsize=4)
def _vignette(height: int, width: int) -> np.ndarray:
    """Return the light that reaches each pixel through the lens, uint16 [height, width] of 256."""
    middle = np.minimum(disc(height, width) + 1.0, 2.0) / 2.0  # 1 in the middle, 0 in the corners
    return np.floor(256.0 * (0.78 + 0.22 * np.minimum(1.5 * middle, 1.0))).astype(np.uint16)
