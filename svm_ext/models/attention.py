"""Attention in windows: within the frame, and to what the model remembers.

`FrameAttention` is CLIP's attention, window by window. `StreamAttention` adds the paper's temporal branch: queries of
its own attend the keys and values of this and of past frames, in two axial planes. What is past, a memory or the
earlier frames of a clip, is known to the `Past` that is handed down, and only there. `ClipAttention` is the paper's
clip-based model, whose frames see later ones too.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .windows import Windows

Pad = tuple[Tensor, Tensor]  # key and value of every position beyond the picture, each [H, D]
Past = Callable[[Tensor, Tensor, Tensor, Pad], Tensor]  # q, k, v of a frame [B*W, H, N, D] to what q finds, the same


class FrameAttention(nn.Module):
    """Attention within the frame: every token sees the tokens of its window."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = _matrix(3 * width, width)  # rows for q, for k, for v
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = _out_projection(width)

    def forward(self, x: Tensor, windows: Windows, past: Past | None = None) -> Tensor:
        """Attend within the frame, [B, L, C]; what is past does not count."""
        q, k, v = project(x, self.in_proj_weight, self.in_proj_bias)
        return self.out_proj(self.in_frame(q, k, v, windows))

    def in_frame(self, q: Tensor, k: Tensor, v: Tensor, windows: Windows) -> Tensor:
        """Attend within windows, group by group of equal ones, [B, L, C]."""
        pad, seen = self.pad(), []
        for group, *tokens in zip(windows.groups, *map(windows.split, (q, k, v)), strict=True):
            own = (self.to_heads(x) for x in tokens)  # [B*windows, H, tokens, D]
            seen.append(merge_heads(attend_window(*own, pad, group.missing)))
        return windows.join(seen)

    def pad(self) -> Pad:
        """Return the key and the value of a position beyond the picture, where a token is 0: the biases."""
        _, k, v = self.in_proj_bias.unflatten(0, (3, self.heads, -1)).unbind()
        return k, v

    def to_heads(self, x: Tensor) -> Tensor:
        """Return [.., N, C] as [.., H, N, D]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)


class StreamAttention(FrameAttention):
    """Attention within the frame plus, scaled by alpha, to this and past frames."""

    def __init__(self, width: int, heads: int, cross_query: str, alpha_init: float) -> None:
        super().__init__(width, heads)
        self.cross_query = cross_query
        self.in_proj_weight_t = _matrix(width, width)
        self.in_proj_bias_t = nn.Parameter(torch.zeros(width))
        self.out_proj_t = _out_projection(width)
        self.alpha = nn.Parameter(torch.full((width,), alpha_init))

    def forward(self, x: Tensor, windows: Windows, past: Past) -> Tensor:
        """Attend within the frame and to the past, [B, L, C]."""
        q, k, v = project(x, self.in_proj_weight, self.in_proj_bias)
        own = self.in_frame(q, k, v, windows)
        asked = x if self.cross_query == "input" else own
        q_t = F.linear(asked, self.in_proj_weight_t, self.in_proj_bias_t)
        return self.add(own, self.across_frames(q_t, k, v, windows, past, self.pad()), windows)

    def across_frames(self, q: Tensor, k: Tensor, v: Tensor, windows: Windows, past: Past, pad: Pad) -> Tensor:
        """Attend to this and past frames, [B, L, C]; the class token does not take part."""
        q, k, v = (self.to_heads(windows.pad(x)) for x in (q, k, v))  # [B*W, H, N, D]
        return windows.unpad(merge_heads(past(q, k, v, pad)))

    def add(self, own: Tensor, seen: Tensor, windows: Windows) -> Tensor:
        """Return own + alpha * seen, each through its projection, [B, L, C]."""
        own, seen = self.out_proj(own), self.out_proj_t(seen)
        lead = own[:, : windows.lead]
        both = torch.addcmul(own[:, windows.lead :], self.alpha, seen)
        return torch.cat([lead, both], 1) if windows.lead else both


class ClipAttention(StreamAttention):
    """The temporal branch of the clip-based model: with keys and values of its own, of all frames of a clip."""

    def __init__(self, width: int, heads: int, alpha_init: float) -> None:
        super().__init__(width, heads, "input", alpha_init)
        self.in_proj_weight_t = _matrix(3 * width, width)
        self.in_proj_bias_t = nn.Parameter(torch.zeros(3 * width))

    def forward(self, x: Tensor, windows: Windows, past: Past) -> Tensor:
        """Attend within the frame and to all frames, [B, L, C]."""
        own = self.in_frame(*project(x, self.in_proj_weight, self.in_proj_bias), windows)
        _, k, v = self.in_proj_bias_t.unflatten(0, (3, self.heads, -1)).unbind()
        q_k_v = project(x, self.in_proj_weight_t, self.in_proj_bias_t)
        return self.add(own, self.across_frames(*q_k_v, windows, past, (k, v)), windows)


def project(x: Tensor, weight: Tensor, bias: Tensor) -> list[Tensor]:
    """Return q, k and v, each [B, L, C]; three products are no slower than one and need no wide buffer."""
    parts = zip(weight.unflatten(0, (3, -1)).unbind(), bias.unflatten(0, (3, -1)).unbind(), strict=True)
    return [F.linear(x, *part) for part in parts]


def attend_window(q: Tensor, k: Tensor, v: Tensor, pad: Pad, missing: int) -> Tensor:
    """Attend q to k, each [B, H, N, D], and to `missing` positions beyond the picture.

    They all have the key and the value `pad`; so one of them stands for all, with a logit that is larger by
    log(missing).
    """
    if not missing:
        return F.scaled_dot_product_attention(q, k, v)
    batch, _, tokens, _ = k.shape
    k, v = (
        torch.cat([x, p[:, None].to(x.dtype).expand(batch, -1, 1, -1)], 2) for x, p in zip((k, v), pad, strict=True)
    )
    # On the CPU the logarithm stays in fp32, where half precision would be off by a percent; GPU kernels want q's type.
    kind = torch.promote_types(q.dtype, torch.float32) if q.is_cpu else q.dtype
    bias = torch.zeros(1, tokens + 1, dtype=kind, device=q.device)
    bias[:, -1] = math.log(missing)
    with without_autocast(q):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def without_autocast(x: Tensor) -> torch.autocast:
    """Return a context in which nothing on x's device is narrowed."""
    return torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False)


def merge_heads(x: Tensor) -> Tensor:
    """Return [B, H, N, D] as [B, N, C]."""
    return x.transpose(1, 2).flatten(2)


def _matrix(rows: int, columns: int) -> nn.Parameter:
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(rows, columns)))


def _out_projection(width: int) -> nn.Linear:
    projection = nn.Linear(width, width)
    nn.init.zeros_(projection.bias)
    return projection
