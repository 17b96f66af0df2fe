"""The clips of a training, in an order that depends on the seed alone: not on workers, processes or restarts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..data.augment import AugmentConfig, AugmentedClips
from ..data.clips import ClipDataset
from ..data.loader import Order, collate
from ..data.mot import read_videos
from ..data.rendered import RenderedClips, is_rendered
from ..data.scenes import SceneConfig, SceneDataset
from ..data.videos import Target
from ..stream.prepare import MEAN, STD

if TYPE_CHECKING:
    from .config import TrainConfig
    from .ranks import Ranks

# A picture is scaled to fit, and nothing else happens to it.
_AS_IT_IS = dict(
    mosaic=0.0,
    rotation=0.0,
    scale=(1.0, 1.0),
    shear=0.0,
    shift=0.0,
    mixup=0.0,
    hue=0,
    saturation=0,
    brightness=0,
    flip=0.0,
)


class Clips:
    """Prepared batches of clips on the training's device."""

    def __init__(self, config: TrainConfig, ranks: Ranks) -> None:
        self._data, self._workers, self._device = data_of(config), config.workers, ranks.device
        self._order = Order(len(self._data), config.batch, config.epochs, config.seed, ranks.rank, ranks.count)
        self._mean, self._std = (
            torch.tensor(values, device=ranks.device)[:, None, None] for values in (MEAN, STD)
        )  # [3, 1, 1]

    @property
    def batches_an_epoch(self) -> int:
        """Batches of one epoch."""
        return self._order.batches_an_epoch

    def after(self, position: int) -> Iterator[tuple[Tensor, list[list[Target]]]]:
        """Yield the batches after the first `position`: clip [B, T, 3, H, W] normalised, targets [B][T]."""
        self._order.position = position
        loader = DataLoader(
            self._data,
            batch_sampler=self._order,
            num_workers=self._workers,
            collate_fn=collate,
            # Its own generator: starting the workers draws a number, which a resumed training would draw once more.
            generator=torch.Generator().manual_seed(0),
            pin_memory=self._device.type == "cuda",
        )
        for frames, targets in loader:
            pixels = frames.to(self._device, non_blocking=True)
            yield (pixels - self._mean) / self._std, [[self._moved(target) for target in row] for row in targets]

    def _moved(self, target: Target) -> Target:
        return {name: value.to(self._device, non_blocking=True) for name, value in target.items()}


def data_of(config: TrainConfig) -> Any:
    """Return the data set that a configuration names: `data[epoch, index]` is (clip uint8 [T, 3, H, W], T targets)."""
    if config.data == "scenes":
        return SceneDataset(
            config.seed,
            SceneConfig(size=config.size),
            clip_frames=config.clip_frames,
            length=config.clips,
            strides=(min(config.strides), max(config.strides)),
        )
    if is_rendered(config.data):
        return RenderedClips(config.data, clip_frames=config.clip_frames, seed=config.seed)
    clips = ClipDataset(
        read_videos(config.data),
        clip_frames=config.clip_frames,
        strides=(min(config.strides), max(config.strides)),
        sample=config.sample,
        seed=config.seed,
    )
    if not len(clips):
        raise ValueError(f"data: expected annotated videos in {config.data}, got none; try svm-ext data check")
    recipe = AugmentConfig.for_size(*config.size) if config.augment else AugmentConfig(size=config.size, **_AS_IT_IS)
    return AugmentedClips(clips, recipe, seed=config.seed)
