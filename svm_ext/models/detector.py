"""Detector: S-ViT, a path aggregation neck and a decoupled head; frames in, boxes out.

A live video, frame by frame:

    memory = detector.new_memory(streams=1, image_size=(800, 1440))
    for frame in video:  # [1, 3, 800, 1440], normalised
        [found] = detector(frame, memory)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..memory import StreamMemory, Streams
from ._check import frames_fit
from .config import DetectorConfig
from .detections import Detections, best_of
from .head import DecoupledHead, HeadMaps, decode
from .losses import detection_losses
from .neck import PathAggregation
from .svit import SVit
from .targets import Targets, flat_targets


class Detector(nn.Module):
    """Finds the boxes in a frame, with what its memory holds of the frames before.

    Frames [B, 3, height, width] go with a memory, whose streams they continue; without one each is a picture
    by itself. A clip [B, T, 3, height, width] is its own past: its frames go through at once and give what
    they would give one by one.
    """

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DetectorConfig()
        width, patch = config.backbone.width, config.backbone.patch_size
        self.strides = (patch / 2, patch, patch * 2)  # pixels, of the three maps
        self.backbone = SVit(config.backbone)
        self.neck = PathAggregation((width // 2, width, 2 * width), config.neck_channels, config.csp_blocks)
        self.bbox_head = DecoupledHead(config.num_classes, config.neck_channels)

    @torch.no_grad()
    def forward(
        self, frames: Tensor, memory: StreamMemory | None = None, streams: Streams = None
    ) -> list[Detections] | list[list[Detections]]:
        """Return the detections of each frame; of a clip a list of T for each of B."""
        predictions = decode(self.raw(frames, memory, streams), self.strides)
        found = best_of(predictions, self.config.score_threshold, self.config.nms_threshold)
        if frames.ndim == 4:
            return found
        length = frames.shape[1]
        return [found[start : start + length] for start in range(0, len(found), length)]

    def raw(self, frames: Tensor, memory: StreamMemory | None = None, streams: Streams = None) -> HeadMaps:
        """Return the head's maps, undecoded: [B, C, h, w] a level, or [B, T, C, h, w] of a clip."""
        self._check(frames)
        if memory is not None:
            maps = self.backbone(frames, memory, streams)
        elif frames.ndim == 5:
            maps = self.backbone(frames)
        else:
            maps = [x[:, 0] for x in self.backbone(frames[:, None])]  # a clip of one frame
        return self.bbox_head(self.neck(maps))

    def loss(
        self,
        frames: Tensor,
        targets: Sequence[Targets] | Sequence[Sequence[Targets]],
        memory: StreamMemory | None = None,
        streams: Streams = None,
    ) -> dict[str, Tensor]:
        """Return loss_cls, loss_bbox, loss_obj (and loss_l1 where the configuration says so).

        Targets are a list over B of dicts with boxes [n, 4] in pixels and labels [n]; for a clip a list over B
        of lists over T of them. The losses of a clip are the sums of its frames' losses, so that their gradient
        is what a loop over the frames accumulates; divide by T for the mean. Batch norm takes its statistics
        frame by frame in both cases.
        """
        self._check(frames)
        images = flat_targets(targets, frames.shape[:-3], self.config.num_classes)
        predictions = decode(self.raw(frames, memory, streams), self.strides)
        length = frames.shape[1] if frames.ndim == 5 else 1
        return detection_losses(predictions, images, length, use_l1=self.config.use_l1)

    def new_memory(self, streams: int, image_size: tuple[int, int], **options: Any) -> StreamMemory:
        """Return an empty memory for so many streams of pictures (height, width); options as the backbone's."""
        return self.backbone.new_memory(streams, image_size, **options)

    def _check(self, frames: Tensor) -> None:
        frames_fit(frames, self.backbone.conv1.weight, self.config.backbone)
        side = 2 * self.config.backbone.patch_size
        height, width = frames.shape[-2:]
        if height % side or width % side:
            raise ValueError(
                f"frames: expected a height and a width that are multiples of {side}, got {height} x {width};"
                " pad right and bottom with zeros"
            )
