"""The transformer block and its parts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Past
from .windows import Windows

_SLOPE = 1.702  # x * sigmoid(1.702 x) is nearly the GELU


class QuickGELU(nn.Module):
    """CLIP's activation, x * sigmoid(1.702 x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of each element."""
        return F.silu(_SLOPE * x) / _SLOPE


class MLP(nn.Module):
    """Two linear layers with a QuickGELU between them.

    QuickGELU(x) = silu(1.702 x) / 1.702, and matrix products multiply by a number for free: what is left to
    do on the wide hidden layer is one pass.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, hidden)
        self.c_proj = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Treat each token alone, [B, L, C]."""
        wide = torch.addmm(self.c_fc.bias, x.flatten(0, 1), self.c_fc.weight.t(), beta=_SLOPE, alpha=_SLOPE)
        wide = F.silu(wide, inplace=not wide.requires_grad)  # [B*L, hidden]
        return torch.addmm(self.c_proj.bias, wide, self.c_proj.weight.t(), alpha=1 / _SLOPE).view(x.shape)


class DropPath(nn.Module):
    """In training lets a sample skip a residual branch with probability `chance`; the others make up for it."""

    def __init__(self, chance: float) -> None:
        super().__init__()
        self.chance = chance

    def forward(self, x: Tensor) -> Tensor:
        """Return x [B, L, C] with 0 for the samples that skip."""
        if not self.training:
            return x
        kept = x.new_empty(x.shape[0], 1, 1).bernoulli_(1 - self.chance)
        return x * kept / (1 - self.chance)


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of each pixel of [B, C, h, w]."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; where channels lie innermost in memory, as here they do, nothing moves."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvBlock(nn.Module):
    """Three convolutions around which a residual runs; the only way across windows. Starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = width // 2
        self.conv1, self.norm1 = nn.Conv2d(width, inner, 1, bias=False), LayerNorm2d(inner, eps=1e-6)
        self.conv2, self.norm2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False), LayerNorm2d(inner, eps=1e-6)
        self.conv3, self.norm3 = nn.Conv2d(inner, width, 1, bias=False), LayerNorm2d(width, eps=1e-6)
        for conv in (self.conv1, self.conv2, self.conv3):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.norm3.weight)

    def forward(self, x: Tensor, windows: Windows) -> Tensor:
        """Add what a token's neighbours in the picture say, [B, L, C]."""
        y = windows.to_grid(x).permute(0, 3, 1, 2)  # [B, C, h, w]
        y = F.gelu(self.norm1(self.conv1(y)))
        y = F.gelu(self.norm2(self.conv2(y)))
        y = self.norm3(self.conv3(y))
        return x + windows.from_grid(y.permute(0, 2, 3, 1))


class Block(nn.Module):
    """A transformer block: attention, MLP and, where there is one, a conv block."""

    def __init__(self, attn: nn.Module, width: int, hidden: int, drop_path: float, conv: bool) -> None:
        super().__init__()
        self.attn = attn
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = MLP(width, hidden)
        self.drop = DropPath(drop_path) if drop_path else nn.Identity()
        self.residual_block = ConvBlock(width) if conv else None

    def forward(self, x: Tensor, windows: Windows, past: Past | None) -> Tensor:
        """Mix tokens within the frame and with the past, then each for itself, [B, L, C]."""
        x = x + self.drop(self.attn(self.ln_1(x), windows, past))
        x = x + self.drop(self.mlp(self.ln_2(x)))
        return x if self.residual_block is None else self.residual_block(x, windows)
