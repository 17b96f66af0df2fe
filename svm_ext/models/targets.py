"""What a picture should show: its true boxes, checked before training sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

Targets = Mapping[str, Tensor]  # boxes [n, 4] x1 y1 x2 y2 in pixels, labels [n]; what else is there is ignored


def flat_targets(targets: Sequence[Any], shape: Sequence[int], num_classes: int) -> list[Targets]:
    """Return the targets of images of this shape, [B] or [B, T], as one list of B or B*T."""
    _check_row(targets, shape[0], "B images")
    images = list(targets)
    if len(shape) == 2:
        for row in targets:
            _check_row(row, shape[1], "T frames")
        images = [image for row in targets for image in row]
    for image in images:
        _check(image, num_classes)
    return images


def _check_row(row: Any, count: int, what: str) -> None:
    if not isinstance(row, (list, tuple)):
        remedy = "give one dict an image, and for clips a list of T for each of B"
        raise ValueError(f"targets: expected a list for {what}, got {_told(row)}; {remedy}")
    if len(row) != count:
        remedy = "an image that shows nothing has boxes [0, 4] and labels [0]"
        raise ValueError(f"targets: expected {count} for {what}, got {len(row)}; {remedy}")


def _check(image: Any, num_classes: int) -> None:
    if not isinstance(image, Mapping) or not {"boxes", "labels"} <= set(image):
        raise ValueError(f"targets: expected a dict with boxes and labels of each image, got {_told(image)}; pass both")
    boxes, labels = image["boxes"], image["labels"]
    for name, tensor in (("boxes", boxes), ("labels", labels)):
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{name}: expected a tensor, got {_told(tensor)}; convert it with torch.as_tensor")
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes: expected shape [n, 4], got {list(boxes.shape)}; give x1, y1, x2, y2 a row")
    if labels.shape != boxes.shape[:1]:
        raise ValueError(f"labels: expected shape [n={len(boxes)}], got {list(labels.shape)}; there is one label a box")
    if labels.device.type != "cpu" or not len(labels):  # values on a GPU would have to be waited for
        return
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        got = low if low < 0 else high
        raise ValueError(f"labels: expected 0 to {num_classes - 1}, got {got}; num_classes is {num_classes}")


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a dict of {', '.join(map(str, value)) or 'nothing'}"
    return f"a {type(value).__name__}"
