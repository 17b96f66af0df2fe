"""Changes clips the way detectors of people are trained: mosaic, random affine, mixup, colours, flip.

Everything is drawn once for a clip and holds for all of its frames, so that what moves in the video moves alike in
the changed one. Pictures are sampled once: mosaic, affine and flip are one matrix for each picture that takes part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ._scenes.dice import CHANGES, PARTNERS, Dice
from .clips import Clips, Key, split_key
from .colour import shift_hsv
from .videos import Clip, Target
from .warp import Layer, moved_boxes, render

_TRIES = 15  # draws of a clip for mixup until one has a box
_STRANGERS = 1_000_000  # added to the ids of each further clip, so that nobody is taken for somebody else


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """What may happen to a clip; the defaults are the released recipe's. Shares are of clips."""

    size: tuple[int, int] = (800, 1440)  # height and width of the result
    mosaic: float = 1.0  # share that is put together from four
    rotation: float = 10.0  # degrees to either side
    scale: tuple[float, float] = (0.1, 2.0)
    shear: float = 2.0  # degrees to either side
    shift: float = 0.1  # of the size, to either side
    mixup: float = 1.0  # share that is blended with another clip, half and half
    mixup_scale: tuple[float, float] = (0.8, 1.6)
    hue: int = 5  # of 180, to either side
    saturation: int = 30  # of 255
    brightness: int = 30  # of 255
    flip: float = 0.5  # share that is mirrored
    fill: int = 114  # where no picture is
    smallest_box: float = 1.0  # pixels; boxes that are not wider and higher are dropped

    def __post_init__(self) -> None:
        if min(self.size) < 32:
            raise ValueError(f"size: expected a height and a width of at least 32 pixels, got {self.size}")
        for name in ("mosaic", "mixup", "flip"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a share from 0 to 1, got {getattr(self, name)}")
        for name in ("scale", "mixup_scale"):
            if not 0 < getattr(self, name)[0] <= getattr(self, name)[1]:
                raise ValueError(f"{name}: expected the least and the greatest, above 0, got {getattr(self, name)}")
        if not (0 <= self.rotation <= 180 and 0 <= self.shear <= 60):
            raise ValueError(f"rotation, shear: expected at most 180 and 60 degrees, got {self.rotation}, {self.shear}")

    @classmethod
    def for_size(cls, height: int, width: int) -> AugmentConfig:
        """Return the recipe for pictures of this size; in small ones people must not shrink as far as in large ones.

        At 800 pixels a tenth of a person is still a person. The least scale grows as the picture shrinks, up to a
        half; below 400 pixels the greatest is 1.5.
        """
        least = min(max(0.1 * 800 / height, 0.1), 0.5)
        return cls(size=(height, width), scale=(least, 2.0 if height >= 400 else 1.5))


@dataclass(frozen=True)
class Plan:
    """What happens to one clip: where each clip that takes part goes, and what is done to the colours."""

    layers: tuple[Layer, ...]  # of the mosaic: the clip itself, then three others; or the clip alone
    blended: Layer | None  # the clip that is mixed in
    colours: tuple[int, int, int]  # added to hue, saturation and brightness


def plan(config: AugmentConfig, sizes: Sequence[tuple[int, int]], dice: Dice) -> Plan:
    """Draw what happens to a clip; `sizes` are height and width of itself, three for the mosaic, one for mixup."""
    matrix = _mirror(config.size, dice) if dice.chance(config.flip) else np.eye(3)
    if dice.chance(config.mosaic):
        layers = _mosaic(config, sizes[:4], dice)
    else:
        layers = [Layer(0, fitted(sizes[0], config.size), _whole(sizes[0]))]
    middle = (2 * config.size[0], 2 * config.size[1]) if len(layers) > 1 else config.size
    affine = matrix @ _affine(config, middle, dice)
    blended = _mixup(config, sizes[4], dice) if dice.chance(config.mixup) else None
    if blended:
        blended = Layer(4, matrix @ blended.matrix, blended.rect)
    ranges = (config.hue, config.saturation, config.brightness)
    colours = tuple(round(dice.uniform(-1, 1) * most) if dice.chance(0.5) else 0 for most in ranges)
    return Plan(tuple(Layer(it.source, affine @ it.matrix, it.rect) for it in layers), blended, colours)


def apply(config: AugmentConfig, drawn: Plan, clips: Sequence[Clip | None]) -> Clip:
    """Do what was drawn: clips are itself, three for the mosaic, one for mixup; those not needed may be None."""
    lengths = {len(clip[0]) for clip in clips if clip is not None}
    if len(lengths) != 1:
        raise ValueError(
            f"clips: expected clips of one length, got {sorted(lengths)} frames; set one clip_frames for all"
        )
    pictures = render(drawn.layers, clips, config.size, config.fill)  # float [T, 3, H, W]
    used = list(drawn.layers)
    if drawn.blended:
        pictures += render([drawn.blended], clips, config.size, config.fill)
        pictures *= 0.5
        used.append(drawn.blended)
    frames = pictures.round_().clamp_(0, 255).to(torch.uint8)
    if any(drawn.colours):
        frames = shift_hsv(frames, drawn.colours)
    return frames, [_target(config, used, clips, frame) for frame in range(len(frames))]


def fitted(size: tuple[int, int], room: tuple[int, int]) -> np.ndarray:
    """Return the matrix that makes a picture as large as the room allows, its shape kept, at the upper left."""
    scale = min(room[0] / size[0], room[1] / size[1])
    return np.diag([scale, scale, 1.0])


def _target(config: AugmentConfig, layers: Sequence[Layer], clips: Sequence[Clip | None], frame: int) -> Target:
    """Return the boxes of all clips that take part, moved, without those that nothing is left of."""
    found = []
    for layer in layers:
        clip = clips[layer.source]
        assert clip is not None
        target = clip[1][frame]
        boxes, inside = moved_boxes(target["boxes"], layer, config.size)
        inside &= (boxes[:, 2:] - boxes[:, :2] > config.smallest_box).all(1)
        kept = {name: value[inside] for name, value in target.items()}
        kept["boxes"] = boxes[inside]
        if "ids" in kept:
            kept["ids"] = torch.where(kept["ids"] >= 0, kept["ids"] + layer.source * _STRANGERS, kept["ids"])
        found.append(kept)
    names = set.intersection(*(set(target) for target in found))
    return {name: torch.cat([target[name] for target in found]) for name in found[0] if name in names}


def _whole(size: tuple[int, int]) -> tuple[float, float, float, float]:
    return 0.0, 0.0, float(size[1]), float(size[0])


def _moved(x: float, y: float) -> np.ndarray:
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def _mirror(size: tuple[int, int], dice: Dice) -> np.ndarray:
    return np.array([[-1.0, 0.0, size[1]], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def _mosaic(config: AugmentConfig, sizes: Sequence[tuple[int, int]], dice: Dice) -> list[Layer]:
    """Lay four pictures around a point of a canvas of twice the size; the canvas cuts off what hangs over."""
    height, width = config.size
    x, y = dice.uniform(0.5, 1.5) * width, dice.uniform(0.5, 1.5) * height
    layers = []
    for source, size in enumerate(sizes):
        matrix = fitted(size, config.size)
        scale = matrix[0, 0]
        left = x - (0 if source % 2 else size[1] * scale)
        top = y - (0 if source >= 2 else size[0] * scale)
        rect = (
            max(0.0, -left / scale),
            max(0.0, -top / scale),
            min(float(size[1]), (2 * width - left) / scale),
            min(float(size[0]), (2 * height - top) / scale),
        )
        layers.append(Layer(source, _moved(left, top) @ matrix, rect))
    return layers


def _affine(config: AugmentConfig, canvas: tuple[int, int], dice: Dice) -> np.ndarray:
    """Return a matrix that turns, scales and shears a canvas about its middle, which comes near the result's."""
    angle = np.deg2rad(dice.uniform(-config.rotation, config.rotation))
    scale = dice.uniform(*config.scale)
    slant_x, slant_y = (np.tan(np.deg2rad(dice.uniform(-config.shear, config.shear))) for _ in range(2))
    turn = np.array([[np.cos(angle), -np.sin(angle), 0.0], [np.sin(angle), np.cos(angle), 0.0], [0.0, 0.0, 1.0]])
    shear = np.array([[1.0, slant_x, 0.0], [slant_y, 1.0, 0.0], [0.0, 0.0, 1.0]])
    x, y = ((0.5 + dice.uniform(-config.shift, config.shift)) * side for side in config.size[::-1])
    return _moved(x, y) @ shear @ turn @ np.diag([scale, scale, 1.0]) @ _moved(-canvas[1] / 2, -canvas[0] / 2)


def _mixup(config: AugmentConfig, size: tuple[int, int], dice: Dice) -> Layer:
    """Place a clip to be mixed in: fitted, scaled, perhaps mirrored, and a part of it cut out at random."""
    scale = dice.uniform(*config.mixup_scale)
    height, width = (side * scale for side in config.size)
    matrix = np.diag([scale, scale, 1.0]) @ fitted(size, config.size)
    if dice.chance(0.5):
        matrix = np.array([[-1.0, 0.0, width], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) @ matrix
    left = dice.uniform() * max(width - config.size[1], 0.0)
    top = dice.uniform() * max(height - config.size[0], 0.0)
    return Layer(4, _moved(-left, -top) @ matrix, _whole(size))


class AugmentedClips:
    """A data set of clips that are changed on the way; each epoch changes them in another way."""

    def __init__(self, clips: Clips, config: AugmentConfig, *, seed: int = 0) -> None:
        self.clips, self.config, self.seed = clips, config, seed

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: Key) -> Clip:
        epoch, index = split_key(key, len(self))
        own = self.clips[epoch, index]
        dice = Dice(self.seed, PARTNERS, epoch, index)
        others = [self.clips[epoch, dice.below(len(self))] for _ in range(3)] if self.config.mosaic else [own] * 3
        others.append(self._with_boxes(epoch, dice) if self.config.mixup else own)
        clips = [own, *others]
        sizes = [tuple(frames.shape[2:]) for frames, _ in clips]
        return apply(self.config, plan(self.config, sizes, Dice(self.seed, CHANGES, epoch, index)), clips)

    def _with_boxes(self, epoch: int, dice: Dice) -> Clip:
        """Return another clip, one with a box if there are enough of them."""
        for _ in range(_TRIES):
            clip = self.clips[epoch, dice.below(len(self))]
            if any(len(target["boxes"]) for target in clip[1]):
                break
        return clip
