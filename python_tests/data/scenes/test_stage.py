"""Places: layers wide enough for every move of the camera, ground that lies in perspective."""

from __future__ import annotations

import numpy as np
import pytest

from svm_ext.data._scenes import props
from svm_ext.data._scenes.dice import Dice
from svm_ext.data._scenes.stage import FAR, NEAR, WALL, Geometry, stage


def test_what_is_nearer_stands_lower_and_looks_larger() -> None:
    geometry = Geometry(200, 320, 0.3, 2.4)
    assert geometry.row(WALL) < geometry.row(FAR) < geometry.row(NEAR) < 200
    assert geometry.metre(NEAR) > geometry.metre(FAR)
    assert geometry.column(0.0, 5.0) == 160
    assert geometry.column(geometry.edge(5.0), 5.0) == pytest.approx(320)
    eye_level = geometry.row(5.0) - geometry.eye * geometry.metre(5.0)
    assert eye_level == pytest.approx(0.3 * 200)


@pytest.mark.parametrize("size", [(64, 64), (96, 160), (90, 300)])
@pytest.mark.parametrize("seed", range(6))
def test_every_place_is_drawn_to_the_edge(seed: int, size: tuple[int, int]) -> None:
    place = stage(seed, *size, 4)
    layers, base = place.layers, round(place.geometry.row(WALL))
    wide = size[1] + 2 * layers.margin_x
    assert layers.sky.shape == layers.wall.shape == (4, 3, base + 2 * layers.margin_y, wide)
    assert layers.ground.shape == (4, size[0] - base + 2 * layers.margin_y, 3, wide)
    assert layers.roof[-layers.margin_y :].all()
    assert max(layers.sky.max(), layers.wall.max(), layers.ground.max()) <= 235
    assert layers.ground.std() > 3
    assert len(place.props) == 4
    assert all(NEAR < prop.z < FAR for prop in place.props)


def test_sub_pixel_steps_move_the_layer_to_the_left() -> None:
    layers = stage(1, 96, 160, 3).layers
    sky = layers.sky.astype(int)
    middle = (sky[0][..., :-1] + sky[0][..., 1:]) // 2
    assert np.abs(sky[2][..., :-1] - middle).max() <= 1
    np.testing.assert_array_equal(sky[0][..., 5], layers.sky[0][..., 5])


def test_the_same_seed_is_the_same_place() -> None:
    first = stage(7, 96, 160, 3)
    stage.cache_clear()
    again = stage(7, 96, 160, 3)
    assert first is not again
    np.testing.assert_array_equal(first.layers.ground, again.layers.ground)
    assert [(prop.x, prop.z, prop.half) for prop in first.props] == [(p.x, p.z, p.half) for p in again.props]


@pytest.mark.parametrize("kind", props.KINDS)
@pytest.mark.parametrize("metre", [7.0, 20.0, 75.0])
def test_things_stand_on_the_ground_and_hide(kind: str, metre: float) -> None:
    prop = props.stand(Dice(1), kind, metre, 0.0, 5.0)
    sprite = prop.sprites[0]
    left, top, right, bottom = sprite.bounds
    assert bottom + sprite.top == 0
    assert left + sprite.left < 0 < right + sprite.left
    assert bottom - top > 0.7 * metre
    assert 0.1 < prop.half < 1.5
    assert sprite.area > 0.25 * metre * min(metre * 2 * prop.half, metre)
    assert len(prop.sprites) == 4
