"""Drawing: everything is where it belongs, inside the picture, in colours that stay, and fast."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch

from svm_ext.stream.draw import (
    Annotator,
    Filmstrip,
    Style,
    _tab,
    colour_of,
    draw_box,
    draw_line_of_text,
    draw_tabs,
    draw_trail,
    place_of_tab,
)
from svm_ext.stream.results import FrameResult, Timing
from svm_ext.tracking import Tracks

GREY = 60


def result(
    boxes: Any,
    ids: list[int] | None = None,
    size: tuple[int, int] = (320, 240),
    index: int = 0,
    predicted: list[bool] | None = None,
    remembered: int = 1,
) -> FrameResult:
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    count = len(boxes)
    tracks = Tracks(
        torch.tensor(ids or list(range(1, count + 1)), dtype=torch.int64),
        boxes,
        torch.full((count,), 0.87),
        torch.zeros(count, dtype=torch.int64),
        torch.tensor(predicted or [False] * count),
    )
    image = np.full((size[1], size[0], 3), GREY, dtype=np.uint8)
    return FrameResult("a", index, index / 25, tracks, None, Timing(1, 1, 1), remembered, image)


def changed(canvas: np.ndarray) -> np.ndarray:
    return (canvas != GREY).any(-1)


# Colours


def test_an_id_has_its_colour_for_ever() -> None:
    before = [colour_of(number) for number in range(50)]
    colour_of.cache_clear()
    assert [colour_of(number) for number in range(50)] == before
    assert all(0 <= value <= 255 for colour in before for value in colour)


def test_neighbours_look_different() -> None:
    for number in range(1, 300):
        here = np.array(colour_of(number))
        for other in range(number + 1, number + 8):
            assert np.abs(here - colour_of(other)).sum() > 30, (number, other)


def test_no_colour_is_pale_or_dark() -> None:
    for number in range(1000):
        colour = colour_of(number)
        assert max(colour) - min(colour) > 60
        assert 100 < max(colour) <= 255
        assert 90 < np.dot(colour, (0.299, 0.587, 0.114)) < 235


def test_large_ids() -> None:
    assert colour_of(10**12) != colour_of(10**12 + 1)


# Boxes


def test_a_box_is_an_outline() -> None:
    canvas = np.full((100, 100, 3), GREY, dtype=np.uint8)
    draw_box(canvas, np.array([20, 30, 60, 80.0]), (255, 0, 0), 2)
    marked = changed(canvas)
    rows, columns = np.nonzero(marked)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (29, 81, 19, 61)
    assert not marked[35:75, 25:55].any()
    assert (canvas[marked] == (255, 0, 0)).all()
    assert marked[29:31, 19:62].all()


def test_a_dashed_box_has_gaps() -> None:
    solid, dashed = (np.full((100, 100, 3), GREY, dtype=np.uint8) for _ in range(2))
    draw_box(solid, np.array([20, 30, 60, 80.0]), (255, 0, 0), 2)
    draw_box(dashed, np.array([20, 30, 60, 80.0]), (255, 0, 0), 2, dashed=True)
    assert 0.3 < changed(dashed).sum() / changed(solid).sum() < 0.8
    assert not (changed(dashed) & ~changed(solid)).any()


@pytest.mark.parametrize(
    "box",
    [
        [-50, -50, 400, 400],
        [-10, 5, 5, 20],
        [95, 95, 300, 300],
        [0, 0, 0, 0],
        [99, 99, 99, 99],
        [50, 50, 50, 50],
        [10, 10, 9, 9],
        [200, 10, 300, 40],
        [-30, -30, -10, -10],
        [float("nan"), 1, 2, 3],
        [float("-inf"), 0, float("inf"), 5],
        [1e12, 1e12, 2e12, 2e12],
        [-1e30, -1e30, 1e30, 1e30],
    ],
)
def test_boxes_beyond_the_picture_do_no_harm(box: list[float]) -> None:
    canvas = np.full((100, 100, 3), GREY, dtype=np.uint8)
    for line in (1, 2, 5):
        for dashed in (False, True):
            draw_box(canvas, np.array(box), (255, 0, 0), line, dashed=dashed)
    assert Annotator().draw(result([box])).shape == (240, 320, 3)


def test_nothing_is_drawn_for_a_box_outside() -> None:
    canvas = np.full((100, 100, 3), GREY, dtype=np.uint8)
    for box in ([200, 10, 300, 40], [-30, -30, -10, -10], [np.nan, 1, 2, 3]):
        draw_box(canvas, np.array(box), (255, 0, 0), 2)
        assert place_of_tab(canvas, np.array(box), _tab("7", "", (200, 0, 0), 12, 3), 2) is None
    assert not changed(canvas).any()


# Text


def test_a_tab_stands_on_its_box_and_inside_at_the_edge() -> None:
    tab, canvas = _tab("12", "0.87", (0, 200, 0), 14, 4), np.zeros((100, 100, 3), dtype=np.uint8)
    assert place_of_tab(canvas, np.array([20, 50, 60, 90]), tab, 0) == (20, 50 - tab.shape[0])
    assert place_of_tab(canvas, np.array([20, 3, 60, 90]), tab, 0) == (20, 3)


def test_a_tab_stays_within_the_picture() -> None:
    tab, canvas = _tab("123456", "0.87", (0, 200, 0), 14, 4), np.zeros((100, 100, 3), dtype=np.uint8)
    for left in (-20, 0, 80, 98):
        x, y = place_of_tab(canvas, np.array([left, 50, left + 30, 90]), tab, 2)
        assert 0 <= x <= 100 - tab.shape[1]
        assert 0 <= y <= 100 - tab.shape[0]
    tiny = np.zeros((5, 5, 3), dtype=np.uint8)
    draw_tabs(tiny, result([[0, 0, 4, 4]]).tracks, [0], Style(5, 5))
    assert tiny.any()


def test_in_a_crowd_those_behind_go_without_their_scores() -> None:
    style = Style(240, 320)
    apart, crowd = (np.full((240, 320, 3), GREY, dtype=np.uint8) for _ in range(2))
    draw_tabs(apart, result([[20, 60, 50, 200], [220, 60, 250, 190]]).tracks, [1, 0], style)
    draw_tabs(crowd, result([[20, 60, 50, 200], [32, 60, 62, 190]]).tracks, [1, 0], style)
    full = [_tab(str(number), "0.87", colour_of(number), style.text, style.pad) for number in (1, 2)]
    assert changed(apart).sum() == sum(tab.shape[0] * tab.shape[1] for tab in full)
    nearest = crowd[59 - full[0].shape[0] : 59, 19 : 19 + full[0].shape[1]]
    assert np.array_equal(nearest, full[0])  # the nearest is whole, on top
    assert changed(crowd).sum() < changed(apart).sum()


def test_text_stands_out_from_its_tab() -> None:
    for number in range(1, 60):
        colour = np.array(colour_of(number))
        tab = _tab(str(number), "0.50", tuple(colour.tolist()), 16, 4).astype(int)
        assert np.abs(tab - colour).sum(-1).max() > 250


def test_an_id_can_be_told_from_another() -> None:
    tabs = [_tab(str(number), "", (90, 90, 90), 16, 4) for number in range(10)]
    for number, tab in enumerate(tabs):
        for other in tabs[number + 1 :]:
            assert tab.shape != other.shape or (tab != other).any()


def test_a_line_of_text_darkens_only_its_corner() -> None:
    canvas = np.full((100, 400, 3), 200, dtype=np.uint8)
    draw_line_of_text(canvas, "24.8 fps", Style(480, 640))
    dark = (canvas != 200).any(-1)
    assert dark[0, 0]
    assert not dark[40:].any()
    assert not dark[:, 200:].any()
    assert canvas.max() > 230  # letters are light
    tiny = np.full((6, 9, 3), 200, dtype=np.uint8)
    draw_line_of_text(tiny, "24.8 fps   a very long line", Style(480, 640))
    assert tiny.shape == (6, 9, 3)


def test_lines_and_letters_grow_with_the_picture() -> None:
    small, large, huge = Style(360, 480), Style(1080, 1920), Style(2160, 3840)
    assert small.line == 2 < large.line < huge.line
    assert 11 <= small.text < large.text < huge.text
    assert Style(1920, 1080).text == large.text


# Trails


def test_a_trail_fades_towards_its_beginning() -> None:
    canvas = np.full((100, 200, 3), GREY, dtype=np.uint8)
    draw_trail(canvas, [(float(x), 50.0) for x in range(10, 190, 4)], (255, GREY, GREY), 2)
    red = canvas[50, :, 0].astype(int)
    assert red[180] > red[100] > red[20] > GREY
    assert (canvas[:, :, 1] == GREY).all()
    assert not changed(canvas)[60:].any()


@pytest.mark.parametrize(
    "points",
    [
        [],
        [(5.0, 5.0)],
        [(5.0, 5.0)] * 40,
        [(-50.0, -50.0), (-20.0, -20.0)],
        [(-50.0, 50.0), (250.0, 50.0)],
        [(300.0, 300.0), (400.0, 400.0)],
        [(5.0, 5.0), (6.5, 5.0)],
        [(0.0, 0.0), (199.0, 99.0)],
    ],
)
def test_any_trail(points: list[tuple[float, float]]) -> None:
    canvas = np.full((100, 200, 3), GREY, dtype=np.uint8)
    if points:
        draw_trail(canvas, points, (255, 0, 0), 2)
    assert canvas.shape == (100, 200, 3)


def test_who_stands_still_has_no_trail() -> None:
    canvas = np.full((100, 200, 3), GREY, dtype=np.uint8)
    draw_trail(canvas, [(50 + 0.3 * (k % 3), 50.0) for k in range(30)], (255, 0, 0), 2)
    assert not changed(canvas).any()


# The whole


def test_the_frame_itself_is_not_touched() -> None:
    given = result([[20, 60, 80, 200]])
    before = given.image.copy()
    drawn = Annotator().draw(given, 24.8)
    assert np.array_equal(given.image, before)
    assert changed(drawn).any()
    assert drawn.dtype == np.uint8


def test_a_frame_without_tracks() -> None:
    drawn = Annotator().draw(result([]))
    assert not changed(drawn)[60:].any()


def test_the_trail_follows_the_feet() -> None:
    annotator = Annotator()
    for index in range(20):
        drawn = annotator.draw(result([[20 + 8 * index, 60, 60 + 8 * index, 150]], index=index))
    colour = np.array(colour_of(1))
    behind = drawn[146:154, 60:150]
    assert (np.abs(behind.astype(int) - colour).sum(-1) < 120).any()


def test_ids_that_are_gone_are_forgotten() -> None:
    annotator = Annotator(trail=5)
    for index in range(200):
        annotator.draw(result([[20, 60, 60, 150]], ids=[index + 1], index=index))
        assert len(annotator._paths) <= 6
        assert len(annotator._seen) == len(annotator._paths)
    for index in range(50):
        annotator.draw(result([[20 + index, 60, 60 + index, 150]], ids=[1], index=index))
    assert [len(path) for path in annotator._paths.values()] == [5]


def test_what_is_only_expected_is_dashed_and_has_no_score() -> None:
    seen = Annotator().draw(result([[100, 100, 200, 200]]))
    expected = Annotator().draw(result([[100, 100, 200, 200]], predicted=[True]))
    assert changed(expected)[90:].sum() < changed(seen)[90:].sum()


def test_nearer_objects_cover_those_behind() -> None:
    near, behind = [100, 60, 180, 200], [120, 60, 200, 150]
    for boxes, front in (([near, behind], 1), ([behind, near], 2)):
        drawn = Annotator().draw(result(boxes))
        crossing = drawn[148:152, 179:182].reshape(-1, 3)  # where their outlines meet
        assert (crossing == colour_of(front)).all(-1).any()


def test_memory_strip_shows_what_is_held() -> None:
    plain, strip = Annotator(), Annotator(memory=4)
    for index in range(6):
        given = result([], index=index, remembered=min(index + 1, 4))
        given.image[:] = 40 * index + 20
        drawn = strip.draw(given)
        if index == 1:
            assert changed(drawn)[-10:, :40].any()
    assert np.array_equal(plain.draw(given)[:200], drawn[:200])
    assert np.array_equal(plain.draw(given)[:, 80:], drawn[:, 80:])  # four places are not sixteen
    row = drawn[-8, [10, 30, 50, 70], 0].astype(int)
    assert row[1:].tolist() == [140, 180, 220]  # the newest three
    assert row[0] == pytest.approx((20 / 2 + 60 / 2) / 2 + 100 / 2, abs=2)  # all older ones, melted as memory does


@pytest.mark.parametrize(("evict", "first"), [("fifo", 60), ("merge", 40)])
def test_strip_evicts_as_memory_does(evict: str, first: int) -> None:
    strip = Filmstrip(2, evict)
    for value, held in ((20, 1), (60, 2), (120, 2)):
        strip.add(np.full((24, 32, 3), value, dtype=np.uint8), held)
    assert [float(picture.mean()) for picture in strip._pictures] == [first, 120]


def test_strip_is_cleared_with_the_memory() -> None:
    strip = Filmstrip(3, "clear")
    lengths = []
    for held in (1, 2, 3, 1, 2, 3, 1, 1, 1):
        strip.add(np.zeros((24, 32, 3), dtype=np.uint8), held)
        lengths.append(len(strip._pictures))
    assert lengths == [1, 2, 3, 1, 2, 3, 1, 1, 1]


@pytest.mark.parametrize("frames", [1, 2, 16, 17, 32, 64])
@pytest.mark.parametrize("size", [(64, 48), (1920, 1080), (48, 200)])
def test_strips_of_all_lengths_fit(frames: int, size: tuple[int, int]) -> None:
    annotator = Annotator(memory=frames)
    for index in range(3):
        drawn = annotator.draw(result([], size=size, index=index, remembered=min(index + 1, frames)))
    assert drawn.shape == (size[1], size[0], 3)


def test_small_pictures() -> None:
    for size in ((1, 1), (2, 3), (16, 16), (5, 300)):
        drawn = Annotator(memory=2).draw(result([[0, 0, 9, 9], [1, 1, 2, 2]], size=size))
        assert drawn.shape == (size[1], size[0], 3)


def test_thirty_boxes_in_a_large_picture_take_a_few_milliseconds() -> None:
    """7.2 on an idle core of an AMD EPYC (Zen 4), 8.2 beside others: twice as much would be a fault."""
    rng = np.random.default_rng(0)
    place, speed = rng.uniform((0, 200), (1800, 900), (30, 2)), rng.normal(0, 3, (30, 2))
    annotator, taken = Annotator(), []
    for index in range(60):
        corner = place + speed * index
        given = result(np.concatenate([corner, corner + (80, 200)], 1), size=(1920, 1080), index=index)
        start = time.thread_time()
        annotator.draw(given, index / 7)
        taken.append(time.thread_time() - start)
    assert min(taken[40:]) < 0.014, f"{1000 * min(taken[40:]):.1f} ms"
