"""Clips drawn once: the same pixels and boxes as drawn anew, other frames of them in every epoch, both mirrored."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from svm_ext.data import rendered
from svm_ext.data.rendered import RenderedClips, is_rendered, mirrored, render, scaled
from svm_ext.data.scenes import SceneConfig, SceneDataset


def scenes(length: int = 3, clip_frames: int = 4) -> SceneDataset:
    return SceneDataset(5, SceneConfig(size=(64, 96)), clip_frames=clip_frames, length=length, min_visibility=0.2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips")
    render(scenes(), path, size=(64, 96))
    return path


def turned_back(clip: torch.Tensor, targets: list, drawn: torch.Tensor) -> tuple:
    """Undo the mirror where there was one."""
    return (clip, targets) if torch.equal(clip, drawn) else mirrored(clip, targets)


def test_what_was_drawn_comes_back(folder: Path) -> None:
    clips = RenderedClips(folder, clip_frames=4)
    assert len(clips) == 3
    for index, (drawn, wanted) in enumerate(scenes()[number] for number in range(3)):
        clip, targets = turned_back(*clips[0, index], drawn)
        assert torch.equal(clip, drawn)
        for target, truth in zip(targets, wanted, strict=True):
            torch.testing.assert_close(target["boxes"], truth["boxes"])
            assert target["labels"].tolist() == [0] * len(truth["boxes"])


def test_every_epoch_has_other_frames_and_the_same_key_the_same(folder: Path) -> None:
    clips = RenderedClips(folder, clip_frames=2)
    first = [clips[epoch, 1][0] for epoch in range(12)]
    again = [clips[epoch, 1][0] for epoch in range(12)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({clip.numpy().tobytes() for clip in first}) > 4
    drawn, _ = scenes()[1]
    frames = [frame.numpy().tobytes() for frame in (*drawn, *drawn.flip(-1))]
    steps = {frames.index(b.numpy().tobytes()) - frames.index(a.numpy().tobytes()) for a, b in first}
    assert steps == {1, 2}


def test_another_seed_chooses_otherwise(folder: Path) -> None:
    one, other = (RenderedClips(folder, clip_frames=2, seed=seed) for seed in (1, 2))
    assert any(not torch.equal(one[epoch, 0][0], other[epoch, 0][0]) for epoch in range(6))


def test_half_the_clips_are_mirrored(folder: Path) -> None:
    clips, (drawn, _) = RenderedClips(folder, clip_frames=4), scenes()[2]
    as_drawn = sum(torch.equal(clips[epoch, 2][0], drawn) for epoch in range(40))
    assert 10 < as_drawn < 30


def test_mirrored_boxes_hold_the_same_pixels() -> None:
    clip = torch.zeros(1, 3, 8, 10, dtype=torch.uint8)
    clip[:, :, 2:5, 1:4] = 255
    turned, [target] = mirrored(clip, [{"boxes": torch.tensor([[1.0, 2, 4, 5]]), "labels": torch.zeros(1)}])
    left, top, right, bottom = target["boxes"][0].int().tolist()
    assert (turned[0, :, top:bottom, left:right] == 255).all()
    assert int((turned == 255).sum()) == 3 * 9
    assert target["labels"].tolist() == [0]
    back, [again] = mirrored(turned, [target])
    assert torch.equal(back, clip)
    assert again["boxes"].tolist() == [[1, 2, 4, 5]]


def test_mirrored_takes_frames_without_people() -> None:
    _, [target] = mirrored(torch.zeros(1, 3, 8, 10), [{"boxes": torch.empty(0, 4)}])
    assert target["boxes"].shape == (0, 4)


def test_reading_changes_nothing_on_disk(folder: Path) -> None:
    before = (folder / rendered.PIXELS).read_bytes()
    clip, _ = RenderedClips(folder, clip_frames=4)[0, 0]
    clip.zero_()
    assert (folder / rendered.PIXELS).read_bytes() == before


def test_it_travels_to_other_processes(folder: Path) -> None:
    clips = RenderedClips(folder, clip_frames=4)
    sent = pickle.dumps(clips)
    assert len(sent) < 50_000
    assert torch.equal(pickle.loads(sent)[1, 2][0], clips[1, 2][0])


def test_a_smaller_size_scales_boxes_too(tmp_path: Path) -> None:
    render(scenes(1), tmp_path, size=(32, 48))
    drawn, wanted = scenes(1)[0]
    clip, targets = turned_back(*RenderedClips(tmp_path, clip_frames=4)[0, 0], scaled(drawn, (32, 48)))
    assert clip.shape == (4, 3, 32, 48)
    torch.testing.assert_close(targets[0]["boxes"], wanted[0]["boxes"] / 2)


def test_scaled_keeps_the_mean_and_the_size_it_has() -> None:
    clip = torch.randint(0, 256, (2, 3, 30, 60), dtype=torch.uint8)
    assert scaled(clip, (30, 60)) is clip
    small = scaled(clip, (10, 20))
    assert small.dtype == torch.uint8
    assert abs(float(small.float().mean() - clip.float().mean())) < 3


def test_an_interrupted_drawing_is_no_drawing(tmp_path: Path) -> None:
    def stop(done: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render(scenes(), tmp_path, size=(64, 96), told=stop)
    assert not is_rendered(tmp_path)
    with pytest.raises(FileNotFoundError, match="rendered clips"):
        RenderedClips(tmp_path, clip_frames=4)
    render(scenes(), tmp_path, size=(64, 96))
    assert is_rendered(tmp_path)


def test_a_finished_folder_is_left_alone(folder: Path) -> None:
    before = (folder / rendered.BOXES).stat().st_mtime_ns
    render(scenes(1), folder, size=(64, 96), told=lambda done: pytest.fail("drawn again"))
    assert (folder / rendered.BOXES).stat().st_mtime_ns == before


def test_workers_draw_the_same(folder: Path, tmp_path: Path) -> None:
    render(scenes(), tmp_path, size=(64, 96), workers=2)
    assert np.array_equal(np.load(tmp_path / rendered.PIXELS), np.load(folder / rendered.PIXELS))


@pytest.mark.parametrize("frames", [0, 5])
def test_more_frames_than_there_are_is_an_error(folder: Path, frames: int) -> None:
    with pytest.raises(ValueError, match="clip_frames: expected 1 to the 4"):
        RenderedClips(folder, clip_frames=frames)


@pytest.mark.parametrize("index", [-1, 3])
def test_there_is_nothing_beyond_the_end(folder: Path, index: int) -> None:
    with pytest.raises(IndexError, match="index: expected 0 to 2"):
        RenderedClips(folder, clip_frames=4)[index]
