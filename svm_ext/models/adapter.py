"""The adapter: three feature maps of one scale become a pyramid of three scales."""

from __future__ import annotations

from torch import Tensor, nn

from .blocks import LayerNorm2d


class Adapter(nn.Module):
    """Doubles the resolution of the first map, keeps that of the second and halves that of the third."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fpn_adaptor_0 = nn.Sequential(
            nn.ConvTranspose2d(width, width // 2, 2, 2), *_smooth(width // 2, width // 2)
        )
        self.fpn_adaptor_1 = nn.Sequential(*_smooth(width, width))
        self.fpn_adaptor_2 = nn.Sequential(nn.MaxPool2d(2), *_smooth(width, 2 * width))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Take maps [B, C, h, w] to [B, C/2, 2h, 2w], [B, C, h, w] and [B, 2C, h/2, w/2]."""
        return [scale(x) for scale, x in zip(self.children(), maps, strict=True)]


def _smooth(inputs: int, outputs: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 1, bias=False),
        LayerNorm2d(outputs, eps=1e-6),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        LayerNorm2d(outputs, eps=1e-6),
    ]
