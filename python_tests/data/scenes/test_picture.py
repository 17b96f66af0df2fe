"""A frame: what is near covers what is far and moves further, and everybody is where the truth says."""

from __future__ import annotations

import numpy as np
import pytest

from svm_ext.data._scenes import figures, picture
from svm_ext.data._scenes.camera import Shot
from svm_ext.data._scenes.cast import Pose
from svm_ext.data._scenes.dice import Dice
from svm_ext.data._scenes.stage import FAR, NEAR, Stage, stage

LOOK = figures.look(Dice(1), ((90, 90, 90),))
STILL = Shot(0.0, (0.0, 0.0), (0.0, 0.0), 0, (1.0, 1.0, 1.0), 0, 0)


@pytest.fixture
def empty() -> Stage:
    return stage(3, 96, 160, 0)


def person(x: float, z: float, number: int = 1, *, across: float = 0.0) -> Pose:
    return Pose(LOOK, x, z, 0, 3, across, number, number)


def seen(place: Stage, *poses: Pose, shot: Shot = STILL, blur: float = 1.0) -> dict[int, picture.Seen]:
    return {one.id: one for one in picture.draw(place, shot, list(poses), blur).people}


def test_the_nearer_covers_the_farther_in_any_order(empty: Stage) -> None:
    near, far = person(0.0, 4.0, 1), person(0.2, 6.0, 2)
    for order in ((near, far), (far, near)):
        found = seen(empty, *order)
        assert found[1].visibility == 1.0
        assert 0.0 < found[2].visibility < 0.9


def test_a_statue_covers_and_is_not_told(empty: Stage) -> None:
    found = seen(empty, person(0.0, 6.0), person(0.0, 4.0)._replace(person=0, id=0))
    assert set(found) == {1}
    assert found[1].visibility < 0.8


def test_things_cover_people_behind_them_only() -> None:
    place = stage(6, 96, 160, 4)
    prop = min(place.props, key=lambda prop: abs(prop.x))
    behind, before = (seen(place, person(prop.x * z / prop.z, z))[1].visibility for z in (prop.z * 1.15, prop.z * 0.97))
    assert behind < 0.7
    assert before > behind + 0.25


def test_those_at_the_border_are_seen_in_part_and_those_beyond_not_at_all(empty: Stage) -> None:
    edge = empty.geometry.edge(5.0)
    found = seen(empty, person(-edge, 5.0, 1), person(edge, 5.0, 2), person(edge + 1.2, 5.0, 3), person(-9, 5.0, 4))
    assert set(found) == {1, 2}
    for one in found.values():
        assert 0.2 < one.visibility < 0.8
    assert found[1].box[0] < 0
    assert found[2].box[2] > 160


@pytest.mark.parametrize("z", [NEAR, 5.0, 7.0, FAR])
def test_people_are_as_tall_as_their_distance_makes_them(z: float, empty: Stage) -> None:
    x1, y1, x2, y2 = seen(empty, person(0.0, z))[1].box
    tall = LOOK.height * 96 / z
    assert y2 - y1 == pytest.approx(tall, abs=0.1 * tall)
    assert y2 == pytest.approx(empty.geometry.row(z), abs=2)
    assert (x1 + x2) / 2 == pytest.approx(80, abs=0.2 * tall)


def test_what_is_near_moves_further_than_what_is_far(empty: Stage) -> None:
    """The camera steps to the right: everything moves to the left, by what a metre is there."""
    moved = STILL._replace(x=0.4)
    for z in (4.0, 8.0):
        before, after = (seen(empty, person(0.0, z), shot=shot)[1].box[0] for shot in (STILL, moved))
        assert before - after == pytest.approx(0.4 * 96 / z, abs=1.0)


@pytest.mark.parametrize("pan", [(7.0, 0.0), (-7.0, 0.0), (0.0, 4.0), (0.0, -4.0), (3.0, -2.0)])
def test_a_turn_moves_the_whole_picture_alike(pan: tuple[float, float], empty: Stage) -> None:
    boxes, pixels = [], []
    for shot in (STILL, STILL._replace(pan=pan)):
        drawn = picture.draw(empty, shot, [person(0.0, 5.0)], 0.0)
        boxes.append(np.array(drawn.people[0].box))
        pixels.append(drawn.pixels.astype(int))
    dx, dy = int(pan[0]), int(pan[1])
    np.testing.assert_array_equal(boxes[1] - boxes[0], [dx, dy, dx, dy])
    before = pixels[0][:, 20:70, 20:140]
    after = pixels[1][:, 20 + dy : 70 + dy, 20 + dx : 140 + dx]
    assert np.abs(before - after).max() <= 12  # the lens is darker towards the corners


def test_parts_of_a_pixel_count(empty: Stage) -> None:
    """A slow walker does not jump from pixel to pixel: every quarter is another picture."""
    metre = 96 / 5.0
    quarters = [picture.draw(empty, STILL, [person(step / 4 / metre, 5.0)], 0.0).pixels for step in range(5)]
    assert len({pixels.tobytes() for pixels in quarters[:4]}) == 4
    walkers = [np.abs(pixels.astype(int) - picture.draw(empty, STILL, [], 0.0).pixels) for pixels in quarters]
    middles = [float((it.sum((0, 1)) * np.arange(160)).sum() / it.sum()) for it in walkers]
    np.testing.assert_allclose(np.diff(middles), 0.25, atol=0.12)


def test_who_runs_is_smeared_and_who_walks_is_not(empty: Stage) -> None:
    walks, runs = person(0.0, 4.0, across=1.5 / 25), person(0.0, 4.0, across=4.2 / 25)
    still = picture.draw(empty, STILL, [person(0.0, 4.0)], 1.0)
    np.testing.assert_array_equal(picture.draw(empty, STILL, [walks], 1.0).pixels, still.pixels)
    running = picture.draw(empty, STILL, [runs], 1.0)
    assert (running.pixels != still.pixels).any()
    assert running.people[0].box == still.people[0].box  # the truth is of the middle of the exposure
    np.testing.assert_array_equal(picture.draw(empty, STILL, [runs], 0.0).pixels, still.pixels)


def test_blurred_says_that_a_picture_is_washed_out(empty: Stage) -> None:
    one = person(0.0, 7.0)
    assert not seen(empty, one)[1].blurred
    assert seen(empty, one, shot=STILL._replace(defocus=3))[1].blurred
    assert seen(empty, one, shot=STILL._replace(streak=(9.0, 0.0)))[1].blurred
    assert not seen(empty, one, shot=STILL._replace(streak=(0.5, 0.0)))[1].blurred


@pytest.mark.parametrize("tall", [5, 23, 47, 48, 49, 96, 150, 300])
@pytest.mark.parametrize("quarters", [0, 3])
def test_figures_come_in_every_size(tall: int, quarters: int) -> None:
    sprite = picture.figure(LOOK, 4, 5, tall, quarters)
    left, top, right, bottom = sprite.bounds
    assert bottom - top == pytest.approx(tall, abs=0.1 * tall + 1)
    assert bottom + sprite.top == pytest.approx(0, abs=0.03 * tall + 1)
    assert sprite.colour.max() <= 235
    assert sprite.cover.max() <= 255
    assert right > left


def test_a_picture_does_not_depend_on_those_before_it(empty: Stage) -> None:
    first = picture.draw(empty, STILL, [person(0.0, 5.0)], 1.0).pixels.copy()
    picture.draw(empty, STILL._replace(x=0.3, pan=(4.0, 2.0), defocus=2), [person(1.0, 4.0)], 1.0)
    np.testing.assert_array_equal(picture.draw(empty, STILL, [person(0.0, 5.0)], 1.0).pixels, first)
