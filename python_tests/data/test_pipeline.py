"""From files to batches: what a training is fed with, whatever the data set looks like."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

import video_folders as folders
from svm_ext.data.augment import AugmentConfig, AugmentedClips
from svm_ext.data.check import check_data
from svm_ext.data.clips import ClipDataset
from svm_ext.data.convert.mot17 import convert_mot17
from svm_ext.data.export import write_scenes
from svm_ext.data.loader import Concat, Order, collate
from svm_ext.data.mot import read_videos
from svm_ext.data.scenes import Scene, SceneConfig, SceneDataset
from svm_ext.data.videos import Clip
from svm_ext.data.warp import letterbox

SIZE = (64, 96)


class Fitted:
    """Clips made to fit a size, as an evaluation has them."""

    def __init__(self, clips: ClipDataset) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: int | tuple[int, int]) -> Clip:
        return letterbox(self.clips[key], SIZE)


@pytest.fixture
def mixed(tmp_path: Path) -> Concat:
    """Scenes that are generated, scenes on disk, single pictures, and pictures without a box."""
    write_scenes(tmp_path / "scenes", SceneConfig(size=SIZE), frames=5)
    folders.coco(tmp_path / "coco", count=0)
    folders.sequence(tmp_path / "empty" / "s", 3)
    kept = dict(clip_frames=2, seed=3)
    return Concat(
        [
            SceneDataset(1, SceneConfig(size=SIZE), clip_frames=2, length=4, places=1),
            ClipDataset(read_videos(tmp_path / "scenes"), **kept),
            ClipDataset(read_videos(tmp_path / "coco"), **kept),
            ClipDataset(read_videos(tmp_path / "empty"), **kept),
        ]
    )


def test_everything_comes_together_in_batches(mixed: Concat) -> None:
    clips = AugmentedClips(mixed, AugmentConfig.for_size(*SIZE), seed=5)
    assert len(clips) == 4 + 5 + 3 + 3
    order = Order(len(clips), batch=5, epochs=2, seed=7)
    seen = 0
    for frames, targets in DataLoader(clips, batch_sampler=order, collate_fn=collate):
        assert frames.shape == (5, 2, 3, *SIZE)
        assert frames.dtype == torch.uint8
        for clip in targets:
            for target in clip:
                count = len(target["boxes"])
                assert {len(value) for value in target.values()} == {count}
                assert torch.isfinite(target["boxes"]).all()
                assert (target["boxes"][:, 2:] > target["boxes"][:, :2]).all()
                seen += count
    assert seen > 50


def test_workers_and_restarts_change_nothing(mixed: Concat) -> None:
    clips = AugmentedClips(mixed, AugmentConfig.for_size(*SIZE), seed=5)

    def batches(position: int, workers: int) -> list[torch.Tensor]:
        order = Order(len(clips), batch=5, epochs=2, seed=7)
        order.position = position
        how = dict(multiprocessing_context="fork", persistent_workers=True) if workers else {}
        loader = DataLoader(clips, batch_sampler=order, collate_fn=collate, num_workers=workers, **how)
        return [frames for frames, _ in loader]

    whole = batches(0, 0)
    assert len(whole) == 6
    for position, workers in ((0, 2), (4, 0), (3, 1)):
        assert all(map(torch.equal, batches(position, workers), whole[position:]))


def test_two_epochs_are_not_the_same(mixed: Concat) -> None:
    clips = AugmentedClips(mixed, AugmentConfig.for_size(*SIZE), seed=5)
    assert not any(torch.equal(clips[0, item][0], clips[1, item][0]) for item in range(len(clips)))


def test_a_converted_set_its_folder_and_its_letterboxes_agree(tmp_path: Path) -> None:
    rows = [f"{frame},{person},{5 * person},9,8,20,1,1,0.5" for frame in range(1, 5) for person in (1, 2)]
    for name in ("a", "b"):
        folders.sequence(tmp_path / "in" / "train" / name, rows=rows)
    [path] = convert_mot17(tmp_path / "in", tmp_path / "out")
    plain, converted = read_videos(tmp_path / "in" / "train"), read_videos(path, images=tmp_path / "in" / "train")
    assert not check_data(path, images=tmp_path / "in" / "train").problems
    for first, second in zip(plain.videos, converted.videos, strict=True):
        assert [Path(name).name for name in first.files] == [Path(name).name for name in second.files]
        for frame in range(4):
            for column in ("boxes", "labels", "visibility"):
                assert torch.equal(first.target(frame)[column], second.target(frame)[column])
    clips = Fitted(ClipDataset(converted, clip_frames=2))
    frames, targets = collate([clips[item] for item in range(len(clips))])
    assert frames.shape == (8, 2, 3, *SIZE)
    scale = min(SIZE[0] / 48, SIZE[1] / 64)
    assert torch.allclose(targets[0][0]["boxes"], plain.videos[0].target(0)["boxes"] * scale)


def test_every_clip_of_an_epoch_is_seen_once() -> None:
    order = Order(103, batch=4, epochs=5, seed=0, ranks=2)
    for epoch in range(5):
        seen = Counter()
        for rank in range(2):
            mine = Order(103, batch=4, epochs=5, seed=0, rank=rank, ranks=2)
            seen.update(index for batch in mine for number, index in batch if number == epoch)
        assert len(seen) == order.batches_an_epoch * 8 == 96
        assert set(seen.values()) == {1}


def test_those_left_out_of_one_epoch_are_seen_in_another() -> None:
    seen = [{index for batch in Order(7, 4, 30, seed=1) for number, index in batch if number == n} for n in range(30)]
    assert all(len(indices) == 4 for indices in seen)
    assert set.union(*seen) == set(range(7))


def test_orders_of_different_seeds_have_little_in_common() -> None:
    first, second = ([key for batch in Order(200, 4, 1, seed=seed) for key in batch] for seed in (1, 2))
    assert sum(a == b for a, b in zip(first, second, strict=True)) < 12


@pytest.mark.parametrize("index", [0, 1, 10**6, 10**9])
def test_a_stream_may_be_as_old_as_it_likes(index: int) -> None:
    scene = Scene(2, SceneConfig(size=SIZE))
    frame = scene[index]
    assert frame.image.shape == (3, *SIZE)
    assert frame.ids.dtype.itemsize == 8
    assert (frame.ids > 0).all()


def test_large_seeds_are_seeds_too() -> None:
    scenes = [Scene(seed, SceneConfig(size=SIZE))[0].image.tobytes() for seed in (0, 2**31, 2**31 + 1, 2**63)]
    assert len(set(scenes)) == 4
    sets = [SceneDataset(seed, SceneConfig(size=SIZE), clip_frames=1, places=1)[0][0] for seed in (2**40, 2**40 + 1)]
    assert not torch.equal(*sets)
