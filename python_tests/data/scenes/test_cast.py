"""People come in from outside, walk at a steady pace, hide where there is something to hide behind, and leave."""

from __future__ import annotations

import math

import pytest

from svm_ext.data._scenes import cast, figures
from svm_ext.data._scenes.cast import Cast, Visit
from svm_ext.data._scenes.stage import FAR, NEAR, stage


@pytest.fixture
def people() -> Cast:
    return Cast(3, stage(3, 96, 160, 5), 6, lambda time: 0.3)


def visits(people: Cast) -> list[tuple[int, Visit]]:
    return [(place, visit) for place in range(6) for lap in range(4) for visit in people._plan(place, lap)]


def test_steps_join_without_a_gap(people: Cast) -> None:
    for _, visit in visits(people):
        for before, after in zip(visit.steps[:-1], visit.steps[1:], strict=True):
            assert after.start == before.start + before.frames
            assert after.origin == pytest.approx([a + b for a, b in zip(before.origin, before.way, strict=True)])
            assert after.walked == pytest.approx(before.walked + math.hypot(*before.way))


def test_everybody_enters_and_leaves_out_of_sight(people: Cast) -> None:
    geometry = people._stage.geometry
    for _, visit in visits(people):
        last = visit.steps[-1]
        end = [a + b for a, b in zip(last.origin, last.way, strict=True)]
        for x, z in (visit.steps[0].origin, end):
            assert abs(x) > geometry.edge(z) + 0.5
            assert NEAR <= z <= FAR


def test_nobody_jumps(people: Cast) -> None:
    for _, visit in visits(people):
        poses = [visit.at(time) for time in range(visit.steps[0].start, visit.end)]
        assert all(poses)
        for before, after in zip(poses[:-1], poses[1:], strict=True):
            assert math.hypot(after.x - before.x, after.z - before.z) < 5.2 / cast.FPS
    assert visit.at(visit.end) is None


def test_one_place_holds_one_walker_at_a_time(people: Cast) -> None:
    for frame in range(0, 3000, 7):
        found = people.at(frame)
        assert len(found) <= 6
        assert len({pose.id for pose in found}) == len(found)


def test_ids_are_unique_and_those_who_return_are_the_same_person(people: Cast) -> None:
    found = [visit for _, visit in visits(people)]
    assert len({visit.id for visit in found}) == len(found)
    assert min(visit.id for visit in found) >= 1
    returned = [visit for visit in found if visit.id != visit.person]
    assert returned
    first = {visit.id: visit for visit in found}
    for visit in returned:
        assert visit.look == first[visit.person].look
        assert visit.steps[0].start > first[visit.person].end


def test_people_wait_behind_things() -> None:
    """Seen from where the camera is just then, a part of the person is in front of nothing."""
    camera = 0.4
    place = stage(8, 96, 160, 5)
    people = Cast(8, place, 6, lambda time: camera)
    hidden = 0
    for _, visit in visits(people):
        for step in visit.steps:
            for prop in place.props:
                x, z = step.origin
                aside = abs((x - camera) - (prop.x - camera) * z / prop.z)
                behind = 1.1 * prop.z <= z <= 1.61 * prop.z
                hidden += not step.speed and behind and aside <= prop.half * z / prop.z + 0.2
    assert hidden >= 5


@pytest.mark.parametrize("frames", [4, 9, 60])
def test_ease_goes_from_nothing_to_all_and_its_pace_is_its_slope(frames: int) -> None:
    times = [frames * step / 400 for step in range(401)]
    shares = [cast._ease(time, frames)[0] for time in times]
    assert shares[0] == 0.0
    assert shares[-1] == pytest.approx(1.0)
    assert shares == sorted(shares)
    for time in times[1:-1]:
        slope = (cast._ease(time + 1e-5, frames)[0] - cast._ease(time - 1e-5, frames)[0]) / 2e-5
        assert cast._ease(time, frames)[1] == pytest.approx(slope, abs=1e-4)


def test_facing_follows_the_way() -> None:
    for eighth in range(8):
        for lean in (-0.05, 0.0, 0.05):
            angle = (eighth / 8 + lean) * 2 * math.pi
            assert cast.facing(math.cos(angle), math.sin(angle)) == eighth


def test_a_very_wide_picture_is_crossed_too() -> None:
    people = Cast(1, stage(1, 64, 512, 3), 6, lambda time: 0.0)
    assert sum(len(people.at(frame)) for frame in range(0, 2000, 50)) > 40


def test_statues_look_like_people_and_are_nobody() -> None:
    found = cast.statues(4, stage(4, 96, 160, 5), 5)
    assert len(found) == 5
    assert {(pose.person, pose.id, pose.across) for pose in found} == {(0, 0, 0.0)}
    assert sum(pose.pose < figures.STRIDE for pose in found) >= 2
    assert cast.statues(4, stage(4, 96, 160, 5), 0) == []


def test_no_things_no_people() -> None:
    people = Cast(0, stage(0, 96, 160, 0), 0, lambda time: 0.0)
    assert people.at(100) == []
    assert Cast(0, stage(0, 96, 160, 0), 3, lambda time: 0.0).at(400)
