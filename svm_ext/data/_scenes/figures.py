"""People: a skeleton that walks, clothed in round limbs, seen from eight sides, in colours of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np

from .dice import BODIES, Dice, cosine, sine
from .paint import Sprite

# What a pixel of a figure shows; a code is 16 * part + shade.
SKIN, HAIR, TOP, ACCENT, LEGS, SHOES, BAG, HAT = range(8)
VIEWS = 8  # the figure faces right, right and away, away, ..., in eighths of a turn
STRIDE = 12  # phases of a walking cycle of two steps
STANDING = 3  # ways of standing; people change them while they wait
POSES = 2 * STRIDE + STANDING  # walking, strolling, standing
BODY_COUNT = 20
_DIAGONAL = math.sqrt(0.5)
_COS = (1.0, _DIAGONAL, 0.0, -_DIAGONAL, -1.0, -_DIAGONAL, 0.0, _DIAGONAL)
_SIN = (0.0, _DIAGONAL, 1.0, _DIAGONAL, 0.0, -_DIAGONAL, -1.0, -_DIAGONAL)
_LIGHT = (-0.52, 0.58, 0.627)  # from the upper left, in front: right, up, toward the eye

Point = tuple[float, float, float]  # forward, up, left, in heights of the figure


class Body(NamedTuple):
    """The shape of a person, without colours."""

    girth: float  # 1 is usual
    head: float  # radius, in heights
    hair: str  # short, long, bun, bald, cap
    top: str  # shirt, coat, dress
    pattern: str  # plain, hoops, block, sash
    legs: str  # trousers, shorts, skirt
    carries: str  # nothing, backpack, bag


class Limb(NamedTuple):
    """A rounded stick between two points, with a radius at each end."""

    start: Point
    end: Point
    thick: float
    thin: float
    part: int


class Trunk(NamedTuple):
    """A tapered tube around an upright axis: half its width and depth at the lower and at the upper end."""

    low: Point
    high: Point
    low_half: tuple[float, float]
    high_half: tuple[float, float]
    part: int


@cache
def body(number: int) -> Body:
    """Return one of the `BODY_COUNT` bodies."""
    dice = Dice(number, BODIES)
    top = dice.pick(("shirt", "coat", "dress"), (6, 2, 1.5))
    return Body(
        dice.uniform(0.82, 1.25),
        dice.uniform(0.058, 0.07),
        dice.pick(("short", "long", "bun", "bald", "cap"), (4, 3, 1, 1, 1.5)),
        top,
        dice.pick(("plain", "hoops", "block", "sash"), (4, 2, 2, 1)),
        "trousers" if top == "coat" else dice.pick(("trousers", "shorts", "skirt"), (5, 1.5, 1.5)),
        dice.pick(("nothing", "backpack", "bag"), (5, 2.5, 2)),
    )


def _turned(start: Point, length: float, turns: float) -> Point:
    """Return the end of a bone that hangs down and is swung forward by this angle."""
    return start[0] + length * sine(turns), start[1] - length * cosine(turns), start[2]


def _leg(hip: Point, phase: float, swing: float) -> tuple[Point, Point, Point, Point]:
    thigh = swing * 0.072 * sine(phase) + 0.008 * swing
    bend = 0.012 + swing * 0.15 * max(0.0, cosine(phase + 0.02))
    knee = _turned(hip, 0.25, thigh)
    ankle = _turned(knee, 0.235, thigh - bend)
    toe = _turned(ankle, 0.08, thigh - bend + 0.235)
    return hip, knee, ankle, toe


def _arm(shoulder: Point, phase: float, swing: float, bend: float) -> tuple[Point, Point, Point]:
    upper = -swing * 0.068 * sine(phase) - 0.01
    elbow = _turned(shoulder, 0.165, upper)
    return shoulder, elbow, _turned(elbow, 0.16, upper + bend + 0.03 * swing)


def _posture(pose: int) -> tuple[float, float, tuple[float, float]]:
    """Return phase, swing and the bend of both elbows."""
    if pose < STRIDE:
        return pose / STRIDE, 1.0, (0.05, 0.05)
    if pose < 2 * STRIDE:
        return (pose - STRIDE) / STRIDE, 0.5, (0.03, 0.03)
    return 0.3, 0.12, ((0.03, 0.03), (0.33, 0.04), (0.05, 0.22))[pose - 2 * STRIDE]


def _parts(shape: Body, pose: int) -> list[Limb | Trunk]:
    """Return the limbs of a body in a pose, its lowest ankle at the height of the shoe."""
    phase, swing, bends = _posture(pose)
    girth = shape.girth
    legs = [_leg((0.0, 0.5, side * 0.048 * girth), phase + turn, swing) for side, turn in ((1, 0.0), (-1, 0.5))]
    drop = min(leg[2][1] for leg in legs) - 0.03
    lean = 0.022 * swing
    arms = [
        _arm((lean, 0.785, side * 0.104 * girth), phase + turn, swing, bend)
        for (side, turn), bend in zip(((1, 0.0), (-1, 0.5)), bends, strict=True)
    ]
    parts = [part for leg in legs for part in _clothed_leg(shape, leg)]
    parts += _torso(shape, lean)
    parts += [part for arm in arms for part in _clothed_arm(shape, arm)]
    parts += _head(shape, lean)
    return [_lowered(part, drop) for part in parts]


def _lowered(part: Limb | Trunk, drop: float) -> Limb | Trunk:
    first, second = ((point[0], point[1] - drop, point[2]) for point in part[:2])
    return type(part)(first, second, *part[2:])


def _clothed_leg(shape: Body, leg: tuple[Point, ...]) -> list[Limb]:
    hip, knee, ankle, toe = leg
    thick, covered = 0.052 * shape.girth, shape.legs == "trousers"
    return [
        Limb(hip, knee, thick, 0.036 * shape.girth, LEGS if shape.legs != "skirt" else SKIN),
        Limb(knee, ankle, 0.034 * shape.girth, 0.027 if covered else 0.02, LEGS if covered else SKIN),
        Limb(ankle, toe, 0.026, 0.02, SHOES),
    ]


def _clothed_arm(shape: Body, arm: tuple[Point, ...]) -> list[Limb]:
    shoulder, elbow, hand = arm
    bare = shape.top == "dress" or shape.legs == "shorts"
    return [
        Limb(shoulder, elbow, 0.036 * shape.girth, 0.027, TOP),
        Limb(elbow, hand, 0.026, 0.02, SKIN if bare else TOP),
        Limb(hand, hand, 0.022, 0.022, SKIN),
    ]


def _torso(shape: Body, lean: float) -> list[Limb | Trunk]:
    girth = shape.girth
    waist, chest = (0.0, 0.49, 0.0), (lean, 0.815, 0.0)
    parts: list[Limb | Trunk] = [
        Trunk(waist, chest, (0.066 * girth, 0.082 * girth), (0.066 * girth, 0.098 * girth), TOP),
        Limb((lean, 0.79, 0.088 * girth), (lean, 0.79, -0.088 * girth), 0.042, 0.042, TOP),
    ]
    hem = {"coat": 0.3, "dress": 0.26}.get(shape.top, 0.3 if shape.legs == "skirt" else 0.0)
    if hem:
        cloth = LEGS if shape.top == "shirt" else TOP
        parts.append(
            Trunk(
                (0.0, hem, 0.0), (0.0, 0.54, 0.0), (0.098 * girth, 0.105 * girth), (0.068 * girth, 0.084 * girth), cloth
            )
        )
    if shape.carries == "backpack":
        parts.append(Limb((lean - 0.1, 0.74, 0.0), (lean - 0.105, 0.62, 0.0), 0.058, 0.066, BAG))
    elif shape.carries == "bag":
        parts.append(Limb((0.02, 0.47, 0.14 * girth), (-0.03, 0.46, 0.14 * girth), 0.048, 0.052, BAG))
        parts.append(Limb((0.0, 0.5, 0.13 * girth), (lean, 0.8, 0.05), 0.008, 0.008, BAG))
    return parts


def _head(shape: Body, lean: float) -> list[Limb | Trunk]:
    size, centre = shape.head, (lean + 0.012, 0.925, 0.0)
    back = (centre[0] - 0.034, centre[1] + 0.017, 0.0)
    parts: list[Limb | Trunk] = [
        Limb((lean, 0.82, 0.0), (lean, 0.87, 0.0), 0.03, 0.028, SKIN),
        Limb((centre[0], centre[1] - 0.012, 0.0), (centre[0], centre[1] + 0.01, 0.0), size * 0.86, size, SKIN),
    ]
    if shape.hair == "cap":
        crown = (centre[0] - 0.006, centre[1] + 0.024, 0.0)
        parts += [Limb(crown, crown, size, size, HAT), Limb(crown, (crown[0] + 0.09, crown[1], 0.0), 0.014, 0.01, HAT)]
    elif shape.hair != "bald":
        parts.append(Limb(back, back, size, size, HAIR))
    if shape.hair == "long":
        parts.append(Limb(back, (back[0] - 0.02, back[1] - 0.12, 0.0), size * 0.95, size * 0.7, HAIR))
    elif shape.hair == "bun":
        parts.append(
            Limb((back[0] - 0.055, back[1] + 0.03, 0.0), (back[0] - 0.055, back[1] + 0.03, 0.0), 0.03, 0.03, HAIR)
        )
    return parts


class _Seen(NamedTuple):
    """A point as it is seen: to the right, up, and away from the eye."""

    right: float
    up: float
    away: float


def _seen(point: Point, view: int) -> _Seen:
    forward, up, left = point
    return _Seen(forward * _COS[view] - left * _SIN[view], up, forward * _SIN[view] + left * _COS[view])


class _Easel:
    """A grid of pixels, `tall` to the height of a figure, on which parts are drawn one over the other."""

    def __init__(self, tall: int) -> None:
        self.tall, self.foot = tall, 3
        self.width = 2 * (round(tall * 0.36) + 3) + 1
        self.height = round(tall * 1.06) + self.foot
        self.code = np.zeros((self.height, self.width), np.uint8)
        self.cover = np.zeros((self.height, self.width))

    def _patch(
        self, right: tuple[float, float], up: tuple[float, float]
    ) -> tuple[slice, slice, np.ndarray, np.ndarray]:
        """Return the rows and columns around a part, and where their pixels lie in heights of the figure."""
        middle, ground = self.width // 2, self.height - self.foot
        x1, x2 = max(int(middle + right[0] * self.tall) - 2, 0), min(int(middle + right[1] * self.tall) + 3, self.width)
        y1, y2 = max(int(ground - up[1] * self.tall) - 2, 0), min(int(ground - up[0] * self.tall) + 3, self.height)
        across = (np.arange(x1, x2) - middle) / self.tall
        upward = (ground - 0.5 - np.arange(y1, y2)) / self.tall
        return slice(y1, y2), slice(x1, x2), across[None, :], upward[:, None]

    def _lay(self, rows: slice, columns: slice, depth: np.ndarray, shade: np.ndarray, part: np.ndarray | int) -> None:
        """Draw where depth, the distance inside the part's outline in heights, is positive."""
        fresh = np.minimum(np.maximum(depth * self.tall + 0.5, 0.0), 1.0)
        code = (16 * part + np.minimum(np.maximum(shade * 15.0, 0.0), 15.0).astype(np.int64)).astype(np.uint8)
        cover = self.cover[rows, columns]
        over = (fresh >= 0.5) | (fresh > cover)
        np.copyto(self.code[rows, columns], code, where=over)
        np.maximum(cover, fresh, out=cover)

    def limb(self, limb: Limb, view: int) -> None:
        """Draw a limb."""
        start, end = _seen(limb.start, view), _seen(limb.end, view)
        reach = max(limb.thick, limb.thin)
        rows, columns, x, y = self._patch(
            (min(start.right, end.right) - reach, max(start.right, end.right) + reach),
            (min(start.up, end.up) - reach, max(start.up, end.up) + reach),
        )
        along = end.right - start.right, end.up - start.up
        squared = along[0] * along[0] + along[1] * along[1]
        share = 0.0
        if squared > 0:
            share = np.minimum(
                np.maximum(((x - start.right) * along[0] + (y - start.up) * along[1]) / squared, 0.0), 1.0
            )
        radius = limb.thick + (limb.thin - limb.thick) * share
        right, up = x - (start.right + share * along[0]), y - (start.up + share * along[1])
        depth = radius - np.sqrt(right * right + up * up)
        self._lay(rows, columns, depth, _lit(right / radius, up / radius), limb.part)

    def trunk(self, trunk: Trunk, view: int, pattern: str) -> None:
        """Draw a trunk, with the pattern of its cloth."""
        low, high = _seen(trunk.low, view), _seen(trunk.high, view)
        low_half, high_half = (_half_width(half, view) for half in (trunk.low_half, trunk.high_half))
        reach = max(low_half, high_half)
        rows, columns, x, y = self._patch((low.right - reach, high.right + reach), (low.up, high.up))
        share = np.minimum(np.maximum((y - low.up) / (high.up - low.up), 0.0), 1.0)
        half = low_half + (high_half - low_half) * share
        aside = x - (low.right + (high.right - low.right) * share)
        depth = np.minimum(half - np.abs(aside), np.minimum(y - low.up, high.up - y))
        part = np.full(depth.shape, trunk.part)
        if trunk.part == TOP:
            part[_patterned(pattern, aside / half, np.broadcast_to(y, depth.shape))] = ACCENT
        self._lay(rows, columns, depth, _lit(aside / half, 0.0 * aside), part)


def _front(part: Limb | Trunk, view: int) -> float:
    """Return how far from the eye a part's near side is: what is nearest is drawn last."""
    if isinstance(part, Trunk) and part.low[1] < part.high[1] - 0.1 and part.high_half < part.low_half:
        return -0.15  # a hem falls over both legs
    middle = (_seen(part[0], view).away + _seen(part[1], view).away) / 2
    return middle - (part.thick if isinstance(part, Limb) else _half_width(part.low_half, view + 2))


def _half_width(half: tuple[float, float], view: int) -> float:
    deep, wide = half[0] * _COS[view % VIEWS], half[1] * _SIN[view % VIEWS]
    return math.sqrt(deep * deep + wide * wide)


def _lit(right: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Return how bright a round surface is where its normal points there."""
    toward = np.sqrt(np.maximum(1.0 - right * right - up * up, 0.0))
    return 0.3 + 0.7 * np.maximum(right * _LIGHT[0] + up * _LIGHT[1] + toward * _LIGHT[2], 0.0)


def _patterned(pattern: str, aside: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Return where cloth shows its second colour; aside runs from -1 to 1 across the body."""
    if pattern == "hoops":
        return np.floor(height * 18.0) % 2 == 0
    if pattern == "block":
        return np.broadcast_to(height > 0.68, aside.shape)
    if pattern == "sash":
        return np.abs(aside - (height - 0.66) * 6.0) < 0.35
    return np.zeros(aside.shape, bool)


@lru_cache(maxsize=4096)
def _drawn(number: int, view: int, pose: int, tall: int) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Return codes and alpha uint8 of a body, cropped, and where its feet are: left and top of the crop."""
    shape, easel = body(number), _Easel(tall)
    parts = _parts(shape, pose)
    for part in sorted(parts, key=lambda part: -_front(part, view)):
        if isinstance(part, Limb):
            easel.limb(part, view)
        else:
            easel.trunk(part, view, shape.pattern)
    alpha = np.floor(easel.cover * 255.0).astype(np.uint8)
    rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    crop = slice(rows[0], rows[-1] + 1), slice(columns[0] - 2, columns[-1] + 3)
    left, top = int(columns[0]) - 2 - easel.width // 2, int(rows[0]) - (easel.height - easel.foot)
    return easel.code[crop], alpha[crop], left, top


@dataclass(frozen=True)
class Look:
    """What one person looks like: a body, a height in metres, and the colours of everything worn."""

    body: int
    height: float
    colours: tuple[tuple[int, int, int], ...]

    def sprite(self, view: int, pose: int, tall: int) -> Sprite:
        """Return the person seen from a side in a pose, `tall` pixels high, put down at the feet."""
        code, alpha, left, top = _drawn(self.body, view, pose, tall)
        return Sprite.cut(_tones(self.colours)[:, code], alpha, left, top)


@lru_cache(maxsize=256)
def _tones(colours: tuple[tuple[int, int, int], ...]) -> np.ndarray:
    """Return the colour uint8 [3, 128] of every code: shadows cool, lights warm."""
    base = np.array(colours, np.int64).T[:, :, None]  # [3, parts, 1]
    shade = np.arange(16, dtype=np.int64)
    gain = 118 + 11 * shade  # of 256
    warmth = np.array([[[-6]], [[0]], [[9]]]) * (10 - shade) // 10
    return ((base * gain >> 8) + warmth).clip(4, 235).astype(np.uint8).reshape(3, -1)


SKINS = ((236, 198, 170), (222, 178, 146), (200, 150, 116), (160, 112, 80), (120, 80, 56), (84, 56, 42))
HAIRS = ((40, 32, 30), (70, 46, 32), (112, 76, 44), (176, 140, 84), (150, 148, 146), (128, 56, 34))
CLOTHES = (
    (178, 52, 48), (204, 96, 52), (222, 176, 74), (86, 128, 72), (52, 108, 104), (62, 100, 160), (42, 54, 96),
    (112, 70, 124), (196, 120, 140), (222, 216, 204), (150, 148, 146), (78, 80, 86), (38, 38, 44), (134, 98, 66),
)  # fmt: skip
TROUSERS = ((44, 52, 78), (60, 72, 104), (38, 38, 42), (92, 88, 84), (134, 116, 90), (72, 62, 54), (88, 98, 82))


def look(dice: Dice, drab: tuple[tuple[int, int, int], ...]) -> Look:
    """Return a person; one in six is dressed in the colours of the place and is easily overlooked."""
    drably = dice.chance(1 / 6)
    tops = drab if drably else CLOTHES
    top, accent = dice.pick(tops), dice.pick(tops)
    legs = dice.pick(drab if drably else TROUSERS)
    skin, hair, shoes = dice.pick(SKINS), dice.pick(HAIRS), dice.pick(((34, 30, 30), (96, 66, 46), (210, 206, 200)))
    number = dice.below(BODY_COUNT)
    height = dice.uniform(1.5, 1.92) if dice.chance(0.85) else dice.uniform(1.05, 1.4)
    return Look(number, height, (skin, hair, top, accent, legs, shoes, dice.pick(CLOTHES), dice.pick(CLOTHES)))
