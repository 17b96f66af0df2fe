"""What the temporal branch sees besides its own frame: a memory, or the other frames of a clip.

Each function here returns the `attend` that the blocks are handed: attend(layer, q, k, v, pad) takes q, k and v of
all windows [B*W, H, N, D], with the key and value `pad` of positions beyond the picture, and returns what q finds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from .. import ops
from ..memory import StreamMemory, Streams
from ..ops import _padding
from .attention import Pad
from .windows import Windows

Attend = Callable[[int, Tensor, Tensor, Tensor, Pad], Tensor]


def in_memory(memory: StreamMemory, streams: Streams) -> Attend:
    """See this and past frames of each stream; the frame becomes part of the memory."""

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor, pad: Pad) -> Tensor:
        return memory.stream_step(layer, q, k, v, streams, pad=pad)

    return attend


def in_clip(frames: int, windows: Windows, memory_frames: int, evict: str) -> Attend:
    """See what a memory would hold at each frame of a clip; B counts the frames of all clips."""
    real, count = _real(windows), len(windows.real)

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor, pad: Pad) -> Tensor:
        clips = (len(q) // (frames * count), frames, count)
        q, k, v = (x.unflatten(0, clips) for x in (q, k, v))  # [B, T, W, H, N, D]
        return ops.clip_attend(q, k, v, real, *pad, memory_frames=memory_frames, evict=evict).flatten(0, 2)

    return attend


def in_whole_clip(frames: int, windows: Windows) -> Attend:
    """See all frames of the clip, later ones too; gradients flow to keys and values."""
    side, count = windows.side, len(windows.real)
    inside = _padding.inside(torch.tensor(windows.real, device=windows.device), side)  # [W, n, n]
    inside = inside.flatten(1)[:, None, :, None]  # [W, 1, N, 1]

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor, pad: Pad) -> Tensor:
        if not windows.whole:
            k, v = (
                torch.where(inside, x.unflatten(0, (len(x) // count, count)), beyond[:, None].to(x.dtype)).flatten(0, 1)
                for x, beyond in zip((k, v), pad, strict=True)
            )
        sizes = dict(t=frames, w=count, r=side, c=side)
        return _plane("w c", "r", (q, k, v), sizes) + _plane("w r", "c", (q, k, v), sizes)

    return attend


def _plane(fixed: str, free: str, tokens: Sequence[Tensor], sizes: dict[str, int]) -> Tensor:
    """Attend in one plane: across all frames, and along the `free` axis of a window."""
    windowed, planar = "(b t w) h (r c) d", f"(b {fixed}) h (t {free}) d"
    q, k, v = (rearrange(x, f"{windowed} -> {planar}", **sizes) for x in tokens)  # [B*W*n, H, T*n, D]
    return rearrange(F.scaled_dot_product_attention(q, k, v), f"{planar} -> {windowed}", **sizes)


def _real(windows: Windows) -> Tensor | None:
    """Return the real rows and columns of each window as the ops take them, int32 [W, 2]."""
    return None if windows.whole else torch.tensor(windows.real, dtype=torch.int32, device=windows.device)
