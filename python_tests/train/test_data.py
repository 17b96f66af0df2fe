"""Batches depend on the seed and the position alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from svm_ext.stream.prepare import MEAN, STD
from svm_ext.train import data
from svm_ext.train.config import TrainConfig
from svm_ext.train.data import Clips
from svm_ext.train.ranks import Ranks

HERE = Ranks(0, 1, torch.device("cpu"))


def scenes(**settings: object) -> TrainConfig:
    small = dict(height=64, width_pixels=96, clips=6, batch=2, epochs=1, warmup_epochs=0.5, clip_frames=3, workers=0)
    return TrainConfig().with_settings({**small, **settings})


def test_scenes_come_normalised() -> None:
    batches = list(Clips(scenes(), HERE).after(0))
    assert len(batches) == 3
    clip, targets = batches[0]
    assert clip.shape == (2, 3, 3, 64, 96)
    assert clip.dtype == torch.float32
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    pixels = clip * std + mean
    assert torch.allclose(pixels, pixels.round(), atol=1e-3)
    assert 0 <= pixels.min().round() <= pixels.max().round() <= 255
    assert [len(row) for row in targets] == [3, 3]
    assert all(frame["boxes"].shape == (len(frame["labels"]), 4) for row in targets for frame in row)


def test_a_training_that_goes_on_sees_the_same_clips() -> None:
    whole = [clip for clip, _ in Clips(scenes(), HERE).after(0)]
    rest = [clip for clip, _ in Clips(scenes(), HERE).after(2)]
    assert len(rest) == 1
    assert torch.equal(rest[0], whole[2])


def folder_of_pictures(folder: Path, frames: int = 5) -> Path:
    """A MOTChallenge folder with one walking square."""
    from PIL import Image

    (folder / "SEQ/img1").mkdir(parents=True)
    (folder / "SEQ/gt").mkdir()
    lines = []
    for frame in range(frames):
        picture = np.full((60, 80, 3), 90, np.uint8)
        picture[20:40, 10 + 5 * frame : 22 + 5 * frame] = 250
        Image.fromarray(picture).save(folder / f"SEQ/img1/{frame + 1:06}.png")
        lines.append(f"{frame + 1},1,{10 + 5 * frame},20,12,20,1,1,1")
    (folder / "SEQ/gt/gt.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    """As it is, boxes lie where the square is; changed, they still do, wherever it went."""
    folder = folder_of_pictures(tmp_path / "mine")
    plain = scenes(data=str(folder), augment=False, strides=(1,), batch=1)
    for clip, [frames] in Clips(plain, HERE).after(0):
        for picture, frame in zip(clip[0], frames, strict=True):
            [[x1, y1, x2, y2]] = frame["boxes"].round().int().tolist()
            bright = picture.mean(0) > 1.0
            assert bright[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].all()
            assert bright.sum() <= 1.3 * (x2 - x1) * (y2 - y1)
    changed = list(Clips(scenes(data=str(folder), batch=1), HERE).after(0))
    assert len(changed) == 5
    assert all(clip.shape == (1, 3, 3, 64, 96) for clip, _ in changed)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        data.data_of(scenes(data=str(tmp_path / "nowhere")))
