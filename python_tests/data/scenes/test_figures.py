"""People have a head on top and feet on the ground, from every side and in every pose."""

from __future__ import annotations

import numpy as np
import pytest

from svm_ext.data._scenes import figures
from svm_ext.data._scenes.dice import Dice


@pytest.mark.parametrize("view", range(figures.VIEWS))
@pytest.mark.parametrize("pose", [0, 3, 7, 14, 24, 26])
def test_figures_stand_on_their_feet(view: int, pose: int) -> None:
    look = figures.look(Dice(view, pose), ((90, 90, 90),))
    sprite = look.sprite(view, pose, 96)
    left, top, right, bottom = sprite.bounds
    assert abs(bottom + sprite.top) <= 3
    assert 84 <= bottom - top <= 104
    assert 12 <= right - left <= 68
    assert left + sprite.left < 0 < right + sprite.left
    assert not sprite.cover[:, :2].any()
    assert not sprite.cover[:, -2:].any()  # room to be moved by parts of a pixel


@pytest.mark.parametrize("number", range(figures.BODY_COUNT))
def test_bodies_are_in_one_piece(number: int) -> None:
    code, alpha, *_ = figures._drawn(number, 0, 3, 96)
    assert (alpha >= 128).any(axis=1)[2:-2].all()
    parts = set(np.unique(code[alpha >= 128] >> 4))
    assert {figures.SKIN, figures.TOP, figures.SHOES} <= parts
    assert parts <= set(range(8))


def test_legs_move_through_the_cycle_and_repeat() -> None:
    shapes = [figures._drawn(1, 0, pose, 96)[1] for pose in range(figures.STRIDE)]
    assert len({shape.tobytes() for shape in shapes}) >= figures.STRIDE // 2  # left and right leg look alike
    widths = [shape.shape[1] for shape in shapes]
    assert max(widths) > 1.3 * min(widths)


def test_the_same_throw_gives_the_same_person() -> None:
    drab = ((90, 90, 90), (100, 80, 70))
    assert figures.look(Dice(1, 2), drab) == figures.look(Dice(1, 2), drab)
    looks = [figures.look(Dice(number), drab) for number in range(60)]
    assert len(set(looks)) == 60
    assert 5 <= sum(look.colours[figures.TOP] in drab for look in looks) <= 18
    assert 1.05 <= min(look.height for look in looks) < 1.4 < 1.8 < max(look.height for look in looks) <= 1.92


def test_colours_leave_room_for_rounding() -> None:
    bright = figures._tones(((255, 255, 255),) * 8)
    assert bright.max() <= 235
    assert bright.shape == (3, 128)
