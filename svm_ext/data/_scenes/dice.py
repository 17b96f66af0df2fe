"""Random numbers that are the same on every machine, and the few curves that scenes need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")
Number = TypeVar("Number", float, np.ndarray)

# What a stream of random numbers is for; the first step of its path, so that no two purposes share one.
BACKDROP, CAST, CAMERA, EVENTS, DECOYS, BODIES, CLIPS, NOISE, PARTNERS, CHANGES = range(10)


class Dice:
    """Random numbers of one purpose, named by a seed and a path of numbers."""

    def __init__(self, seed: int, *path: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=path))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return a number in [low, high)."""
        return low + (high - low) * ((int(self._bits.random_raw()) >> 11) * 2.0**-53)

    def below(self, count: int) -> int:
        """Return a whole number in [0, count)."""
        return int(self.uniform() * count)

    def chance(self, share: float) -> bool:
        """Return True in this share of all throws."""
        return self.uniform() < share

    def pick(self, items: Sequence[Item], weights: Sequence[float] | None = None) -> Item:
        """Return one of the items."""
        if weights is None:
            return items[self.below(len(items))]
        left = self.uniform() * sum(weights)
        for item, weight in zip(items, weights, strict=True):
            left -= weight
            if left < 0:
                return item
        return items[-1]

    def uniforms(self, *shape: int) -> np.ndarray:
        """Return an array of numbers in [0, 1)."""
        raw = self._bits.random_raw(int(np.prod(shape)))
        return ((raw >> np.uint64(11)) * 2.0**-53).reshape(shape)

    def octets(self, *shape: int) -> np.ndarray:
        """Return an array of bytes."""
        count = int(np.prod(shape))
        raw = self._bits.random_raw(-(-count // 8)).astype("<u8")
        return raw.view(np.uint8)[:count].reshape(shape)


def sine(turns: Number) -> Number:
    """Return the sine of an angle in turns, to 0.001, from products alone."""
    left = turns - np.floor(turns)
    half = left - (left >= 0.5) * 0.5
    arch = 16.0 * half * (0.5 - half)  # Bhaskara's rational arch over [0, 0.5]
    value = 4.0 * arch / (5.0 - arch)
    return value * (1.0 - 2.0 * (left >= 0.5))


def cosine(turns: Number) -> Number:
    """Return the cosine of an angle in turns."""
    return sine(turns + 0.25)


def smooth(share: Number) -> Number:
    """Return the S-curve from 0 at 0 to 1 at 1."""
    return share * share * (3.0 - 2.0 * share)
