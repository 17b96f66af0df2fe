"""nms: the best of boxes that overlap, class by class and image by image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import backend
from . import _library, _reference_nms, _triton_nms


def nms(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor | None = None,
    images: Tensor | None = None,
    iou_threshold: float = 0.7,
) -> Tensor:
    """Return the indices of the boxes [n, 4] (x1 y1 x2 y2) that stay, best score first.

    A box goes when its IoU with a better one that stays exceeds the threshold, both being of one label [n]
    and one image [n] where these are given. Of equal scores the first box counts as better; NaN scores come
    last, and a box with a NaN overlaps nothing. The number of results depends on the data: inside
    torch.compile take `nms_mask`.
    """
    order = _reference_nms.best_first(scores)
    return order[nms_mask(boxes, scores, labels, images, iou_threshold)[order]]


def nms_mask(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor | None = None,
    images: Tensor | None = None,
    iou_threshold: float = 0.7,
) -> Tensor:
    """Return [n] whether each box stays; the rest as in `nms`."""
    boxes, scores = _widened(boxes).contiguous(), _widened(scores)
    op = backend.ops_for("nms_mask", boxes).nms_mask.default
    return op(boxes, scores, _groups(boxes, labels, images), iou_threshold)


def _widened(x: Tensor) -> Tensor:
    """Convert the 16-bit types; box arithmetic has no use for them."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _groups(boxes: Tensor, labels: Tensor | None, images: Tensor | None) -> Tensor:
    """Fold label and image into one number [n]."""
    if labels is None and images is None:
        return torch.zeros(boxes.shape[:1], dtype=torch.int64, device=boxes.device)
    for name, ids in (("labels", labels), ("images", images)):
        if ids is None:
            continue
        if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
            raise ValueError(f"{name}: expected whole numbers, got {ids.dtype}; convert it with .long()")
        if ids.shape != boxes.shape[:1]:
            raise ValueError(
                f"{name}: expected shape [n={boxes.shape[0]}], got {list(ids.shape)}; there is one id a box"
            )
    if labels is None or images is None:
        return (images if labels is None else labels).long()
    if labels.numel() == 0:
        return labels.long()
    low, high = labels.long().aminmax()
    return images.long() * (high - low + 1) + (labels.long() - low)


def _fake(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    _reference_nms.check(boxes, scores, groups, threshold)
    return boxes.new_empty(boxes.shape[0], dtype=torch.bool)


def _vmap(ops: Any, info: Any, in_dims: tuple[int | None, ...], *given: Any) -> tuple[Tensor, int]:
    """Make the boxes of all x one list in which no two x share a group."""
    count, threshold = info.batch_size, given[3]
    boxes, scores, groups = (
        t.expand(count, *t.shape) if dim is None else t.movedim(dim, 0)
        for t, dim in zip(given[:3], in_dims[:3], strict=True)
    )
    dense = torch.unique(groups, return_inverse=True)[1]  # [X, n] less than the number of boxes
    dense = dense + dense.numel() * torch.arange(count, device=dense.device)[:, None]
    kept = ops.nms_mask.default(boxes.flatten(0, 1).contiguous(), scores.flatten(), dense.flatten(), threshold)
    return kept.unflatten(0, (count, -1)), 0


_library.add_op("nms_mask", fake=_fake, reference=_reference_nms.nms_mask, triton=_triton_nms.nms_mask, vmap=_vmap)
_library.detach_all_inputs("nms_mask")
