"""What is done to pictures is done to boxes, to every frame of a clip alike, and to the same key in the same way."""

from __future__ import annotations

import colorsys
from dataclasses import replace

import numpy as np
import pytest
import torch

from svm_ext.data import warp
from svm_ext.data._scenes.dice import Dice
from svm_ext.data.augment import AugmentConfig, AugmentedClips, Plan, apply, fitted, plan
from svm_ext.data.colour import shift_hsv
from svm_ext.data.videos import Clip
from svm_ext.data.warp import Layer, letterbox, moved_boxes, render

SIZE = (96, 160)
CONFIG = AugmentConfig(size=SIZE, scale=(0.5, 1.5))


def drawn_boxes(boxes: list[list[float]], size: tuple[int, int] = (72, 120), frames: int = 1) -> Clip:
    """Black pictures on which every box is white."""
    picture = torch.zeros(frames, 3, *size, dtype=torch.uint8)
    for x1, y1, x2, y2 in np.array(boxes, int).reshape(-1, 4):
        picture[:, :, max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)] = 255
    return picture, [target(boxes) for _ in range(frames)]


def target(boxes: list[list[float]]) -> dict[str, torch.Tensor]:
    count = len(boxes)
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4).float(),
        "labels": torch.zeros(count, dtype=torch.int64),
        "ids": torch.arange(count) - 1,
        "visibility": torch.ones(count),
    }


def around(mask: torch.Tensor) -> list[int]:
    """The box around what is true in a mask [H, W]."""
    rows, columns = torch.nonzero(mask.any(1)).flatten(), torch.nonzero(mask.any(0)).flatten()
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


@pytest.mark.parametrize("seed", range(24))
def test_the_box_of_a_changed_drawing_is_the_changed_box(seed: int) -> None:
    """Only for the clip itself, on black: what is white in the end lies within the box, and touches its sides."""
    dice = Dice(seed)
    x, y = dice.uniform(20, 70), dice.uniform(15, 35)
    clip = drawn_boxes([[int(x), int(y), int(x) + 24, int(y) + 18]])
    config = replace(CONFIG, mosaic=float(seed % 2), mixup=0.0, hue=0, saturation=0, brightness=0, fill=0, shear=0.0)
    config = replace(config, rotation=10.0 * (seed % 3 == 0))
    black = drawn_boxes([])
    frames, targets = apply(config, plan(config, [(72, 120)] * 5, dice), [clip, black, black, black, None])
    boxes = targets[0]["boxes"]
    if not len(boxes):
        assert frames.float().mean() < 2
        return
    box = boxes[0].tolist()
    inside = [max(box[0], 0), max(box[1], 0), min(box[2], SIZE[1]), min(box[3], SIZE[0])]
    found = around(frames[0, 0] > 100)
    if min(inside[2] - inside[0], inside[3] - inside[1]) > 3:
        assert np.abs(np.array(found) - inside).max() <= 1.6


def test_boxes_of_turned_rectangles_hold_all_four_corners() -> None:
    angle = np.deg2rad(30)
    turn = np.array([[np.cos(angle), -np.sin(angle), 60], [np.sin(angle), np.cos(angle), 10], [0, 0, 1]])
    boxes, seen = moved_boxes(torch.tensor([[0.0, 0.0, 20.0, 10.0]]), Layer(0, turn, (0, 0, 50, 50)), SIZE)
    corners = np.array([[0, 0], [20, 0], [20, 10], [0, 10]]) @ turn[:2, :2].T + turn[:2, 2]
    np.testing.assert_allclose(boxes[0], [*corners.min(0), *corners.max(0)], rtol=1e-6)
    assert seen.tolist() == [True]


def test_boxes_that_are_cut_off_or_carried_out_are_gone_and_others_may_hang_over() -> None:
    layer = Layer(0, np.diag([1.0, 1.0, 1.0]), (10.0, 10.0, 50.0, 50.0))
    boxes = torch.tensor([[0, 0, 9, 9], [0, 0, 11, 11], [49, 49, 60, 60], [50, 10, 60, 20.0]])
    _, seen = moved_boxes(boxes, layer, SIZE)
    assert seen.tolist() == [False, True, True, False]
    away = Layer(0, np.array([[1.0, 0, 200], [0, 1, 0], [0, 0, 1]]), (0.0, 0.0, 72.0, 72.0))
    assert moved_boxes(boxes, away, SIZE)[1].tolist() == [False] * 4
    moved, seen = moved_boxes(torch.zeros(0, 4), layer, SIZE)
    assert (moved.shape, seen.shape) == ((0, 4), (0,))


def test_the_identity_changes_nothing() -> None:
    clip = (torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8), [target([]), target([[1, 2, 30, 40]])])
    still = Plan((Layer(0, np.eye(3), (0.0, 0.0, 160.0, 96.0)),), None, (0, 0, 0))
    frames, targets = apply(CONFIG, still, [clip])
    assert torch.equal(frames, clip[0])
    assert [t["boxes"].tolist() for t in targets] == [[], [[1, 2, 30, 40]]]


def test_a_flip_undoes_itself() -> None:
    clip = (torch.randint(0, 256, (1, 3, *SIZE), dtype=torch.uint8), [target([[1, 2, 30, 40], [100, 5, 170, 60]])])
    config = replace(CONFIG, mosaic=0, mixup=0, rotation=0, shear=0, shift=0, scale=(1.0, 1.0), hue=0, saturation=0)
    config = replace(config, brightness=0, flip=1.0)
    drawn = plan(config, [SIZE] * 5, Dice(0))
    once = apply(config, drawn, [clip])
    assert torch.equal(once[0], clip[0].flip(3))
    assert once[1][0]["boxes"].tolist() == [[130, 2, 159, 40], [-10, 5, 60, 60]]
    twice = apply(config, drawn, [once])
    assert torch.equal(twice[0], clip[0])
    assert torch.equal(twice[1][0]["boxes"], clip[1][0]["boxes"])


def test_half_a_picture_is_the_mean_of_its_pixels() -> None:
    """No pixel is skipped where a picture shrinks."""
    checked = torch.zeros(1, 3, *SIZE, dtype=torch.uint8)
    checked[:, :, ::2, ::2] = 200
    checked[:, :, 1::2, 1::2] = 200
    layer = Layer(0, np.diag([0.25, 0.25, 1.0]), (0.0, 0.0, 160.0, 96.0))
    small = render([layer], [(checked, [])], (24, 40), 0)
    torch.testing.assert_close(small, torch.full_like(small, 100.0))


def test_the_mosaic_shows_all_four_and_cuts_at_the_canvas() -> None:
    config = replace(CONFIG, mixup=0, rotation=0, shear=0, shift=0, scale=(0.5, 0.5), flip=0, fill=7)
    config = replace(config, hue=0, saturation=0, brightness=0)
    clips = [(torch.full((2, 3, *SIZE), 40 * (k + 1), dtype=torch.uint8), [target([])] * 2) for k in range(4)]
    drawn = plan(config, [SIZE] * 5, Dice(3))
    frames, _ = apply(config, drawn, [*clips, None])
    values = set(frames.unique().tolist())
    assert {40, 80, 120, 160} <= values
    assert torch.equal(frames[0], frames[1])
    x1, _, x2, _ = drawn.layers[0].rect
    assert x2 - x1 <= SIZE[1]


def test_ids_of_different_clips_stay_different_and_unknown_ones_unknown() -> None:
    clips = [drawn_boxes([[5, 5, 60, 60], [30, 10, 70, 70]]) for _ in range(5)]
    config = replace(CONFIG, scale=(0.4, 0.4), mixup_scale=(1.0, 1.0))
    _, targets = apply(config, plan(config, [(72, 120)] * 5, Dice(1)), clips)
    ids = targets[0]["ids"]
    known = ids[ids >= 0]
    assert (ids == -1).sum() >= 2
    assert len(known.unique()) == len(known) >= 2


class Fixed:
    """A data set of clips in memory; every epoch is like the first."""

    def __init__(self, clips: list[Clip]) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: int | tuple[int, int]) -> Clip:
        return self.clips[key[1] if isinstance(key, tuple) else key]


def busy(seed: int, frames: int = 3) -> Clip:
    """A clip that stands still, with a box: whatever differs between its frames later was not done alike."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.randint(0, 256, (3, 70, 110), generator=generator, dtype=torch.uint8)
    return picture.expand(frames, -1, -1, -1).clone(), [target([[10, 20, 50, 60]]) for _ in range(frames)]


def test_all_frames_of_a_clip_are_changed_alike() -> None:
    """The reference redrew the flip and the crop of a mixed-in clip for each frame, when the first draw was 0."""
    clips = AugmentedClips(Fixed([busy(seed) for seed in range(6)]), CONFIG, seed=1)
    for item in range(6):
        for epoch in range(4):
            frames, targets = clips[epoch, item]
            assert torch.equal(frames[0], frames[1])
            assert torch.equal(frames[0], frames[2])
            assert torch.equal(targets[0]["boxes"], targets[2]["boxes"])


def test_a_key_is_changed_the_same_way_every_time_and_otherwise_in_another_epoch() -> None:
    source = Fixed([busy(seed) for seed in range(6)])
    first, again, other = (AugmentedClips(source, CONFIG, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first[3][0], again[0, 3][0])
    assert not torch.equal(first[3][0], first[1, 3][0])
    assert not torch.equal(first[3][0], other[3][0])
    assert (first[0][0].shape, first[0][0].dtype) == ((3, 3, *SIZE), torch.uint8)


def test_clips_without_boxes_survive_and_are_mixed_too() -> None:
    """The reference left a frame unmixed when its partner had no boxes, and its sibling mixed."""
    empty = [(busy(seed)[0], [target([])] * 3) for seed in range(5)]
    frames, targets = AugmentedClips(Fixed(empty), replace(CONFIG, flip=0.0), seed=1)[2]
    assert [t["boxes"].shape for t in targets] == [(0, 4)] * 3
    assert [t["labels"].shape for t in targets] == [(0,)] * 3
    half = [(frames, [ts[0], target([]), ts[2]]) for frames, ts in (busy(seed) for seed in range(5))]
    mixed, targets = AugmentedClips(Fixed(half), CONFIG, seed=3)[1]
    assert torch.equal(mixed[0], mixed[1])
    assert len(targets[1]["boxes"]) == 0


def test_a_clip_with_boxes_is_looked_for_to_mix_in() -> None:
    clips = [(busy(seed)[0], [target([])] * 3) for seed in range(4)] + [busy(9)]
    config = replace(CONFIG, mosaic=0.0, mixup_scale=(1.0, 1.0))
    found = [len(AugmentedClips(Fixed(clips), config, seed=seed)[0][1][0]["boxes"]) for seed in range(12)]
    assert sum(found) >= 8


def test_boxes_are_wide_enough_and_touch_the_picture() -> None:
    clips = AugmentedClips(Fixed([busy(seed) for seed in range(6)]), CONFIG)
    for epoch in range(30):
        for found in clips[epoch, 2][1]:
            boxes = found["boxes"]
            assert (boxes[:, 2:] - boxes[:, :2] > 1).all()
            assert (boxes[:, :2] < torch.tensor([SIZE[1], SIZE[0]])).all()
            assert (boxes[:, 2:] > 0).all()


def test_data_sets_that_tell_different_things_can_be_mixed() -> None:
    known = busy(1)
    poor = (busy(2)[0], [{name: t[name] for name in ("boxes", "labels", "ids")} for t in busy(2)[1]])
    _, targets = AugmentedClips(Fixed([known, poor, poor]), replace(CONFIG, scale=(0.5, 0.5)))[0]
    assert set(targets[0]) == {"boxes", "labels", "ids"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (dict(size=(8, 100)), "size"),
        (dict(mosaic=1.5), "mosaic"),
        (dict(scale=(0.0, 1.0)), "scale"),
        (dict(mixup_scale=(2.0, 1.0)), "mixup_scale"),
        (dict(rotation=200.0), "rotation"),
    ],
)
def test_wrong_configurations_are_named(wrong: dict, said: str) -> None:
    with pytest.raises(ValueError, match=f"{said}.*: expected"):
        AugmentConfig(**wrong)


def test_people_do_not_vanish_from_small_pictures() -> None:
    assert AugmentConfig.for_size(800, 1440) == AugmentConfig()
    assert AugmentConfig.for_size(192, 320).scale == (pytest.approx(0.4167, abs=1e-3), 1.5)
    assert AugmentConfig.for_size(64, 64).scale == (0.5, 1.5)
    assert AugmentConfig.for_size(1600, 2880).scale == (0.1, 2.0)


def test_the_released_recipe_is_the_default() -> None:
    recipe = AugmentConfig()
    assert (recipe.size, recipe.rotation, recipe.scale, recipe.shear, recipe.shift) == (
        (800, 1440),
        10,
        (0.1, 2),
        2,
        0.1,
    )
    assert (recipe.mixup_scale, recipe.hue, recipe.saturation, recipe.brightness) == ((0.8, 1.6), 5, 30, 30)
    assert (recipe.mosaic, recipe.mixup, recipe.flip, recipe.fill) == (1, 1, 0.5, 114)


@pytest.mark.parametrize("shift", [(0, 0, 0), (5, 30, -30), (-5, -20, 10), (90, 0, 0), (0, 255, 0), (0, -255, 255)])
def test_colours_are_those_of_a_plain_conversion(shift: tuple[int, int, int]) -> None:
    frames = torch.randint(1, 255, (2, 3, 9, 11), dtype=torch.uint8)
    frames[0, :, 0, 0] = 0
    changed = shift_hsv(frames, shift)
    for t, row, column in np.ndindex(2, 9, 11):
        rgb = (frames[t, :, row, column] / 255).tolist()
        h, s, v = colorsys.rgb_to_hsv(*rgb)
        s = min(max(s + shift[1] / 255, 0), 1) if len(set(rgb)) > 1 else 0  # what is grey stays grey
        expected = colorsys.hsv_to_rgb((h + shift[0] / 180) % 1, s, min(max(v + shift[2] / 255, 0), 1))
        np.testing.assert_allclose(changed[t, :, row, column], np.array(expected) * 255, atol=0.51)


def test_colours_of_large_pictures_are_worked_on_in_blocks() -> None:
    frames = torch.randint(0, 256, (1, 3, 40, 3000), dtype=torch.uint8)
    whole = shift_hsv(frames, (3, 10, -5))
    parts = torch.cat([shift_hsv(part.contiguous(), (3, 10, -5)) for part in frames.split(7, dim=2)], dim=2)
    assert torch.equal(whole, parts)


@pytest.mark.parametrize("size", [(48, 80), (96, 96), (150, 200), (72, 120)])
def test_a_letterbox_keeps_the_shape_and_the_boxes(size: tuple[int, int]) -> None:
    clip = drawn_boxes([[30, 18, 90, 54]], frames=2)
    frames, targets = letterbox(clip, size)
    scale = min(size[0] / 72, size[1] / 120)
    np.testing.assert_allclose(targets[1]["boxes"], [[30 * scale, 18 * scale, 90 * scale, 54 * scale]], rtol=1e-5)
    assert frames.shape == (2, 3, *size)
    assert np.abs(np.array(around(frames[0, 0] > 127)) - targets[0]["boxes"][0].numpy()).max() <= 1


def test_fitting_keeps_the_shape() -> None:
    assert np.diag(fitted((100, 300), (200, 300))).tolist() == [1.0, 1.0, 1.0]
    assert np.diag(fitted((100, 100), (200, 300))).tolist() == [2.0, 2.0, 1.0]


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are worked on in stripes; where these begin must not be seen."""
    clips = [busy(seed) for seed in range(5)]
    drawn = plan(CONFIG, [(70, 110)] * 5, Dice(4))
    whole = render(drawn.layers, clips, SIZE, 114)
    for block in (1, 700, 5000):
        monkeypatch.setattr(warp, "_BLOCK", block)
        torch.testing.assert_close(render(drawn.layers, clips, SIZE, 114), whole, atol=0.02, rtol=0)


@pytest.mark.parametrize("quarter", range(4))
def test_a_quarter_turn_is_exact(quarter: int) -> None:
    pictures = torch.randint(0, 256, (1, 3, 40, 40), dtype=torch.uint8)
    cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarter]
    turn = np.array([[cos, -sin, 20 - 20 * cos + 20 * sin], [sin, cos, 20 - 20 * sin - 20 * cos], [0, 0, 1.0]])
    turned = render([Layer(0, turn, (0.0, 0.0, 40.0, 40.0))], [(pictures, [])], (40, 40), 0)
    torch.testing.assert_close(turned, torch.rot90(pictures, -quarter, (2, 3)).float(), atol=1e-2, rtol=0)


@pytest.mark.parametrize("scale", [0.02, 0.1, 0.3, 0.7, 1.7, 6.0])
def test_any_scale_keeps_brightness_and_place(scale: float) -> None:
    """A white half stays a white half, whatever the pictures are halved to on the way."""
    pictures = torch.zeros(1, 3, 200, 300, dtype=torch.uint8)
    pictures[..., 150:] = 240
    matrix = np.array([[scale, 0, 80 - 150 * scale], [0, scale, 48 - 100 * scale], [0, 0, 1.0]])
    out = render([Layer(0, matrix, (0.0, 0.0, 300.0, 200.0))], [(pictures, [])], SIZE, 0)[0, 0]
    wide = min(150 * scale, 80)
    assert float((out[48] / 240).sum()) == pytest.approx(wide, abs=1.1)
    bright = torch.nonzero(out[48] > 120).flatten()
    assert abs(int(bright[0]) - 80) <= 1


def test_what_lies_beside_the_result_costs_nothing_and_changes_nothing() -> None:
    pictures = torch.full((2, 3, 30, 30), 200, dtype=torch.uint8)
    for x, y in ((500.0, 0.0), (-500.0, 0.0), (0.0, 500.0), (0.0, -500.0)):
        away = Layer(0, np.array([[1.0, 0, x], [0, 1.0, y], [0, 0, 1.0]]), (0.0, 0.0, 30.0, 30.0))
        assert (render([away], [(pictures, [])], SIZE, 7) == 7).all()


@pytest.mark.parametrize("size", [(32, 32), (33, 95), (200, 64)])
@pytest.mark.parametrize("given", [(20, 31), (90, 60), (300, 500)])
def test_any_sizes_go_together(size: tuple[int, int], given: tuple[int, int]) -> None:
    config = AugmentConfig.for_size(*size)
    clips = [(torch.randint(0, 256, (2, 3, *given), dtype=torch.uint8), [target([[2, 3, 15, 18]])] * 2)] * 5
    for seed in range(6):
        frames, targets = apply(config, plan(config, [given] * 5, Dice(seed)), clips)
        assert frames.shape == (2, 3, *size)
        assert len(targets) == 2


def test_clips_of_different_lengths_are_named() -> None:
    clips = [busy(0), busy(1), busy(2, frames=2), busy(3), busy(4)]
    with pytest.raises(ValueError, match=r"clips: expected clips of one length, got \[2, 3\]"):
        apply(CONFIG, plan(CONFIG, [(70, 110)] * 5, Dice(0)), clips)


def test_plans_keep_to_the_ranges() -> None:
    config = AugmentConfig(size=SIZE, scale=(0.5, 1.5), mixup=0.5)
    plans = [plan(config, [(70, 110)] * 5, Dice(seed)) for seed in range(300)]
    scales = [np.sqrt(abs(np.linalg.det(it.layers[0].matrix[:2, :2]))) / fitted((70, 110), SIZE)[0, 0] for it in plans]
    assert 0.49 < min(scales) < 0.55
    assert 1.45 < max(scales) < 1.51
    assert np.mean([it.blended is not None for it in plans]) == pytest.approx(0.5, abs=0.1)
    assert np.mean([np.linalg.det(it.layers[0].matrix[:2, :2]) < 0 for it in plans]) == pytest.approx(0.5, abs=0.1)
    for number, most in enumerate((5, 30, 30)):
        shifts = np.array([it.colours[number] for it in plans])
        assert np.abs(shifts).max() == most
        assert np.mean(shifts == 0) > 0.4
    turns = [np.degrees(np.arctan2(it.layers[0].matrix[1, 0], abs(it.layers[0].matrix[0, 0]))) for it in plans]
    assert np.abs(turns).max() < 12.5


def test_colours_change_about_as_often_as_not_and_boxes_never_with_them() -> None:
    clip = busy(1)
    still = Plan((Layer(0, np.eye(3), (0.0, 0.0, 110.0, 70.0)),), None, (0, 0, 0))
    config = AugmentConfig(size=(70, 110))
    plain, changed = (apply(config, replace(still, colours=shift), [clip]) for shift in ((0, 0, 0), (4, 20, -20)))
    assert not torch.equal(plain[0], changed[0])
    assert torch.equal(plain[1][0]["boxes"], changed[1][0]["boxes"])
