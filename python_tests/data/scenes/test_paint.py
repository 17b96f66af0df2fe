"""The brush: what lies on what, to the pixel, and nothing beyond the border."""

from __future__ import annotations

import numpy as np
import pytest

from svm_ext.data._scenes import paint
from svm_ext.data._scenes.dice import Dice
from svm_ext.data._scenes.paint import Sprite


def blob(height: int, width: int, seed: int = 0) -> Sprite:
    """A sprite of random colours and covers."""
    dice = Dice(seed)
    return Sprite.cut(dice.octets(3, height, width), dice.octets(height, width), -(width // 2), -height)


def canvas(height: int = 40, width: int = 50) -> np.ndarray:
    return Dice(9).octets(3, height, width).clip(0, paint.BRIGHTEST)


def test_paint_mixes_by_cover() -> None:
    pixels, sprite = canvas(), blob(12, 9)
    before = pixels.astype(float)
    sprite.paint(pixels, 20, 30)
    area = (slice(None), slice(18, 30), slice(16, 25))
    alpha = sprite.cover / 255.0
    expected = sprite.colour + before[area] * (1 - alpha)
    assert np.abs(pixels[area] - expected).max() <= 2.0
    before[area] = pixels[area]
    np.testing.assert_array_equal(pixels, before)


def test_nothing_shines_through_what_covers_all() -> None:
    pixels = np.full((3, 6, 6), paint.BRIGHTEST, np.uint8)
    Sprite.cut(np.full((3, 4, 4), 77, np.uint8), np.full((4, 4), 255, np.uint8), 0, 0).paint(pixels, 1, 1)
    assert (pixels[:, 1:5, 1:5] == 77).all()
    Sprite.cut(np.full((3, 4, 4), 5, np.uint8), np.zeros((4, 4), np.uint8), 0, 0).paint(pixels, 1, 1)
    assert (pixels[:, 1:5, 1:5] == 77).all()


@pytest.mark.parametrize("x", [-30, -3, 0, 25, 48, 53, 90])
@pytest.mark.parametrize("y", [-5, 0, 3, 20, 41, 49, 80])
def test_sprites_may_hang_over_every_border(x: int, y: int) -> None:
    """The same as painting in the middle of a larger canvas and cutting the picture out."""
    sprite = blob(12, 9)
    small, large = canvas(), np.zeros((3, 240, 250), np.uint8)
    large[:, 100:140, 100:150] = small
    owners, large_owners = np.zeros((40, 50), np.uint8), np.zeros((240, 250), np.uint8)
    sprite.paint(small, x, y)
    sprite.paint(large, x + 100, y + 100)
    sprite.claim(owners, x, y, 3)
    sprite.claim(large_owners, x + 100, y + 100, 3)
    np.testing.assert_array_equal(small, large[:, 100:140, 100:150])
    np.testing.assert_array_equal(owners, large_owners[100:140, 100:150])
    assert sprite.seen(owners, x, y, 3) == (owners == 3).sum()


def test_the_last_claim_counts() -> None:
    owners = np.zeros((40, 50), np.uint8)
    below, above = blob(12, 9, 1), blob(12, 9, 2)
    below.claim(owners, 20, 30, 1)
    assert below.seen(owners, 20, 30, 1) == below.area
    above.claim(owners, 22, 28, 2)
    assert above.seen(owners, 22, 28, 2) == above.area
    assert 0 < below.seen(owners, 20, 30, 1) < below.area


def test_bounds_touch_what_is_there() -> None:
    alpha = np.zeros((9, 11), np.uint8)
    alpha[2:5, 3:10] = 200
    alpha[8, 0] = 100  # too thin to count
    sprite = Sprite.cut(np.zeros((3, 9, 11), np.uint8), alpha, 0, 0)
    assert sprite.bounds == (3, 2, 10, 5)
    assert sprite.area == 21
    assert Sprite.cut(np.zeros((3, 2, 2), np.uint8), np.zeros((2, 2), np.uint8), 0, 0).bounds == (0, 0, 0, 0)


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_a_nudge_moves_the_middle(quarters: int) -> None:
    sprite = blob(12, 9)
    moved = paint.nudge(sprite, quarters)

    def middle(of: Sprite) -> float:
        return float((of.cover * (np.arange(of.cover.shape[1]) + of.left)).sum() / of.cover.sum())

    assert middle(moved) - middle(sprite) == pytest.approx(quarters / 4, abs=0.03)


@pytest.mark.parametrize("size", [(2, 2), (5, 9), (20, 31), (40, 60)])
def test_stretching_keeps_plain_planes_plain_and_stays_in_range(size: tuple[int, int]) -> None:
    plain = np.full((2, 20, 30), 200, np.uint16)
    assert set(np.unique(paint.stretch(plain, *size))) <= {199, 200}
    full = np.full((1, 20, 30), 255, np.uint16)
    assert paint.stretch(full, *size).max() <= 255


def test_stretching_to_the_same_size_changes_nothing() -> None:
    planes = Dice(4).octets(2, 20, 30).astype(np.uint16)
    same = paint.stretch(planes, 20, 30)
    np.testing.assert_array_equal(same[:, :-1, :-1], planes[:, :-1, :-1])
    assert np.abs(same.astype(int) - planes).max() <= 3  # the last row and column take a hair from the one before


def test_resizing_keeps_the_point_where_it_stands() -> None:
    body = np.zeros((40, 24), np.uint8)
    body[:, 6:18] = 255
    sprite = Sprite.cut(np.full((3, 40, 24), 90, np.uint8), body, -12, -40)
    small = paint.resize(sprite, 0.5)
    left, top, right, bottom = small.bounds
    assert (left + small.left, right + small.left) == (-3, 3)
    assert (top + small.top, bottom + small.top) == (-20, 0)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 6, 7])
def test_a_smear_spreads_to_both_sides_and_keeps_the_weight(length: int) -> None:
    alpha = np.zeros((5, 12), np.uint8)
    alpha[:, 4:8] = 255
    sprite = Sprite.cut(np.full((3, 5, 12), 100, np.uint8), alpha, 0, 0)
    seen = paint.smear(sprite, length)
    columns = np.flatnonzero(seen.cover.any(axis=0)) + seen.left
    assert len(columns) == 4 + max(length, 1) - 1
    assert abs((columns[0] + columns[-1]) / 2 - 5.5) <= 0.5
    assert seen.cover.sum() == pytest.approx(sprite.cover.sum(), rel=0.03)


def test_blur_keeps_plain_pictures_and_the_mean_of_others() -> None:
    plain, busy = np.full((3, 20, 30), 130, np.uint8), canvas()
    for blurred in (lambda p: paint.streak(p, 5.0, -2.0), lambda p: paint.defocus(p, 2)):
        np.testing.assert_array_equal(blurred(plain), plain)
        assert blurred(busy).mean() == pytest.approx(busy.mean(), rel=0.03)
        assert (
            np.abs(np.diff(blurred(busy).astype(int), axis=2)).mean() < np.abs(np.diff(busy.astype(int), axis=2)).mean()
        )


def test_a_streak_lies_along_the_motion() -> None:
    dot = np.zeros((3, 21, 21), np.uint8)
    dot[:, 10, 10] = 200
    across = paint.streak(dot, 6.0, 0.0)[0]
    assert set(np.flatnonzero(across.any(axis=1))) == {10}
    assert len(np.flatnonzero(across.any(axis=0))) >= 5
    down = paint.streak(dot, 0.0, 6.0)[0]
    np.testing.assert_array_equal(down, across.T)
