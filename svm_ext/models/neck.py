"""The neck: a path aggregation network that lets three feature maps of strides 8, 16 and 32 see each other.

All modules here take frames [B, C, h, w] or clips [B, T, C, h, w]; modules and parameters have the names of
the released checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .frame_norm import FrameBatchNorm


def each_frame(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a layer that takes pictures to frames [B, C, h, w] or to all frames of a clip [B, T, C, h, w]."""
    return layer(x.flatten(0, -4)).unflatten(0, x.shape[:-3])


class ConvModule(nn.Module):
    """Convolution without bias, batch norm, SiLU."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, kernel, stride, kernel // 2, bias=False)
        self.bn = FrameBatchNorm(out_channels, momentum=0.03, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of out_channels, smaller by the stride."""
        return F.silu(self.bn(each_frame(self.conv, x)))


class Bottleneck(nn.Module):
    """A 1x1 and a 3x3 convolution, without a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvModule(channels, channels, 1)
        self.conv2 = ConvModule(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the same shape."""
        return self.conv2(self.conv1(x))


class CspLayer(nn.Module):
    """Two paths of half the width, one of them through bottlenecks, joined by a 1x1 convolution."""

    def __init__(self, channels: int, out_channels: int, blocks: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.main_conv = ConvModule(channels, half, 1)
        self.short_conv = ConvModule(channels, half, 1)
        self.final_conv = ConvModule(2 * half, out_channels, 1)
        self.blocks = nn.Sequential(*(Bottleneck(half) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of out_channels."""
        return self.final_conv(torch.cat([self.blocks(self.main_conv(x)), self.short_conv(x)], dim=-3))


class PathAggregation(nn.Module):
    """Maps of three scales, from fine to coarse, mixed top-down and then bottom-up; each gets out_channels."""

    def __init__(self, channels: Sequence[int], out_channels: int, csp_blocks: int) -> None:
        super().__init__()
        fine, middle, coarse = channels
        self.reduce_layers = nn.ModuleList([ConvModule(coarse, middle, 1), ConvModule(middle, fine, 1)])
        self.top_down_blocks = nn.ModuleList(
            [CspLayer(2 * middle, middle, csp_blocks), CspLayer(2 * fine, fine, csp_blocks)]
        )
        self.downsamples = nn.ModuleList([ConvModule(fine, fine, 3, stride=2), ConvModule(middle, middle, 3, stride=2)])
        self.bottom_up_blocks = nn.ModuleList(
            [CspLayer(2 * fine, middle, csp_blocks), CspLayer(2 * middle, coarse, csp_blocks)]
        )
        self.out_convs = nn.ModuleList([ConvModule(width, out_channels, 1) for width in channels])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return maps of the same sizes."""
        fine, middle, coarse = maps  # [B, C, 4h, 4w], [B, 2C, 2h, 2w], [B, 4C, h, w], with T in clips
        coarse = self.reduce_layers[0](coarse)
        middle = self.reduce_layers[1](self.top_down_blocks[0](_joined(_doubled(coarse), middle)))
        fine = self.top_down_blocks[1](_joined(_doubled(middle), fine))

        middle = self.bottom_up_blocks[0](_joined(self.downsamples[0](fine), middle))
        coarse = self.bottom_up_blocks[1](_joined(self.downsamples[1](middle), coarse))
        return [conv(x) for conv, x in zip(self.out_convs, (fine, middle, coarse), strict=True)]


def _joined(*maps: Tensor) -> Tensor:
    return torch.cat(maps, dim=-3)


def _doubled(x: Tensor) -> Tensor:
    """Show every pixel twice in both directions."""
    return F.interpolate(x.flatten(0, -4), scale_factor=2, mode="nearest").unflatten(0, x.shape[:-3])
