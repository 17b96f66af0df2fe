"""Clips of videos: the right frames, the same ones for the same key, others in another epoch."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

import video_folders as folders
from svm_ext.data import mot
from svm_ext.data.clips import ClipDataset
from svm_ext.data.videos import Video, VideoSet


@pytest.fixture
def videos(tmp_path: Path) -> VideoSet:
    rows = [f"{frame},1,{frame},5,10,10" for frame in range(1, 7)]
    folders.sequence(tmp_path / "a", 6, rows)
    folders.sequence(tmp_path / "b", 2, rows[:2])
    return mot.read_videos(tmp_path)


def test_a_clip_starts_at_each_frame_and_stays_at_the_last(videos: VideoSet) -> None:
    clips = ClipDataset(videos, clip_frames=3, strides=(2, 2))
    assert len(clips) == 8
    starts = [[int(target["boxes"][0, 0]) for target in clips[item][1]] for item in range(8)]
    assert starts == [[1, 3, 5], [2, 4, 6], [3, 5, 6], [4, 6, 6], [5, 6, 6], [6, 6, 6], [1, 2, 2], [2, 2, 2]]
    frames, _ = clips[0]
    assert (frames.shape, frames.dtype) == ((3, 3, 48, 64), torch.uint8)
    assert torch.equal(frames[1], videos.videos[0].picture(2))


def test_strides_are_drawn_once_a_clip_and_anew_in_every_epoch(videos: VideoSet) -> None:
    clips = ClipDataset(videos, clip_frames=3, strides=(1, 2))
    seen = {epoch: [int(clips[epoch, 0][1][step]["boxes"][0, 0]) for step in (1, 2)] for epoch in range(12)}
    assert {tuple(steps) for steps in seen.values()} == {(2, 3), (3, 5)}
    assert torch.equal(clips[0][0], clips[0, 0][0])


def test_a_sample_is_another_one_in_every_epoch(videos: VideoSet) -> None:
    clips = ClipDataset(videos, clip_frames=1, sample=0.5)
    assert len(clips) == 4

    def starts(epoch: int) -> list[int]:
        return [int(clips[epoch, item][1][0]["boxes"][0, 0]) for item in range(3)]

    epochs = [tuple(starts(epoch)) for epoch in range(10)]
    assert all(len(set(chosen)) == 3 and list(chosen) == sorted(chosen) for chosen in epochs)
    assert len(set(epochs)) > 3
    assert epochs == [tuple(starts(epoch)) for epoch in range(10)]
    again = pickle.loads(pickle.dumps(clips))
    assert torch.equal(again[5, 2][0], clips[5, 2][0])


def test_every_video_is_sampled_at_least_once(videos: VideoSet) -> None:
    assert len(ClipDataset(videos, sample=0.01)) == 2


@pytest.mark.parametrize("wrong", [dict(clip_frames=0), dict(strides=(0, 1)), dict(strides=(3, 2)), dict(sample=0.0)])
def test_wrong_options_are_named(wrong: dict, videos: VideoSet) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}: expected"):
        ClipDataset(videos, **wrong)


def test_an_index_beyond_the_end_is_named(videos: VideoSet) -> None:
    with pytest.raises(IndexError, match="index: expected 0 to 7, got 8"):
        ClipDataset(videos)[8]
    assert len(ClipDataset(VideoSet((), ("pedestrian",)))) == 0


def test_pictures_are_read_once_as_long_as_there_is_room(videos: VideoSet, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[str, int]] = []
    picture = Video.picture
    monkeypatch.setattr(
        Video, "picture", lambda video, frame: read.append((video.name, frame)) or picture(video, frame)
    )
    clips = ClipDataset(videos, clip_frames=3)
    first = [clips[item][0] for item in range(8)]
    assert len(read) == 8
    assert all(torch.equal(clips[item][0], first[item]) for item in range(8))
    assert len(read) == 8
    fresh = pickle.loads(pickle.dumps(clips))
    assert (len(fresh._kept), fresh._room) == (0, 256 * 2**20)
    none = ClipDataset(videos, clip_frames=3, kept_megabytes=0)
    read.clear()
    assert all(torch.equal(none[item][0], first[item]) for item in (0, 0))
    assert len(read) == 6
    assert none._kept == {}


def test_kept_pictures_are_not_changed_by_what_is_done_to_clips(videos: VideoSet) -> None:
    clips = ClipDataset(videos, clip_frames=1)
    clips[0][0].zero_()
    assert clips[0][0].any()
