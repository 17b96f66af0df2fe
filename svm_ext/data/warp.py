"""Pictures under matrices: sampling without aliasing, and what becomes of boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .videos import Clip

_BLOCK = 1 << 16  # pixels of the result that are worked on at a time, so that what comes in between stays in the cache


class Layer(NamedTuple):
    """A clip's place in a result."""

    source: int  # which clip
    matrix: np.ndarray  # float64 [3, 3], affine: from the clip's pixels to the result's, corners at whole numbers
    rect: tuple[float, float, float, float]  # what is to be seen of the clip, x1 y1 x2 y2 in its own pixels


def render(layers: Sequence[Layer], clips: Sequence[Clip | None], size: tuple[int, int], fill: int) -> Tensor:
    """Return all layers laid over each other, float [T, 3, H, W]."""
    frames = next(len(clip[0]) for clip in clips if clip is not None)
    out = torch.full((frames, 3, *size), float(fill))
    for layer in layers:
        clip = clips[layer.source]
        assert clip is not None
        _lay(out, clip[0], layer)
    return out


def _lay(out: Tensor, pictures: Tensor, layer: Layer) -> None:
    """Lay pictures uint8 [T, 3, h, w] on out [T, 3, H, W], within the part of out that they reach."""
    x1, y1, x2, y2 = _reach(layer, tuple(out.shape[2:]))
    if x1 >= x2 or y1 >= y2:
        return
    back = np.linalg.inv(layer.matrix)
    halvings = _coarseness(back)
    left, top, right, bottom = layer.rect
    rows = max(_BLOCK // ((x2 - x1) * len(pictures)), 1)
    for start in range(y1, y2, rows):
        stop = min(start + rows, y2)
        x, y = (torch.arange(low, high, dtype=torch.float32) + 0.5 for low, high in ((x1, x2), (start, stop)))
        u, v = (float(of[0]) * x[None, :] + (float(of[1]) * y + float(of[2]))[:, None] for of in back[:2])  # [h', w']
        shown = (u >= left) & (u < right) & (v >= top) & (v < bottom)
        if shown.any():
            place = out[:, :, start:stop, x1:x2]
            place.copy_(torch.where(shown, _sampled(pictures, u, v, halvings), place))


def _reach(layer: Layer, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the part of the result that a layer may touch, in whole pixels."""
    left, top, right, bottom = layer.rect
    corners = _corners(np.array([[left, top, right, bottom]]), layer.matrix)[0]  # [4, 2]
    low, high = np.floor(corners.min(0)), np.ceil(corners.max(0))
    (x1, y1), (x2, y2) = low.clip(0, size[::-1]).astype(int), high.clip(0, size[::-1]).astype(int)
    return int(x1), int(y1), int(x2), int(y2)


def _coarseness(back: np.ndarray) -> int:
    """Return how often pictures are to be halved before every second of their pixels would be skipped."""
    step = float(np.sqrt(abs(np.linalg.det(back[:2, :2]))))
    return max(int(np.floor(np.log2(step * 1.001))), 0) if step > 0 else 0


def _sampled(pictures: Tensor, u: Tensor, v: Tensor, halvings: int) -> Tensor:
    """Return pictures uint8 [T, 3, h, w] at the places u, v [h', w'], as float [T, 3, h', w']."""
    height, width = pictures.shape[2:]
    cell = 2**halvings
    # Only what is needed is turned into floats and halved.
    left, right = _span(u, width, cell)
    top, bottom = _span(v, height, cell)
    part = pictures[:, :, top:bottom, left:right].float()
    if halvings:
        part = F.avg_pool2d(part, cell, ceil_mode=True)
    across, down = ((at - start) * (2.0 / (cell * count)) - 1.0 for at, start, count in
                    ((u, left, part.shape[3]), (v, top, part.shape[2])))  # fmt: skip
    grid = torch.stack([across, down], dim=-1)  # [h', w', 2], -1 to 1 from edge to edge
    return F.grid_sample(
        part, grid.expand(len(part), -1, -1, -1), mode="bilinear", padding_mode="border", align_corners=False
    )


def _span(at: Tensor, length: int, cell: int) -> tuple[int, int]:
    """Return the first pixel that is needed, a multiple of `cell`, and the one after the last."""
    low, high = int(at.min()) - 2 * cell, int(at.max()) + 2 * cell + 1
    start = min(max(low // cell * cell, 0), (length - 1) // cell * cell)
    return start, min(max(high, start + 1), length)


def moved_boxes(boxes: Tensor, layer: Layer, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return boxes [n, 4] around the moved corners of boxes, and which of them can be seen in the result, bool [n]."""
    given = boxes.double().numpy()
    left, top, right, bottom = layer.rect
    seen = (given[:, 0] < right) & (given[:, 1] < bottom) & (given[:, 2] > left) & (given[:, 3] > top)
    corners = _corners(given, layer.matrix)  # [n, 4, 2]
    moved = np.concatenate([corners.min(1), corners.max(1)], axis=1)
    seen &= (moved[:, 0] < size[1]) & (moved[:, 1] < size[0]) & (moved[:, 2] > 0) & (moved[:, 3] > 0)
    return torch.from_numpy(moved).float(), torch.from_numpy(seen)


def _corners(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return the moved corners [n, 4, 2] of boxes [n, 4]."""
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    return corners @ matrix[:2, :2].T + matrix[:2, 2]


def letterbox(clip: Clip, size: tuple[int, int], fill: int = 0) -> Clip:
    """Return a clip made to fit a size with its shape kept, at the upper left, the rest filled."""
    frames, targets = clip
    scale = min(size[0] / frames.shape[2], size[1] / frames.shape[3])
    whole = (0.0, 0.0, float(frames.shape[3]), float(frames.shape[2]))
    layer = Layer(0, np.diag([scale, scale, 1.0]), whole)
    pictures = render([layer], [clip], size, fill).round_().clamp_(0, 255).to(torch.uint8)
    return pictures, [{**target, "boxes": target["boxes"] * scale} for target in targets]
