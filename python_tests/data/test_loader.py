"""An order that depends on the seed alone: not on processes, workers, or on when it was left and taken up again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

import video_folders as folders
from svm_ext.data import mot
from svm_ext.data.clips import ClipDataset
from svm_ext.data.loader import Concat, Order, collate
from svm_ext.data.scenes import SceneConfig, SceneDataset


def test_every_epoch_is_a_permutation_of_its_own() -> None:
    batches = list(Order(12, batch=4, epochs=3, seed=5))
    assert len(batches) == len(Order(12, batch=4, epochs=3, seed=5)) == 9
    epochs = [[key for batch in batches[start : start + 3] for key in batch] for start in (0, 3, 6)]
    for number, keys in enumerate(epochs):
        assert {epoch for epoch, _ in keys} == {number}
        assert sorted(index for _, index in keys) == list(range(12))
    assert len({tuple(index for _, index in keys) for keys in epochs}) == 3
    assert batches == list(Order(12, batch=4, epochs=3, seed=5))
    assert batches != list(Order(12, batch=4, epochs=3, seed=6))


@pytest.mark.parametrize("position", range(8))
def test_it_goes_on_where_it_was_left(position: int) -> None:
    whole = list(Order(11, batch=3, epochs=3, seed=1))
    later = Order(11, batch=3, epochs=3, seed=1)
    later.position = position
    assert list(later) == whole[position:]
    assert len(later) == len(whole) - position


def test_counting_on_the_way_does_not_disturb_it() -> None:
    order = Order(10, batch=2, epochs=2, seed=1)
    seen = []
    for batch in order:
        seen.append(batch)
        order.position += 1
    assert seen == list(Order(10, batch=2, epochs=2, seed=1))
    assert (list(order), len(order)) == ([], 0)


def test_two_processes_see_together_what_one_sees() -> None:
    alone = list(Order(17, batch=4, epochs=2, seed=3))
    ranks = [list(Order(17, batch=2, epochs=2, seed=3, rank=rank, ranks=2)) for rank in range(2)]
    assert [first + second for first, second in zip(*ranks, strict=True)] == alone


@pytest.mark.parametrize(
    ("wrong", "said"),
    [(dict(length=0), "length"), (dict(batch=0), "batch"), (dict(rank=2), "rank"), (dict(batch=20), "batch")],
)
def test_what_cannot_be_is_named(wrong: dict, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}: expected"):
        Order(**{"length": 10, "batch": 2, "epochs": 1, "seed": 0, "ranks": 2, **wrong})


def scenes(length: int, seed: int = 0) -> SceneDataset:
    return SceneDataset(seed, SceneConfig(size=(64, 96)), clip_frames=2, length=length, places=1)


def test_data_sets_follow_each_other_with_their_epochs() -> None:
    first, second = scenes(3), scenes(2, seed=1)
    both = Concat([first, second])
    assert len(both) == 5
    assert torch.equal(both[2][0], first[2][0])
    assert torch.equal(both[7, 3][0], second[7, 0][0])
    assert not torch.equal(both[7, 3][0], both[0, 3][0])
    with pytest.raises(IndexError, match="index: expected 0 to 4"):
        both[5]
    with pytest.raises(ValueError, match="parts: expected"):
        Concat([])


def test_a_batch_is_stacked_and_keeps_targets_apart() -> None:
    clips = [scenes(3)[item] for item in range(3)]
    frames, targets = collate(clips)
    assert frames.shape == (3, 2, 3, 64, 96)
    assert torch.equal(frames[1], clips[1][0])
    assert targets[2][1] is clips[2][1][1]
    with pytest.raises(ValueError, match="clips: expected one size"):
        collate([clips[0], (clips[1][0][:, :, :60], clips[1][1])])


def test_persistent_workers_resample_in_every_epoch(tmp_path: Path) -> None:
    """The reference redrew its sample in the main process; workers that persist kept the first one for ever."""
    rows = [f"{frame},1,{frame},5,10,10" for frame in range(1, 13)]
    folders.sequence(tmp_path / "a", 12, rows)
    clips = ClipDataset(mot.read_videos(tmp_path), clip_frames=1, sample=0.25, seed=4)
    order = Order(len(clips), batch=3, epochs=6, seed=2)
    loader = DataLoader(
        clips,
        batch_sampler=order,
        collate_fn=collate,
        num_workers=1,
        persistent_workers=True,
        multiprocessing_context="fork",
    )
    found = [sorted(int(clip[0]["boxes"][0, 0]) for clip in targets) for _, targets in loader]
    again = [sorted(int(clip[0]["boxes"][0, 0]) for clip in targets) for _, targets in loader]
    plain = [sorted(int(clips[key][1][0]["boxes"][0, 0]) for key in batch) for batch in order]
    assert found == again == plain
    assert len({tuple(starts) for starts in found}) >= 4
