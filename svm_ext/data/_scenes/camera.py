"""The camera: where it is, how it shakes, when it loses focus, how much light there is."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .dice import CAMERA, EVENTS, NOISE, Dice, sine, smooth
from .stage import SWAY, TURN

_WINDOW = 160  # frames; at most one event of each kind falls into a window
_SHUTTER = 0.5  # share of a frame's time that the shutter is open
_LOUDEST = 16  # no noise moves a pixel further


class Happening(NamedTuple):
    """Something that comes and goes: from a frame on, for so many frames, so strong."""

    start: int
    frames: int
    strength: float

    def at(self, time: float) -> float:
        """Return the share of it that has passed, or -1 where it is not happening."""
        share = (time - self.start) / self.frames
        return share if 0.0 <= share < 1.0 else -1.0


class Shot(NamedTuple):
    """How one frame is taken."""

    x: float  # metres to the right of the middle
    pan: tuple[float, float]  # pixels by which the picture is moved right and down
    streak: tuple[float, float]  # pixels that it moves while the shutter is open
    defocus: int  # radius in pixels
    gain: tuple[float, float, float]  # light on red, green and blue
    noise: int  # greatest step, up to 16
    noise_offset: int


class Camera:
    """Takes a frame at any time; every frame is a function of seed and frame number."""

    def __init__(self, seed: int, height: int, *, shake: float, blur: float, shade: float, noise: float) -> None:
        dice = Dice(seed, CAMERA)
        self._seed, self._height = seed, height
        self._shake, self._blur, self._shade, self._noise = shake, blur, shade, noise
        self._periods = dice.uniform(420, 700), dice.uniform(240, 380), dice.uniform(380, 900)
        self._starts = dice.uniform(), dice.uniform(), dice.uniform()
        self._trembling = 2.0 * dice.uniforms(2, 509) - 1.0, 2.0 * dice.uniforms(2, 211) - 1.0
        self._offsets = dice.octets(1021, 2)
        self._happenings = lru_cache(maxsize=8)(self._draw_happenings)

    def x(self, time: float) -> float:
        """Return how far to the right of the middle it is, in metres."""
        return SWAY * float(sine(time / self._periods[0] + self._starts[0]))

    def shot(self, frame: int) -> Shot:
        """Return how a frame is taken."""
        before, after = self._pan(frame - 0.5), self._pan(frame + 0.5)
        way = _SHUTTER * min(self._blur, 2.0)
        hunting = self._happening(frame, 1)
        dim = 1.0 - 0.6 * min(self._shade, 1.5) * self._happening(frame, 2)
        light = dim * (1.0 + 0.07 * self._shade * float(sine(frame / self._periods[2] + self._starts[2])))
        high, low = (int(byte) for byte in self._offsets[frame % 1021])
        return Shot(
            self.x(frame),
            self._pan(frame),
            ((after[0] - before[0]) * way, (after[1] - before[1]) * way),
            round(hunting * self._blur * self._height / 56.0),
            (light * (0.97 + 0.03 * dim), light, light * (1.06 - 0.06 * dim)),
            min(round(self._noise * (6.0 + 12.0 * (1.0 - dim))), _LOUDEST),
            256 * high + low,
        )

    def _pan(self, time: float) -> tuple[float, float]:
        """Return by how many pixels the picture is moved, right and down."""
        slow = TURN * float(sine(time / self._periods[1] + self._starts[1]))
        x, y = self._tremble(time, 0), self._tremble(time, 1)
        jolt = self._jolt(time)
        return (slow + x + 0.6 * jolt) * self._height, (y + jolt) * self._height

    def _tremble(self, time: float, axis: int) -> float:
        """Return the unrest of a hand: two tables of knots, 4 and 9 frames apart, in picture heights."""
        total = 0.0
        for table, apart, size in zip(self._trembling, (4.0, 9.0), (0.0025, 0.005), strict=True):
            knots, at = table[axis], time / apart
            first = int(np.floor(at))
            here, there = float(knots[first % len(knots)]), float(knots[(first + 1) % len(knots)])
            total += size * (here + (there - here) * smooth(at - first))
        return total * self._shake

    def _jolt(self, time: float) -> float:
        """Return how far somebody has pushed the camera down, in picture heights."""
        for push in self._near(time, 0):
            share = push.at(time)
            if share >= 0:
                return 0.045 * self._shake * push.strength * (1.0 - share) * float(sine(share * push.frames / 6.0))
        return 0.0

    def _happening(self, time: float, kind: int) -> float:
        """Return how strong a slow happening is: it rises, stays and falls."""
        for event in self._near(time, kind):
            share = event.at(time)
            if share >= 0:
                return event.strength * float(smooth(min(1.0, 4.0 * min(share, 1.0 - share))))
        return 0.0

    def _near(self, time: float, kind: int) -> tuple[Happening, ...]:
        return self._happenings(max(int(time // _WINDOW), 0))[kind]

    def _draw_happenings(self, window: int) -> tuple[tuple[Happening, ...], ...]:
        """Return the pushes, the losses of focus and the shadows of a window."""
        dice = Dice(self._seed, EVENTS, window)
        kinds = ((0.8, 12, 20), (0.75, 20, 44), (0.3, 30, 60))  # how often, least and greatest length
        drawn = []
        for share, least, greatest in kinds:
            frames = least + dice.below(greatest - least)
            start = window * _WINDOW + dice.below(_WINDOW - frames)
            event = Happening(start, frames, dice.uniform(0.55, 1.0))
            drawn.append((event,) if dice.chance(share) else ())
        return tuple(drawn)


@lru_cache(maxsize=8)
def noise(length: int, loudest: int) -> np.ndarray:
    """Return steps of at most `loudest`, uint8 that wraps; small ones are frequent."""
    four = Dice(loudest, NOISE).octets(4, length).astype(np.int32)
    total = four[0] + four[1] + four[2] + four[3] - 510
    return ((total * loudest) // 510).astype(np.uint8)


def develop(pixels: np.ndarray, shot: Shot, vignette: np.ndarray) -> np.ndarray:
    """Return pixels uint8 [3, H, W] in the light of the moment, with the noise of the sensor.

    `vignette` uint16 [H, W] is the light that reaches each pixel, of 256.
    """
    out = np.empty_like(pixels)
    for channel, gain in enumerate(shot.gain):
        light = (vignette * np.uint16(min(gain * 225.0, 255.0))) >> 8  # no product needs more than 16 bits
        lit = (pixels[channel] * light) >> 8
        lit += _LOUDEST
        np.minimum(lit, 255 - _LOUDEST, out=lit)
        np.copyto(out[channel], lit, casting="unsafe")
    if shot.noise:
        grains = noise(pixels.size + (1 << 16), shot.noise)
        out += grains[shot.noise_offset : shot.noise_offset + pixels.size].reshape(pixels.shape)
    return out
