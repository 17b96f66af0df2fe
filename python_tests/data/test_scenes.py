"""Generated scenes: the same everywhere, true to the pixel, endless in bounded memory, and a task for a memory."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from svm_ext.data._scenes import figures, picture, stage
from svm_ext.data.scenes import Scene, SceneConfig, SceneDataset, SceneFrame

SMALL = SceneConfig(size=(96, 160))
PLAIN = dict(size=(96, 160), shake=0.0, blur=0.0, shade=0.0, noise=0.0)


def fingerprint(frame: SceneFrame) -> str:
    digest = hashlib.sha256()
    for array in (frame.image, frame.boxes, frame.ids, frame.visibility, frame.blurred, frame.people):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


PINNED = {
    0: ["9e020717160b3f5f", "bd996caa95b1ff81", "227228a71c223baa"],
    1: ["cbdc24601c4f4bba", "72436d0c65986383", "8e68e5d0f535f2f0"],
    2: ["945dff746003db1c", "bee9d94cc0fbd639", "490bf3762ee00905"],
}


@pytest.mark.parametrize("seed", PINNED)
def test_pixels_are_the_same_on_every_machine(seed: int) -> None:
    """The fingerprints were taken once; a machine or a NumPy that gives others breaks the promise."""
    scene = Scene(seed, SMALL)
    assert [fingerprint(scene[index]) for index in (0, 77, 1000)] == PINNED[seed]


def test_pixels_do_not_depend_on_the_processors_vector_units() -> None:
    code = f"""
import sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
import test_scenes
print(test_scenes.fingerprint(test_scenes.Scene(1, test_scenes.SMALL)[77]))
"""
    enabled = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(enabled)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == fingerprint(Scene(1, SMALL)[77]), done.stderr


def test_any_frame_can_be_had_without_those_before_it() -> None:
    in_order = [fingerprint(frame) for frame in Scene(3, SMALL).frames(0, 40)]
    scene = Scene(3, SMALL)
    assert [fingerprint(scene[index]) for index in (39, 0, 17)] == [in_order[39], in_order[0], in_order[17]]
    assert [frame.index for frame in scene.frames(5, 30, 8)] == [5, 13, 21, 29]
    endless = iter(scene)
    assert [next(endless).index for _ in range(3)] == [0, 1, 2]


def test_other_seeds_are_other_scenes_and_a_place_can_be_shared() -> None:
    assert fingerprint(Scene(1, SMALL)[10]) != fingerprint(Scene(2, SMALL)[10])
    still = SceneConfig(people=0, statues=0, **PLAIN)
    first, second = Scene(1, still, place=9), Scene(2, still, place=9)
    assert first._stage is second._stage


@pytest.mark.parametrize("seed", range(4))
def test_boxes_hold_the_person_to_the_pixel(seed: int) -> None:
    """Where a scene with one walker differs from the same scene without, above the shadow, is the walker."""
    empty = Scene(seed, SceneConfig(people=0, statues=0, props=0, **PLAIN))
    walked = Scene(seed, SceneConfig(people=1, statues=0, props=0, **PLAIN))
    checked = 0
    for index in range(0, 600, 9):
        frame = walked[index]
        if len(frame.boxes) != 1 or frame.visibility[0] < 1.0:
            continue
        x1, y1, x2, y2 = frame.boxes[0].astype(int)
        changed = np.abs(frame.image.astype(int) - empty[index].image).max(axis=0) > 4
        body = changed[: y1 + (y2 - y1) * 4 // 5]
        rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        assert abs(rows[0] - y1) <= 1
        assert columns[0] >= x1 - (y2 - y1) // 5
        assert np.flatnonzero(body.any(axis=0))[0] >= x1 - 2
        assert np.flatnonzero(body.any(axis=0))[-1] <= x2 + 1
        checked += 1
    assert checked >= 5


def test_visibility_is_the_share_that_nothing_covers() -> None:
    """Counted again here: every sprite's own pixels, less those of everything nearer and those off the picture."""
    scene = Scene(12, SceneConfig(**PLAIN))
    place, poses = scene._stage, [*scene._statues, *scene._cast.at(300)]
    shot = scene._camera.shot(300)
    easel = picture._Easel(place, shot, np.zeros((3, 96, 160), np.uint8), np.zeros((96, 160), np.uint8), 0.0)
    covered, expected = np.zeros((96 + 400, 160 + 400), bool), {}
    for thing in sorted([*place.props, *poses], key=lambda thing: thing.z):  # the nearest first
        column, quarter, row = easel._foot(thing.x, thing.z)
        if isinstance(thing, picture.Prop):
            sprite = thing.sprites[quarter]
        else:
            tall = max(round(thing.look.height * place.geometry.metre(thing.z)), 4)
            sprite = picture.figure(thing.look, thing.view, thing.pose, tall, quarter)
        own = np.zeros_like(covered)
        top, left = row + sprite.top + 200, column + sprite.left + 200
        if left < 0 or left + sprite.solid.shape[1] >= 560 or top < 0:
            continue
        own[top : top + sprite.solid.shape[0], left : left + sprite.solid.shape[1]] = sprite.solid
        seen = (own & ~covered)[200:296, 200:360].sum()
        if isinstance(thing, picture.Pose) and thing.person:
            expected[thing.id] = seen / own.sum()
        covered |= own
    frame = scene[300]
    assert len(frame.ids) >= 3
    assert [expected[i] for i in frame.ids] == pytest.approx(frame.visibility.tolist(), abs=1e-6)


def test_truth_is_well_formed() -> None:
    scene = Scene(5)
    for index in range(0, 900, 15):
        frame = scene[index]
        count = len(frame.ids)
        assert frame.image.shape == (3, 192, 320)
        assert frame.image.dtype == np.uint8
        assert frame.boxes.shape == (count, 4)
        assert frame.boxes.dtype == np.float32
        assert len(set(frame.ids)) == len(set(frame.people)) == count
        assert (frame.boxes[:, 2:] > frame.boxes[:, :2]).all()
        assert ((frame.visibility >= 0) & (frame.visibility <= 1)).all()
        inside = (frame.boxes[:, :2] < [320, 192]).all(1) & (frame.boxes[:, 2:] > 0).all(1)
        assert inside.all()


def test_targets_are_those_who_can_be_seen() -> None:
    frame = next(
        frame for frame in Scene(5).frames() if (frame.visibility < 0.3).any() and (frame.visibility > 0.3).any()
    )
    target = frame.targets(0.3)
    assert set(target) == {"boxes", "labels", "ids", "visibility", "blurred"}
    assert len(target["boxes"]) == int((frame.visibility >= 0.3).sum())
    assert target["labels"].dtype == target["ids"].dtype == torch.int64
    assert target["boxes"].dtype == torch.float32
    assert len(frame.targets()["ids"]) == len(frame.ids)
    nobody = Scene(5, SceneConfig(people=0, size=(96, 160)))[0].targets()
    assert nobody["boxes"].shape == (0, 4)
    assert nobody["labels"].shape == (0,)


def test_who_comes_back_is_the_same_person_under_a_new_id() -> None:
    ids_of: dict[int, set[int]] = {}
    for seed in range(3):
        for frame in Scene(seed, SMALL).frames(0, 1200, 12):
            for person, i in zip(frame.people, frame.ids, strict=True):
                ids_of.setdefault(1000 * seed + person, set()).add(i)
    assert max(map(len, ids_of.values())) == 2
    assert 0.03 < np.mean([len(ids) == 2 for ids in ids_of.values()]) < 0.4


def test_the_task_needs_a_memory() -> None:
    """People are hidden for long, blurred at times, and statues stand about that no truth lists."""
    visibility, blurred, longest = [], [], 0
    for seed in range(3):
        hidden: dict[int, int] = {}
        for frame in Scene(seed, SMALL).frames(0, 500):
            visibility += list(frame.visibility)
            blurred += list(frame.blurred)
            for i, seen in zip(frame.ids, frame.visibility, strict=True):
                hidden[i] = hidden.get(i, 0) + 1 if 0.05 < seen < 0.5 else 0
                longest = max(longest, hidden[i])
    seen = np.array(visibility)
    assert 0.1 < np.mean((seen > 0.05) & (seen < 0.5)) < 0.4
    assert np.mean(seen > 0.9) > 0.3
    assert 0.02 < np.mean(blurred) < 0.25
    assert longest >= 20


def test_nobody_is_farther_away_than_told() -> None:
    scene = Scene(8, SceneConfig(size=(96, 160), far=5.5, people=20, statues=9))
    away = [pose.z for index in range(0, 4000, 50) for pose in scene._cast.at(index)]
    away += [pose.z for pose in scene._statues]
    assert 3.69 < min(away) < 4.2
    assert 5.0 < max(away) <= 5.5
    assert all(3.7 < prop.z < 5.5 for prop in scene._stage.props)


def test_hiding_says_how_many_stop_behind_things() -> None:
    def waiting(hiding: float) -> float:
        """Return the share of people that stand still."""
        scene = Scene(9, SceneConfig(size=(96, 160), hiding=hiding, people=30))
        across = [pose.across for index in range(0, 4000, 50) for pose in scene._cast.at(index)]
        return float(np.mean(np.array(across) == 0.0))

    assert waiting(0.0) < waiting(0.4) < waiting(2.0)
    assert waiting(0.0) < 0.5 * waiting(2.0)


def test_statues_do_not_move_and_are_in_no_truth() -> None:
    config = SceneConfig(people=0, statues=3, props=0, **PLAIN)
    scene = Scene(4, config)
    assert len(scene[0].ids) == 0
    there = Scene(4, SceneConfig(people=0, statues=0, props=0, **PLAIN))
    assert (scene[50].image != there[50].image).any()
    moved = [pose for pose in scene._statues if pose.across]
    assert moved == []


def test_a_walker_differs_from_a_statue_only_in_time() -> None:
    """A walker who does not run is drawn as sharp as a statue: its smear would give it away in one picture."""
    scene = Scene(2, SceneConfig(size=(480, 640), shake=0.0, noise=0.0, shade=0.0))
    for index in range(0, 400, 20):
        for pose in scene._cast.at(index):
            if abs(pose.across) * 25 < 1.9:
                assert abs(pose.across) * 0.5 <= picture._SHARP


def test_memory_does_not_grow_with_the_scene() -> None:
    scene = Scene(6, SceneConfig(size=(64, 96)))
    for index in range(0, 40_000, 97):
        scene[index]
    for cache in (picture.figure, picture._shadow, picture._vignette, figures._drawn, stage.stage, scene._cast._lap):
        info = cache.cache_info()
        assert info.maxsize is not None
        assert info.currsize <= info.maxsize
    assert scene._camera._happenings.cache_info().currsize <= 8
    assert len(vars(scene)) == 7


@pytest.mark.parametrize("size", [(64, 64), (64, 400), (400, 64), (97, 131), (192, 320)])
def test_any_size_works(size: tuple[int, int]) -> None:
    for seed in range(2):
        scene = Scene(seed, SceneConfig(size=size, shake=2.0))
        for index in range(0, 1000, 143):
            assert scene[index].image.shape == (3, *size)


@pytest.mark.parametrize("count", [0, 1, 60])
def test_any_number_of_people_statues_and_things_works(count: int) -> None:
    scene = Scene(1, SceneConfig(size=(64, 96), people=count, statues=count, props=count))
    assert len(scene[200].ids) <= count
    assert len(scene[200].ids) > 10 or count < 60


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (dict(size=(32, 64)), "size"),
        (dict(people=-1), "people"),
        (dict(statues=61), "statues"),
        (dict(blur=3.0), "blur"),
        (dict(noise=-0.1), "noise"),
        (dict(far=4.0), "far"),
        (dict(far=12.0), "far"),
        (dict(hiding=2.5), "hiding"),
    ],
)
def test_wrong_configurations_are_named(wrong: dict, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}: expected"):
        SceneConfig(**wrong)


def test_wrong_seeds_and_frames_are_named() -> None:
    with pytest.raises(ValueError, match="seed: expected"):
        Scene(-1)
    with pytest.raises(IndexError, match="index: expected"):
        Scene(0, SMALL)[-1]


def clips(**options: object) -> SceneDataset:
    return SceneDataset(3, SMALL, **{"clip_frames": 3, "length": 6, "places": 2, **options})


def test_items_are_clips_with_targets() -> None:
    dataset = clips()
    assert len(dataset) == 6
    clip, targets = dataset[2]
    assert clip.shape == (3, 3, 96, 160)
    assert clip.dtype == torch.uint8
    assert [set(target) for target in targets] == [{"boxes", "labels", "ids", "visibility", "blurred"}] * 3
    assert all((target["visibility"] >= 0.1).all() for target in targets)
    assert [item[0].shape for item in dataset] == [clip.shape] * 6  # ends by itself


def test_items_are_the_same_every_time_and_others_in_another_epoch() -> None:
    first, again = clips(), pickle.loads(pickle.dumps(clips()))
    assert torch.equal(first[1][0], again[1][0])
    assert torch.equal(first[1][0], first[(0, 1)][0])
    assert not torch.equal(first[1][0], first[(1, 1)][0])
    assert torch.equal(first[(1, 1)][0], again[(1, 1)][0])
    assert not torch.equal(first[0][0], first[1][0])


def test_strides_lie_within_their_range() -> None:
    still = SceneConfig(size=(64, 96), noise=0.0)
    one = SceneDataset(0, still, clip_frames=2, length=4, strides=(2, 2), places=1)
    clip, targets = one[0]
    moves = [
        float((targets[1]["boxes"][targets[1]["ids"] == i] - box).abs().max())
        for i, box in zip(targets[0]["ids"], targets[0]["boxes"], strict=True)
        if (targets[1]["ids"] == i).any()
    ]
    assert clip.shape[0] == 2
    assert all(move < 20 for move in moves)


@pytest.mark.parametrize("wrong", [dict(clip_frames=0), dict(length=0), dict(places=0), dict(strides=(3, 2))])
def test_wrong_options_of_the_data_set_are_named(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}: expected"):
        clips(**wrong)
    with pytest.raises(IndexError, match="index: expected"):
        clips()[6]


@pytest.mark.slow
@pytest.mark.parametrize(("size", "wanted"), [((192, 320), 150), ((320, 576), 60)])
def test_it_is_fast(size: tuple[int, int], wanted: int) -> None:
    """Frames a second of one core's own time, new people and all."""
    scene = Scene(0, SceneConfig(size=size))
    start = time.process_time()
    for _ in scene.frames(0, 300):
        pass
    assert 300 / (time.process_time() - start) > wanted


def test_a_still_camera_sees_a_still_street() -> None:
    """Without people nothing moves but the camera's slow drift; without noise nothing else differs."""
    scene = Scene(3, SceneConfig(people=0, **PLAIN))
    first, second, later = (scene[index].image.astype(int) for index in (0, 1, 200))
    assert np.abs(first - second).mean() < 0.7 * np.abs(first - later).mean()


@pytest.mark.parametrize(("strength", "wanted"), [(0.0, 0.0), (1.0, 1.7), (2.0, 3.4)])
def test_noise_is_as_strong_as_told(strength: float, wanted: float) -> None:
    config = dict(size=(96, 160), people=0, shake=0.0, blur=0.0, shade=0.0)
    clean, noisy = (Scene(3, SceneConfig(noise=it, **config))[5].image.astype(int) for it in (0.0, strength))
    assert (noisy - clean).std() == pytest.approx(wanted, abs=0.3)
    assert abs((noisy - clean).mean()) < 0.7


def test_without_blur_nobody_is_blurred() -> None:
    scene = Scene(3, SceneConfig(size=(96, 160), blur=0.0, people=6))
    assert not any(frame.blurred.any() for frame in scene.frames(0, 600, 11))


def test_boxes_move_smoothly() -> None:
    """Whoever is in two frames running has moved by little of the own height, however the camera shakes."""
    scene = Scene(8)
    before: dict[int, np.ndarray] = {}
    for frame in scene.frames(100, 260):
        now = dict(zip(frame.ids.tolist(), frame.boxes, strict=True))
        for i in now.keys() & before.keys():
            height = now[i][3] - now[i][1]
            middle = np.abs((now[i][:2] + now[i][2:]) - (before[i][:2] + before[i][2:])).max() / 2
            assert middle < 0.35 * height
        before = now


def test_ids_are_small_positive_and_a_person_has_one_look() -> None:
    scene = Scene(8, SMALL)
    looks = {}
    for index in range(0, 2000, 40):
        for pose in scene._cast.at(index):
            assert 1 <= pose.person <= pose.id < 10_000
            assert looks.setdefault(pose.person, pose.look) == pose.look


def test_a_worker_process_sees_the_same_clips() -> None:
    dataset = clips(length=2)
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=None, num_workers=1, multiprocessing_context="fork", sampler=[(0, 1), (3, 0)]
    )
    for (clip, targets), key in zip(loader, [(0, 1), (3, 0)], strict=True):
        own, own_targets = dataset[key]
        assert torch.equal(clip, own)
        assert torch.equal(targets[2]["boxes"], own_targets[2]["boxes"])


def test_one_picture_does_not_tell_who_is_a_statue() -> None:
    """In size, distance, side and stride statues are what people are who are to be seen."""
    scene = Scene(1, SceneConfig(people=12, statues=60))
    edge = scene._stage.geometry.edge
    walkers = [pose for index in range(0, 9000, 60) for pose in scene._cast.at(index) if abs(pose.x) < edge(pose.z)]
    for of in (lambda pose: pose.z, lambda pose: pose.look.height):
        people, statues = (np.array([of(pose) for pose in poses]) for poses in (walkers, scene._statues))
        assert abs(np.median(people) - np.median(statues)) < 0.5 * people.std()
    for is_so in (lambda pose: pose.pose < figures.STRIDE, lambda pose: pose.view in (0, 4)):
        shares = [np.mean([is_so(pose) for pose in poses]) for poses in (walkers, scene._statues)]
        assert abs(shares[0] - shares[1]) < 0.12
    assert len({pose.look for pose in scene._statues}) == 60
