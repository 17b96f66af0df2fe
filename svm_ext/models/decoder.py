"""The temporal decoder: a small transformer over one feature a frame, for tasks of a whole sequence.

The frames of a row may be fewer than the row is long; they stand at its end, so that the newest frame is always
the last. Letters: B rows, T places of a row, C width, H heads, D head dim.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import MLP


class DecoderBlock(nn.Module):
    """A pre-norm transformer block over frames."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.in_proj, self.out_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = MLP(width, 4 * width)
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """Mix the frames [B, T, C] that see each other, seen [B, 1, T, T], then each for itself."""
        projected = self.in_proj(self.ln_1(x)).unflatten(-1, (3, self.heads, -1))  # [B, T, 3, H, D]
        q, k, v = projected.permute(2, 0, 3, 1, 4)  # each [B, H, T, D]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        x = x + self.out_proj(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.ln_2(x))


class TemporalDecoder(nn.Module):
    """Mixes the features of a sequence's frames.

    Frame i has its own learned place in a sequence of `frames` frames. Sequences of other lengths use a table
    that is interpolated to theirs; with `causal`, where no frame may know how long the sequence becomes, they
    use its first places, and no frame sees a later one.
    """

    def __init__(self, width: int, heads: int, layers: int, frames: int, *, causal: bool = False) -> None:
        super().__init__()
        self.frames, self.causal = frames, causal
        self.ln_pre = nn.LayerNorm(width)
        self.positional_embedding = nn.Parameter(0.02 * torch.randn(frames, width))
        self.blocks = nn.ModuleList([DecoderBlock(width, heads) for _ in range(layers)])

    def forward(self, features: Tensor, held: Tensor) -> Tensor:
        """Return what every frame became, [B, T, C]; the last held [B] places of features [B, T, C] are
        frames."""
        length = features.shape[1]
        number = torch.arange(length, device=features.device) - (length - held[:, None])  # [B, T], of a frame: from 0
        real = number >= 0
        features = features.masked_fill(~real[..., None], 0)
        x = self.ln_pre(features) + self.positions(number.clamp(min=0), held[:, None])
        seen = real[:, None, None, :].expand(-1, 1, length, -1)  # [B, 1, T, T]
        if self.causal:
            seen = seen & torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
        seen = seen | torch.eye(length, dtype=torch.bool, device=x.device)  # a place without a frame sees itself
        for block in self.blocks:
            x = block(x, seen)
        return x

    def positions(self, number: Tensor, held: Tensor) -> Tensor:
        """Return the places of frames [B, T] in sequences of so many frames [B, 1], [B, T, C]."""
        table = self.positional_embedding
        if self.causal:
            return table[number]
        # As in the linear interpolation of pictures: frame i covers i to i + 1, the place of its middle counts.
        middle = ((number + 0.5) * (self.frames / held) - 0.5).clamp(0, self.frames - 1)  # [B, T]
        below = middle.floor().long()
        above = (below + 1).clamp(max=self.frames - 1)
        share = (middle - below)[..., None].to(table.dtype)
        return torch.lerp(table[below], table[above], share)
