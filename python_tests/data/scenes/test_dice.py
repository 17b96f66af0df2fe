"""Random numbers that are the same everywhere, and curves made of products."""

from __future__ import annotations

import numpy as np
import pytest

from svm_ext.data._scenes import dice
from svm_ext.data._scenes.dice import Dice


def test_the_same_path_gives_the_same_numbers_and_another_path_others() -> None:
    first, again, other = Dice(3, 1, 7), Dice(3, 1, 7), Dice(3, 1, 8)
    numbers = [first.uniform() for _ in range(20)]
    assert numbers == [again.uniform() for _ in range(20)]
    assert numbers != [other.uniform() for _ in range(20)]


def test_numbers_are_what_the_generators_raw_bits_say() -> None:
    """Only raw bits are kept for ever by NumPy; its distributions may change from version to version."""
    raw = np.random.PCG64(np.random.SeedSequence(5, spawn_key=(2,))).random_raw(3)
    assert [Dice(5, 2).uniform()] == [(int(raw[0]) >> 11) * 2.0**-53]
    np.testing.assert_array_equal(Dice(5, 2).uniforms(3), [(int(bits) >> 11) / 2.0**53 for bits in raw])
    assert Dice(5, 2).octets(8).tobytes() == int(raw[0]).to_bytes(8, "little")


def test_numbers_keep_to_their_range() -> None:
    thrower = Dice(0)
    assert all(-2.0 <= thrower.uniform(-2.0, 3.0) < 3.0 for _ in range(500))
    assert {thrower.below(4) for _ in range(200)} == {0, 1, 2, 3}
    assert thrower.octets(3, 5).shape == (3, 5)
    assert thrower.uniforms(2, 3).shape == (2, 3)


def test_weights_are_kept() -> None:
    thrower = Dice(1)
    picked = [thrower.pick("abc", (8, 0, 2)) for _ in range(2000)]
    assert picked.count("b") == 0
    assert picked.count("a") / 2000 == pytest.approx(0.8, abs=0.04)
    assert {thrower.pick((1, 2)) for _ in range(50)} == {1, 2}
    assert sum(thrower.chance(0.25) for _ in range(2000)) / 2000 == pytest.approx(0.25, abs=0.04)


def test_sine_and_cosine_are_close_to_the_true_ones() -> None:
    turns = np.linspace(-3.0, 3.0, 2001)
    np.testing.assert_allclose(dice.sine(turns), np.sin(2 * np.pi * turns), atol=0.002)
    np.testing.assert_allclose(dice.cosine(turns), np.cos(2 * np.pi * turns), atol=0.002)
    assert [float(dice.sine(quarter / 4)) for quarter in range(4)] == [0.0, 1.0, 0.0, -1.0]


def test_smooth_leads_from_nothing_to_all() -> None:
    steps = dice.smooth(np.linspace(0.0, 1.0, 50))
    assert (steps[0], steps[-1]) == (0.0, 1.0)
    assert (np.diff(steps) > 0).all()
