"""Targets are refused in one line that says what is wrong, before anything is computed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from svm_ext.models.targets import flat_targets


def image(count: int = 2, label: int = 0) -> dict[str, Any]:
    return dict(boxes=torch.rand(count, 4), labels=torch.full((count,), label))


def test_images() -> None:
    images = [image(), image(0)]
    assert flat_targets(images, (2,), 1) == images
    assert flat_targets(tuple(images), (2,), 1) == images


def test_clips_become_one_list_stream_by_stream() -> None:
    a, b, c, d = (image(n) for n in range(4))
    assert flat_targets([[a, b], [c, d]], torch.Size([2, 2]), 1) == [a, b, c, d]


def test_whole_numbers_and_other_keys_are_fine() -> None:
    odd = dict(boxes=torch.ones(1, 4, dtype=torch.int64), labels=torch.zeros(1, dtype=torch.uint8), ids=[7])
    assert flat_targets([odd], (1,), 1) == [odd]


@pytest.mark.parametrize(
    ("targets", "shape", "message"),
    [
        (image(), (1,), "targets: expected a list for B images, got a dict of boxes, labels; give one dict an image"),
        ([image()], (2,), "targets: expected 2 for B images, got 1; an image that shows nothing has"),
        ([image()] * 2, (1, 2), "targets: expected 1 for B images, got 2"),
        ([image()], (1, 1), "targets: expected a list for T frames, got a dict"),
        ([[image()]], (1, 2), "targets: expected 2 for T frames, got 1"),
        ([[image()]], (1,), "targets: expected a dict with boxes and labels of each image, got a list"),
        ([None], (1,), "got a NoneType"),
        ([{}], (1,), "got a dict of nothing"),
        ([dict(boxes=torch.rand(1, 4))], (1,), "targets: expected a dict .* got a dict of boxes; pass both"),
        ([dict(boxes=[[1, 2, 3, 4]], labels=[0])], (1,), "boxes: expected a tensor, got a list"),
        ([dict(boxes=torch.rand(1, 4), labels=0)], (1,), "labels: expected a tensor, got a int"),
        ([dict(boxes=torch.zeros(0), labels=torch.zeros(0))], (1,), r"boxes: expected shape \[n, 4\], got \[0\]"),
        ([dict(boxes=torch.rand(2, 5), labels=torch.zeros(2))], (1,), r"boxes: expected shape \[n, 4\], got \[2, 5\]"),
        ([dict(boxes=torch.rand(2, 4), labels=torch.zeros(3))], (1,), r"labels: expected shape \[n=2\], got \[3\]"),
        ([image(label=3)], (1,), "labels: expected 0 to 2, got 3; num_classes is 3"),
        ([image(label=-1)], (1,), "labels: expected 0 to 2, got -1"),
    ],
)
def test_refused(targets: Any, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        flat_targets(targets, shape, 3)
    assert "\n" not in str(raised.value)
