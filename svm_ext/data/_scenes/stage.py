"""The place: where the ground lies, and the layers behind and under the people, wider than the picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from . import facade, ground
from .dice import BACKDROP, Dice
from .paint import nudge_layer
from .props import KINDS, Prop, stand
from .texture import Colour

NEAR, FAR, WALL = 3.7, 9.5, 12.0  # metres to the nearest and, as usual, the farthest walker, and to the houses
SWAY = 0.55  # how far the camera moves to either side, in metres
TURN = 0.05  # how far it turns to either side, in picture heights
TREMBLE = 0.08  # how far it may tremble and be pushed to either side, in picture heights


class Geometry(NamedTuple):
    """How the ground is seen: sizes in pixels, the camera's height in metres, the horizon in picture heights."""

    height: int
    width: int
    horizon: float
    eye: float

    def metre(self, z: float) -> float:
        """Return how many pixels a metre is, so far away."""
        return self.height / z

    def row(self, z: float) -> float:
        """Return the row where something so far away stands."""
        return self.height * (self.horizon + self.eye / z)

    def column(self, x: float, z: float) -> float:
        """Return the column of a place, with the camera in the middle."""
        return self.width / 2 + x * self.metre(z)

    def edge(self, z: float) -> float:
        """Return how far from the middle the picture ends, in metres, so far away."""
        return self.width / self.metre(z) / 2


@dataclass(frozen=True)
class Layers:
    """Colours at four sub-pixel steps, each wider than the picture by its margin on either side."""

    sky: np.ndarray  # [4, 3, rows, wide]
    wall: np.ndarray  # [4, 3, rows, wide]
    roof: np.ndarray  # bool [rows, wide]: where the wall is
    ground: np.ndarray  # [4, rows, 3, wide]
    margin_x: int
    margin_y: int


@dataclass(frozen=True)
class Stage:
    """A place that scenes happen on."""

    geometry: Geometry
    layers: Layers
    props: tuple[Prop, ...]
    far: float  # metres to the farthest walker
    drab: tuple[Colour, ...]  # its own colours


@lru_cache(maxsize=32)
def stage(seed: int, height: int, width: int, props: int, far: float = FAR) -> Stage:
    """Return the place with this seed."""
    dice = Dice(seed, BACKDROP)
    geometry = Geometry(height, width, dice.uniform(0.26, 0.32), dice.uniform(2.3, 2.6))
    theme = facade.theme(dice)
    layers = _layers(dice, geometry, theme)
    return Stage(geometry, layers, _props(dice, geometry, props, far), far, (*theme.walls[:2], *theme.paving))


def _layers(dice: Dice, geometry: Geometry, theme: facade.Theme) -> Layers:
    """Draw everything that never moves by itself."""
    margin_y = geometry.height // 9 + 4
    margin_x = (
        int(geometry.height * (TURN + TREMBLE) + SWAY * geometry.metre(geometry.eye / (1.1 - geometry.horizon))) + 12
    )
    wide = geometry.width + 2 * margin_x
    base = round(geometry.row(WALL))
    sky = facade.sky(dice, base + 2 * margin_y, wide, theme)
    wall, roof = facade.houses(dice, base + 2 * margin_y, wide, geometry.metre(WALL), theme, margin_y)
    rows = np.arange(base - margin_y, geometry.height + margin_y)
    floor = ground.paved(dice, geometry, rows, wide, theme)
    return Layers(
        _quarters(sky), _quarters(wall), roof, _quarters(floor).transpose(0, 2, 1, 3).copy(), margin_x, margin_y
    )


def _quarters(picture: np.ndarray) -> np.ndarray:
    """Return a picture [3, h, w] moved left by 0, 1, 2 and 3 quarters of a pixel, [4, 3, h, w]."""
    return np.stack([nudge_layer(picture, quarters) for quarters in range(4)])


def _props(dice: Dice, geometry: Geometry, count: int, far: float) -> tuple[Prop, ...]:
    """Spread things over the width of the place, each with room for people behind it."""
    found = []
    shares = [(slot + dice.uniform(0.2, 0.8)) / count for slot in range(count)]
    for share in shares:
        kind = dice.pick(tuple(KINDS), tuple(weight for *_, weight in KINDS.values()))
        z = 1.0 / dice.uniform(1.0 / (7.0 * far / FAR), 1.0 / 4.1)
        x = (2.0 * share - 1.0) * geometry.edge(z) * 0.95
        found.append(stand(dice, kind, geometry.metre(z), x, z))
    return tuple(found)
