"""What a place is made of: textures in their range, houses on the ground, slabs in perspective."""

from __future__ import annotations

import numpy as np
import pytest

from svm_ext.data._scenes import facade, ground, props, texture
from svm_ext.data._scenes.dice import Dice
from svm_ext.data._scenes.stage import Geometry


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (70, 1), (33, 57)])
@pytest.mark.parametrize("cell", [0.3, 1.0, 8.0, 500.0])
def test_grain_fills_any_size(size: tuple[int, int], cell: float) -> None:
    for make in (texture.grain, texture.rough):
        noise = make(Dice(1), *size, cell)
        assert noise.shape == size
        assert np.abs(noise).max() <= 128


def test_large_cells_make_smooth_noise() -> None:
    fine, coarse = (texture.grain(Dice(1), 64, 64, cell) for cell in (1.0, 20.0))
    assert np.abs(np.diff(coarse, axis=1)).mean() < 0.3 * np.abs(np.diff(fine, axis=1)).mean()
    assert coarse.std() > 20


def test_tints_keep_within_what_sprites_allow() -> None:
    light = np.array([[0, 128, 256, 900]])
    tint = texture.tinted((100, 200, 250), light)
    assert tint[:, 0, 2].tolist() == [100, 200, 235]
    assert tint[:, 0, 1].tolist() == [50, 100, 125]
    assert (tint.min(), tint.max()) == (2, 235)


def test_round_things_are_lit_from_the_left() -> None:
    for width in (2, 3, 17, 80):
        light = texture.round_light(width)
        assert light.shape == (width,)
        assert light[0] > light[-1]
        assert light.max() < 330
    assert int(texture.round_light(60).argmax()) in range(6, 30)


def test_a_disc_touches_the_border() -> None:
    depth = texture.disc(21, 41)
    assert depth[10, 20] == pytest.approx(1.0)
    assert (depth[0, 0], depth[10, 0] < 0.1, depth[0, 20] < 0.1) == (depth[20, 40], True, True)
    alpha = texture.edge(depth, 0.5)
    assert (alpha[10, 20], alpha[0, 0]) == (255, 0)
    assert alpha.dtype == np.uint8


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("metre", [4.0, 16.0, 60.0])
def test_houses_stand_on_the_ground_and_stay_in_the_picture(seed: int, metre: float) -> None:
    colours = facade.theme(Dice(seed))
    height, width, below = round(6 * metre), round(14 * metre), 5
    walls, roof = facade.houses(Dice(seed), height, width, metre, colours, below)
    assert walls.shape == (3, height, width)
    assert roof.shape == (height, width)
    assert roof[-below - 1 :].all()
    assert roof.mean() > 0.4
    assert walls[:, roof].max() <= 235
    top = roof.argmax(axis=0)
    assert all(roof[row:, column].all() for column, row in enumerate(top))  # no house floats


def test_places_look_different() -> None:
    themes = {facade.theme(Dice(seed)).kind for seed in range(40)}
    assert themes == {"slabs", "cobbles", "asphalt"}
    skies = [facade.sky(Dice(seed), 60, 90, facade.THEMES[seed % 5]) for seed in range(4)]
    assert all(sky.shape == (3, 60, 90) and sky.max() <= 235 for sky in skies)
    assert len({sky.tobytes() for sky in skies}) == 4


@pytest.mark.parametrize("colours", facade.THEMES)
def test_ground_is_paved_to_the_horizon(colours: facade.Theme) -> None:
    geometry = Geometry(120, 200, 0.3, 2.4)
    rows = np.arange(30, 130)
    floor = ground.paved(Dice(2), geometry, rows, 260, colours)
    assert floor.shape == (3, 100, 260)
    assert floor.dtype == np.uint8
    assert floor.max() <= 226
    assert floor[:, 60:].std() > 4


def test_slabs_grow_towards_the_eye() -> None:
    """Seams between slabs of 0.9 metres are as far apart as the metre is large."""
    geometry = Geometry(480, 800, 0.3, 2.4)
    plain = np.zeros((1, 800), np.int64)
    gaps = []
    for z in (4.0, 8.0):
        pixel = np.array([[z / 480]])
        x = (np.arange(800) + 0.5 - 400)[None, :] * pixel
        light = ground._slabs(Dice(2), x, np.array([[z + 0.03]]), pixel, plain, (0.9, 0.9))
        steps = np.flatnonzero(np.diff(np.floor(x / 0.9 + 0.5 * (np.floor((z + 0.03) / 0.9) % 2))[0]))
        seams = light[0, steps + 1]
        assert (seams < np.median(light)).mean() > 0.6
        gaps.append(np.diff(steps).mean())
    assert gaps[0] == pytest.approx(2 * gaps[1], rel=0.05)
    assert gaps[0] == pytest.approx(0.9 * geometry.metre(4.0), rel=0.05)


@pytest.mark.parametrize("kind", props.KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_things_are_drawn_in_range(kind: str, seed: int) -> None:
    draw, least, greatest, often = props.KINDS[kind]
    assert 0 < least < greatest
    assert often > 0
    colour, alpha = draw(Dice(seed), 22.0, greatest)
    assert colour.shape == (3, *alpha.shape)
    assert colour.dtype == alpha.dtype == np.uint8
    assert alpha[-1].any()
    assert colour[:, alpha > 0].max() <= 235
