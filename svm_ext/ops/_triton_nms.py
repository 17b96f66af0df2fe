"""Launches the Triton kernels of nms; nothing is read back, so that they can be captured in a graph."""

from __future__ import annotations

from importlib import import_module

import torch
from torch import Tensor

from . import _reference_nms

_ROWS = 64  # boxes that one program compares with 32 others
_CHUNK = 512  # words of 32 boxes that are struck out at a time


def nms_mask(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """Return [n] which boxes stay: those that no better kept box of their own group overlaps."""
    _reference_nms.check(boxes, scores, groups, threshold)
    count = boxes.shape[0]
    kept = torch.empty(count, dtype=torch.bool, device=boxes.device)
    if not count:
        return kept
    kernels = import_module("svm_ext.kernels_triton.nms")
    order = _reference_nms.best_first(scores)
    words = -(-count // 32)
    overlaps = torch.empty(count, words, dtype=torch.uint32, device=boxes.device)  # a bit for each pair
    gone = torch.zeros(words, dtype=torch.int32, device=boxes.device).view(torch.uint32)
    limit = boxes.new_full((1,), threshold)  # a tensor: as a number it would lose its last digits
    with torch.cuda.device_of(boxes):
        # Not fused: where a product is rounded decides about boxes whose overlap is the threshold.
        kernels.nms_overlaps_kernel[(-(-count // _ROWS), words)](
            boxes[order], groups[order], limit, overlaps, count, words, ROWS=_ROWS, enable_fp_fusion=False
        )
        kernels.nms_select_kernel[(1,)](overlaps, gone, kept, count, words, CHUNK=_CHUNK)
    return kept.new_empty(count).scatter_(0, order, kept)
