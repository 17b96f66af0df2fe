"""What stands about in a scene and hides who is behind it: pillars, trees, hedges, boards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .dice import CAST, Dice
from .figures import STRIDE, look
from .paint import Sprite, nudge
from .texture import Colour, disc, edge, grain, rough, round_light, tinted

Drawn = tuple[np.ndarray, np.ndarray]  # colours uint8 [3, h, w] and alpha uint8 [h, w]


@dataclass(frozen=True)
class Prop:
    """A thing at a place on the ground, in metres: to the right of the middle, and away from the camera."""

    sprites: tuple[Sprite, ...]  # at four sub-pixel steps to the right
    x: float
    z: float
    half: float  # half the width that hides a standing person


def pillar(dice: Dice, metre: float, width: float) -> Drawn:
    """Draw a pillar that reaches out of the picture."""
    across, tall = max(round(width * metre), 3), round(6.5 * metre)
    stone = dice.pick(((150, 142, 130), (168, 150, 128), (122, 124, 128), (136, 108, 92)))
    light = round_light(across)[None, :] + (rough(dice, tall, across, 0.35 * metre) >> 2)
    light[-max(round(0.35 * metre), 1) :] -= 30
    return tinted(stone, light), np.full((tall, across), 255, np.uint8)


def lamp(dice: Dice, metre: float, width: float) -> Drawn:
    """Draw a lamp post: thin, thicker at the foot, an arm above the picture's usual heads."""
    across, tall = max(round(width * metre), 3), round(4.2 * metre)
    foot, pole = round(0.9 * metre), max(round(0.45 * across), 2)
    metal = dice.pick(((58, 64, 66), (44, 62, 56), (80, 78, 76)))
    colour = tinted(metal, round_light(across)[None, :] + np.zeros((tall, 1), np.int64))
    alpha = np.zeros((tall, across), np.uint8)
    left = (across - pole) // 2
    colour[:, :-foot, left : left + pole] = tinted(
        metal, round_light(pole)[None, :] + np.zeros((tall - foot, 1), np.int64)
    )
    alpha[:, left : left + pole] = 255
    alpha[-foot:] = 255
    head = max(round(0.32 * metre), 2)
    alpha[:head] = 255
    colour[:, : max(head - 1, 1)] = np.array([[[228]], [[220]], [[190]]])
    return colour, alpha


def kiosk(dice: Dice, metre: float, width: float) -> Drawn:
    """Draw an advertising column with bills on it and a roof."""
    across, tall = max(round(width * metre), 6), round(2.75 * metre)
    light = round_light(across)[None, :] + (grain(dice, tall, across, 0.2 * metre) >> 4)
    colour = tinted((170, 164, 150), light)
    for _ in range(7):
        bill_wide, bill_tall = round(dice.uniform(0.3, 0.55) * metre), round(dice.uniform(0.4, 0.8) * metre)
        x, y = dice.below(max(across - bill_wide // 2, 1)), round(dice.uniform(0.35, 1.9) * metre)
        area = slice(y, y + bill_tall), slice(x, x + bill_wide)
        paper = dice.pick(
            ((204, 60, 52), (228, 196, 80), (60, 110, 160), (230, 226, 214), (70, 140, 110), (40, 40, 48))
        )
        colour[:, area[0], area[1]] = tinted(paper, light[area])
        line = slice(y + bill_tall // 5, y + bill_tall // 3), slice(x + bill_wide // 6, x + bill_wide * 5 // 6)
        colour[:, line[0], line[1]] = tinted(dice.pick(((30, 30, 34), (225, 222, 214))), light[line])
    roof = round(0.28 * metre)
    colour[:, :roof] = tinted((62, 84, 74), light[:roof])
    colour[:, -max(round(0.18 * metre), 1) :] = tinted((84, 84, 84), light[-max(round(0.18 * metre), 1) :])
    return colour, np.full((tall, across), 255, np.uint8)


def tree(dice: Dice, metre: float, width: float) -> Drawn:
    """Draw a tree: a trunk of this width under a crown of leaves."""
    across, tall, trunk = round(3.4 * metre), round(5.6 * metre), max(round(width * metre), 3)
    crown = round(3.0 * metre)
    colour, alpha = np.zeros((3, tall, across), np.uint8), np.zeros((tall, across), np.uint8)
    left = (across - trunk) // 2
    bark = round_light(trunk)[None, :] + (rough(dice, tall, trunk, 0.14 * metre) >> 1)
    colour[:, :, left : left + trunk] = tinted((104, 84, 66), bark)
    alpha[crown // 2 :, left : left + trunk] = 255
    shape = disc(crown, across) + rough(dice, crown, across, 0.55 * metre) / 190.0
    leaves = _leaves(
        dice, crown, across, metre, dice.pick(((78, 112, 52), (96, 122, 50), (124, 108, 44), (62, 98, 62)))
    )
    over = edge(shape - 0.15, 0.12)
    colour[:, :crown] = np.where(over >= 40, leaves, colour[:, :crown])
    alpha[:crown] = np.maximum(alpha[:crown], over)
    return colour, alpha


def hedge(dice: Dice, metre: float, width: float) -> Drawn:
    """Draw a clipped hedge in a stone trough."""
    across, tall = round(width * metre), round(dice.uniform(0.85, 1.15) * metre)
    colour = _leaves(dice, tall, across, metre, dice.pick(((70, 104, 54), (88, 108, 52), (60, 92, 66))))
    alpha = np.full((tall, across), 255, np.uint8)
    ragged = (grain(dice, 1, across, 0.12 * metre)[0] + 128) * round(0.12 * metre) >> 8
    alpha[np.arange(tall)[:, None] < ragged] = 0
    trough = round(0.38 * metre)
    light = (
        236 + (rough(dice, trough, across, 0.3 * metre) >> 2) - 40 * (np.arange(trough)[:, None] < max(trough // 8, 1))
    )
    colour[:, -trough:] = tinted((148, 140, 130), light)
    return colour, alpha


def board(dice: Dice, metre: float, width: float) -> Drawn:
    """Draw a poster board on two legs: a printed person, life-size, who will never walk."""
    across, tall = round(width * metre), round(2.1 * metre)
    colour = tinted((66, 70, 74), np.full((tall, across), 256, np.int64))
    alpha = np.zeros((tall, across), np.uint8)
    panel, rim = round(1.85 * metre), max(round(0.06 * metre), 1)
    alpha[:panel] = 255
    leg = max(round(0.07 * metre), 2)
    alpha[:, 2 * leg : 3 * leg] = alpha[:, -3 * leg : -2 * leg] = 255
    paper = dice.pick(((196, 178, 140), (150, 176, 188), (206, 186, 180), (120, 140, 128)))
    inside = colour[:, rim : panel - rim, rim:-rim]
    inside[:] = tinted(paper, 250 + (grain(dice, inside.shape[1], inside.shape[2], 0.8 * metre) >> 3))
    printed = look(Dice(dice.below(1 << 30), CAST), (paper,))
    tall_print = round(1.55 * metre)
    printed.sprite(dice.below(8), dice.below(STRIDE), tall_print).paint(
        inside, inside.shape[2] // 2, inside.shape[1] - rim
    )
    return colour, alpha


def _leaves(dice: Dice, height: int, width: int, metre: float, colour: Colour) -> np.ndarray:
    light = 235 + (rough(dice, height, width, 0.22 * metre) * 5 >> 3) - np.arange(height)[:, None] * 70 // height
    return tinted(colour, light + (dice.octets(height, width).astype(np.int64) - 128 >> 2))


# name -> how it is drawn, least and greatest width in metres, how often
KINDS: dict[str, tuple[Callable[[Dice, float, float], Drawn], float, float, float]] = {
    "pillar": (pillar, 0.42, 0.7, 4.0),
    "kiosk": (kiosk, 0.85, 1.1, 2.0),
    "tree": (tree, 0.34, 0.5, 2.0),
    "hedge": (hedge, 1.8, 2.8, 1.5),
    "board": (board, 1.1, 1.3, 1.5),
    "lamp": (lamp, 0.24, 0.34, 1.0),
}


def stand(dice: Dice, kind: str, metre: float, x: float, z: float) -> Prop:
    """Return a thing of this kind at a place where a metre is so many pixels."""
    draw, least, greatest, _ = KINDS[kind]
    width = dice.uniform(least, greatest)
    colour, alpha = draw(dice, metre, width)
    sprite = Sprite.cut(colour, alpha, -(alpha.shape[1] // 2), -alpha.shape[0])
    return Prop(tuple(nudge(sprite, quarters) for quarters in range(4)), x, z, width / 2)
