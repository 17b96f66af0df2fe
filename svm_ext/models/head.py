"""The head: class, box and objectness at every cell of three maps, and what they mean in pixels.

A *prior* is a cell of a map: its corner (x, y) in pixels and its stride. Letters: N images (B, or B*T of a
clip), P priors of all levels, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .neck import ConvModule, each_frame


class HeadMaps(NamedTuple):
    """What the head says as it says it, one map a level: of frames, or with [B, T] in front of clips."""

    cls: list[Tensor]  # logits [B, K, h, w]
    box: list[Tensor]  # centre relative to the cell and logarithm of the size, in strides [B, 4, h, w]
    obj: list[Tensor]  # logits [B, 1, h, w]


class Predictions(NamedTuple):
    """What the head says of every prior, at least in fp32."""

    boxes: Tensor  # [N, P, 4] x1 y1 x2 y2 in pixels
    cls: Tensor  # logits [N, P, K]
    obj: Tensor  # logits [N, P]
    raw: Tensor  # the boxes before decoding [N, P, 4]
    priors: Tensor  # [P, 3] x, y, stride


class DecoupledHead(nn.Module):
    """For every level a tower of convolutions for the class and one for box and objectness."""

    def __init__(self, num_classes: int, channels: int, levels: int = 3, depth: int = 2) -> None:
        super().__init__()
        self.multi_level_cls_convs = nn.ModuleList([_tower(channels, depth) for _ in range(levels)])
        self.multi_level_reg_convs = nn.ModuleList([_tower(channels, depth) for _ in range(levels)])
        self.multi_level_conv_cls = nn.ModuleList([nn.Conv2d(channels, num_classes, 1) for _ in range(levels)])
        self.multi_level_conv_reg = nn.ModuleList([nn.Conv2d(channels, 4, 1) for _ in range(levels)])
        self.multi_level_conv_obj = nn.ModuleList([nn.Conv2d(channels, 1, 1) for _ in range(levels)])
        rare = -math.log(0.99 / 0.01)  # at first a cell believes in one object in a hundred
        for level in range(levels):
            nn.init.constant_(self.multi_level_conv_cls[level].bias, rare)
            nn.init.constant_(self.multi_level_conv_reg[level].bias, 0)
            nn.init.constant_(self.multi_level_conv_obj[level].bias, rare)

    def forward(self, maps: Sequence[Tensor]) -> HeadMaps:
        """Return the predictions on maps [B, C, h, w] or [B, T, C, h, w], from fine to coarse."""
        cls_features = [tower(x) for tower, x in zip(self.multi_level_cls_convs, maps, strict=True)]
        reg_features = [tower(x) for tower, x in zip(self.multi_level_reg_convs, maps, strict=True)]
        return HeadMaps(
            cls=[each_frame(conv, x) for conv, x in zip(self.multi_level_conv_cls, cls_features, strict=True)],
            box=[each_frame(conv, x) for conv, x in zip(self.multi_level_conv_reg, reg_features, strict=True)],
            obj=[each_frame(conv, x) for conv, x in zip(self.multi_level_conv_obj, reg_features, strict=True)],
        )


def _tower(channels: int, depth: int) -> nn.Sequential:
    return nn.Sequential(*(ConvModule(channels, channels, 3) for _ in range(depth)))


def decode(maps: HeadMaps, strides: Sequence[int]) -> Predictions:
    """Return what the head's maps say in pixels; the shapes depend on nothing but the maps' shapes."""
    cls, raw, obj = (_by_prior(levels) for levels in maps)
    sizes = [x.shape[-2:] for x in maps.obj]
    priors = priors_of(sizes, strides, raw.device, raw.dtype)
    corner, stride = priors[:, :2], priors[:, 2:]
    centre = raw[..., :2] * stride + corner  # [N, P, 2]
    half = raw[..., 2:].exp() * (stride / 2)
    return Predictions(torch.cat([centre - half, centre + half], dim=-1), cls, obj[..., 0], raw, priors)


def _by_prior(levels: Sequence[Tensor]) -> Tensor:
    """Join the maps [B, C, h, w] or [B, T, C, h, w] of all levels to [N, P, C]."""
    wide = torch.promote_types(levels[0].dtype, torch.float32)
    return torch.cat([x.to(wide).flatten(0, -4).flatten(2) for x in levels], dim=2).transpose(1, 2)


def priors_of(
    sizes: Sequence[tuple[int, int]], strides: Sequence[int], device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Return x, y and stride [P, 3] of the cells of maps of these sizes (h, w), level by level, row by row."""
    levels = []
    for (height, width), stride in zip(sizes, strides, strict=True):
        y = torch.arange(height, device=device, dtype=dtype)[:, None].expand(height, width)
        x = torch.arange(width, device=device, dtype=dtype).expand(height, width)
        levels.append(torch.stack([x * stride, y * stride, torch.full_like(x, stride)], dim=-1).flatten(0, 1))
    return torch.cat(levels)
