"""The same ops as a user of torch writes them: what ours are compared with.

    eager   the way of the reference model: lists of frames, stack, rearrange, softmax between two matmuls
    sdpa    the library's attention on zero-copy views of a pool that lies as [.., row, frame, column, dim]
    flex    FlexAttention, compiled, with a mask for the row and one for the column (GPU)
    index   `pool[:, slot] = k`, for the append alone
    loop    for nms: take the best box, drop what overlaps it, repeat

Each is given what it needs to be fast: memories in the layout that suits it, no conversions, no checks, and
Python numbers for the ring's slots. Letters: B windows of all streams, H heads, n window side, T frames,
D head dim; q, k and v are [B, H, n*n, D] with the strides of a projection's output.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-2, -1)).softmax(-1) @ v


class FrameLists:
    """A memory as two lists of frames [B, H, n*n, D]."""

    def __init__(self, keys: list[Tensor], values: list[Tensor], capacity: int, evict: str = "merge") -> None:
        self.keys, self.values, self.capacity, self.evict = keys, values, capacity, evict

    def append(self, k: Tensor, v: Tensor) -> None:
        """Append a frame; a full memory averages its oldest frame into the next-oldest, or drops it."""
        for frames, new in ((self.keys, k), (self.values, v)):
            if len(frames) == self.capacity:
                oldest = frames.pop(0)
                if frames and self.evict == "merge":
                    frames[0] = (frames[0] + oldest) / 2
            frames.append(new.detach())

    def attend(self, q: Tensor) -> Tensor:
        """Attend all frames in both planes."""
        n, q = isqrt(q.shape[2]), q * q.shape[3] ** -0.5
        k, v = torch.stack(self.keys, dim=1), torch.stack(self.values, dim=1)  # [B, T, H, n*n, D]
        column = _attention(
            rearrange(q, "b h (r c) d -> (b c) h r d", r=n),
            rearrange(k, "b t h (r c) d -> (b c) h (t r) d", r=n),
            rearrange(v, "b t h (r c) d -> (b c) h (t r) d", r=n),
        )
        row = _attention(
            rearrange(q, "b h (r c) d -> (b r) h c d", r=n),
            rearrange(k, "b t h (r c) d -> (b r) h (t c) d", r=n),
            rearrange(v, "b t h (r c) d -> (b r) h (t c) d", r=n),
        )
        # Tokens outside of heads, as the projection that follows wants them.
        out = rearrange(column, "(b c) h r d -> b (r c) h d", c=n) + rearrange(row, "(b r) h c d -> b (r c) h d", r=n)
        return out.transpose(1, 2)

    def step(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Append and attend."""
        self.append(k, v)
        return self.attend(q)


def eager_clip(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend a clip [B, T, W, H, n*n, D] frame by frame, each frame to those before it and itself."""
    memory = FrameLists([], [], q.shape[1])
    steps = zip(*(x.transpose(0, 1).flatten(1, 2) for x in (q, k, v)), strict=True)  # T times 3 of [B*W, H, n*n, D]
    out = torch.stack([memory.step(*frame) for frame in steps], dim=1)  # [B*W, T, H, n*n, D]
    return out.unflatten(0, (q.shape[0], -1)).transpose(1, 2)


class RowPools:
    """A memory as two pools [B, H, n (row), T, n (column), D], of which both planes are views."""

    def __init__(self, keys: Tensor, values: Tensor, count: int, evict: str = "merge") -> None:
        self.keys, self.values, self.count, self.evict = keys, values, count, evict

    def append(self, k: Tensor, v: Tensor) -> None:
        """Write a frame into its ring slot."""
        n, frames = self.keys.shape[2], self.keys.shape[3]
        slot = self.count % frames
        for pool, new in ((self.keys, k), (self.values, v)):
            if self.count >= frames > 1 and self.evict == "merge":
                following = pool[:, :, :, (slot + 1) % frames]
                following.add_(pool[:, :, :, slot]).div_(2)
            pool[:, :, :, slot] = new.unflatten(2, (n, n))
        self.count += 1

    def attend(self, q: Tensor) -> Tensor:
        """Attend all slots in both planes; every slot holds a frame."""
        n = self.keys.shape[2]
        grid = q.unflatten(2, (n, n)).flatten(0, 1)  # [B*H, r, c, D]
        k, v = self.keys.flatten(0, 1), self.values.flatten(0, 1)  # [B*H, r, T, c, D]
        row = F.scaled_dot_product_attention(grid, k.flatten(2, 3), v.flatten(2, 3))  # [B*H, r, c, D]
        columns = (x.flatten(1, 2).transpose(1, 2) for x in (k, v))  # [B*H, c, r*T, D]
        column = F.scaled_dot_product_attention(grid.transpose(1, 2), *columns)  # [B*H, c, r, D]
        return (row + column.transpose(1, 2)).flatten(1, 2).unflatten(0, q.shape[:2])

    def step(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Append and attend."""
        self.append(k, v)
        return self.attend(q)


def sdpa_clip(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend a clip [B, T, W, H, n*n, D] in one go, by a mask that hides the frames to come."""
    batch, frames, windows, heads, tokens, _ = q.shape
    n = isqrt(tokens)
    time = torch.arange(frames, device=q.device).repeat_interleave(n)
    seen = time[:, None] >= time  # [T*n, T*n]
    grids = [x.unflatten(4, (n, n)) for x in (q, k.detach(), v.detach())]  # [B, T, W, H, r, c, D]
    row = [rearrange(x, "b t w h r c d -> (b w h) r (t c) d") for x in grids]
    column = [rearrange(x, "b t w h r c d -> (b w h) c (t r) d") for x in grids]
    row_out, column_out = (F.scaled_dot_product_attention(*x, attn_mask=seen) for x in (row, column))
    sizes = dict(b=batch, w=windows, h=heads, t=frames)
    out = rearrange(row_out, "(b w h) r (t c) d -> b t w (r c) h d", **sizes)
    out = out + rearrange(column_out, "(b w h) c (t r) d -> b t w (r c) h d", **sizes)
    return out.transpose(3, 4)


def flex_attend(shape: tuple[int, int], device: torch.device, *, compiled: bool = True) -> Callable[..., Tensor]:
    """Return an attend by FlexAttention for a window side n and T frames: q [B, H, n*n, D] over pools
    [B, H, n (row), T, n (column), D]."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    n, frames = shape
    planes = (
        lambda b, h, query, key: query // n == key // (frames * n),  # the same row
        lambda b, h, query, key: query % n == key % n,  # the same column
    )
    masks = [create_block_mask(plane, None, None, n * n, n * n * frames, device=str(device)) for plane in planes]
    attention = torch.compile(flex_attention) if compiled else flex_attention

    def attend(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        k, v = keys.flatten(2, 4), values.flatten(2, 4)  # [B, H, n*T*n, D]
        return attention(q, k, v, block_mask=masks[0]) + attention(q, k, v, block_mask=masks[1])

    return attend


class FramePools:
    """A memory as two pools [B, T, H, n*n, D], the usual layout of a cache; each frame of a window is one
    piece."""

    def __init__(self, keys: Tensor, values: Tensor, count: int, evict: str = "merge") -> None:
        self.keys, self.values, self.count, self.evict = keys, values, count, evict

    def append(self, k: Tensor, v: Tensor) -> None:
        """Write a frame into its ring slot."""
        frames = self.keys.shape[1]
        slot = self.count % frames
        for pool, new in ((self.keys, k), (self.values, v)):
            if self.count >= frames > 1 and self.evict == "merge":
                pool[:, (slot + 1) % frames].add_(pool[:, slot]).div_(2)
            pool[:, slot] = new
        self.count += 1


def nms_loop(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """Return the indices of the boxes [n, 4], at least one, that stay, best first; a box competes within its group."""
    # Groups are moved apart, so that boxes of different groups do not overlap; in fp64, for single precision has
    # too few digits for that and keeps other boxes.
    boxes = boxes.double()
    boxes = boxes + (groups * (boxes.max() - boxes.min() + 1))[:, None]
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    order, kept = scores.argsort(descending=True, stable=True), []
    while order.numel():
        best, rest = order[0], order[1:]
        kept.append(best)
        low = torch.maximum(boxes[rest, :2], boxes[best, :2])
        high = torch.minimum(boxes[rest, 2:], boxes[best, 2:])
        common = (high - low).clamp(min=0).prod(1)
        order = rest[common / (area[rest] + area[best] - common) <= threshold]
    return torch.stack(kept)
