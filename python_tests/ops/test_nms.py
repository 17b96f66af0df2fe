"""nms: which boxes stay."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch import Tensor

import helpers
from helpers import BF16, FP32, FP64, NAN
from svm_ext import ops
from svm_ext.ops import _reference_nms

THRESHOLDS = [0.0, 0.005, 0.1, 0.5, 0.7, 1.0]
compiled = pytest.mark.parametrize("compiled", helpers.compiled_backends(), ids=lambda b: b.label)


def clustered(count: int, objects: int, dtype: torch.dtype = FP32) -> Tensor:
    """Boxes as a detector gives them: many around each object, of all sizes."""
    middle, size = torch.rand(objects, 2) * torch.tensor([1440.0, 800.0]), torch.rand(objects, 2) * 150 + 5
    which = torch.randint(objects, (count,))
    middle = middle[which] + torch.randn(count, 2) * size[which] * 0.15
    size = size[which] * torch.exp(torch.randn(count, 2) * 0.2)
    return torch.cat([middle - size / 2, middle + size / 2], 1).to(dtype)


def scores_with_ties(count: int, dtype: torch.dtype = FP32) -> Tensor:
    return (torch.rand(count) * 40).round().to(dtype) / 40


def greedy(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> list[int]:
    """Box by box in Python numbers, with a division."""
    rows, values, kept = boxes.double().tolist(), scores.tolist(), []
    for i in sorted(range(len(rows)), key=lambda i: (math.isnan(values[i]), -values[i], i)):
        if all(labels[i] != labels[j] or not iou(rows[i], rows[j]) > threshold for j in kept):
            kept.append(i)
    return kept


def iou(a: list[float], b: list[float]) -> float:
    if any(map(math.isnan, a + b)):
        return NAN
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    both = sum(max(x[2] - x[0], 0) * max(x[3] - x[1], 0) for x in (a, b)) - common
    return common / both if both > 0 else 0.0


@pytest.mark.parametrize("dtype", [FP32, FP64], ids=["fp32", "fp64"])
@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("count", [0, 1, 2, 17, 130])
def test_equals_the_greedy_rule(backend, count, threshold, dtype):
    boxes, scores = clustered(count, 6, dtype), scores_with_ties(count, dtype)
    labels = torch.randint(0, 3, (count,))
    kept = ops.nms(boxes, scores, labels, iou_threshold=threshold)
    assert kept.tolist() == greedy(boxes, scores, labels, threshold)


@compiled
@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("objects", [3, 30, 900])
def test_many_boxes_equal_the_oracle(compiled, objects, threshold):
    """Enough for a grid of tiles; clusters of hundreds and boxes that stand alone."""
    boxes, scores = clustered(1200, objects), scores_with_ties(1200)
    boxes[::300, :2], boxes[::300, 2:] = 0, 1500  # some as large as the picture
    groups = torch.zeros(1200, dtype=torch.int64)
    with compiled.selected():
        mask = ops.nms_mask(boxes, scores, iou_threshold=threshold)
    assert torch.equal(mask, _reference_nms.nms_mask(boxes, scores, groups, threshold))


def test_equal_iou_stays(backend):
    """The rule is `exceeds`: an IoU of exactly one half stays at one half."""
    boxes = torch.tensor([[0.0, 0, 100, 100], [0, 0, 100, 50], [0, 0, 100, 51]])
    assert ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), iou_threshold=0.5).tolist() == [0, 1]


def test_a_dropped_box_drops_nothing(backend):
    boxes = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]])  # neighbours overlap by 0.43, ends by 0.11
    assert ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), iou_threshold=0.4).tolist() == [0, 2]


def test_ties_keep_the_first(backend):
    boxes = torch.tensor([[0.0, 0, 10, 10]]).repeat(5, 1)
    assert ops.nms(boxes, torch.full((5,), 0.5)).tolist() == [0]


def test_nan_is_passed_through(backend):
    """A box with a NaN or an infinite corner is kept and drops nobody; a NaN score is the worst."""
    boxes = torch.tensor([[0.0, 0, 10, 10]]).repeat(7, 1)
    for i in range(4):
        boxes[i, i] = NAN
    boxes[4, 2] = math.inf
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, NAN, 0.1])
    assert ops.nms(boxes, scores, iou_threshold=0.5).tolist() == [0, 1, 2, 3, 4, 6]
    assert ops.nms(boxes, torch.full((7,), NAN), iou_threshold=0.5).tolist() == [0, 1, 2, 3, 4, 5]


def test_boxes_without_area(backend):
    """Points, lines and boxes turned inside out overlap nothing."""
    boxes = torch.tensor([[5.0, 5, 5, 5], [5, 5, 5, 5], [0, 5, 9, 5], [9, 9, 0, 0], [9, 9, 0, 0], [0, 0, 10, 10]])
    assert len(ops.nms(boxes, torch.rand(6), iou_threshold=0.0)) == 6


@compiled
def test_far_and_huge(compiled):
    """Coordinates that no picture has put all boxes into one tile, and change nothing else."""
    boxes, scores = clustered(400, 10), scores_with_ties(400)
    boxes[7] = torch.tensor([1e30, 1e30, 2e30, 2e30])
    boxes[8] = torch.tensor([-3e8, -3e8, 3e8, 3e8])
    boxes[9] = torch.tensor([5e8, 0, 5e8 + 64, 64])
    with compiled.selected():
        mask = ops.nms_mask(boxes, scores, iou_threshold=0.6)
    assert torch.equal(mask, _reference_nms.nms_mask(boxes, scores, torch.zeros(400, dtype=torch.int64), 0.6))


def test_labels_and_images_are_apart(backend):
    boxes = torch.tensor([[0.0, 0, 10, 10]]).repeat(6, 1)
    scores = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    labels, images = torch.tensor([-1, 0, 1, -1, 0, 1]), torch.tensor([0, 0, 0, 1, 1, 1])
    assert ops.nms(boxes, scores).tolist() == [5]
    assert ops.nms(boxes, scores, labels).tolist() == [5, 4, 3]
    assert ops.nms(boxes, scores, images=images).tolist() == [5, 2]
    assert ops.nms(boxes, scores, labels, images).tolist() == [5, 4, 3, 2, 1, 0]
    assert ops.nms(boxes, scores, labels.int(), images.int()).tolist() == [5, 4, 3, 2, 1, 0]


def test_any_strides_and_narrow_types(backend):
    boxes, scores = clustered(50, 3), scores_with_ties(50)
    expected = ops.nms(boxes, scores)
    assert torch.equal(ops.nms(boxes.T.contiguous().T, torch.stack([scores, scores], 1)[:, 1]), expected)
    narrow = boxes.to(BF16)
    assert torch.equal(ops.nms(narrow, scores), ops.nms(narrow.float(), scores))


@compiled
def test_same_input_same_bits(compiled):
    """The same boxes stay with any number of threads."""
    boxes, scores, labels = clustered(2000, 30), scores_with_ties(2000), torch.randint(0, 20, (2000,))
    threads = torch.get_num_threads()
    with compiled.selected():
        first = ops.nms_mask(boxes, scores, labels)
        try:
            for count in (1, 2, 7):
                torch.set_num_threads(count)
                assert torch.equal(ops.nms_mask(boxes, scores, labels), first)
        finally:
            torch.set_num_threads(threads)


def arguments(count: int = 40) -> tuple[Tensor, Tensor, Tensor, float]:
    return clustered(count, 3), scores_with_ties(count), torch.randint(0, 2, (count,)), 0.5


@pytest.mark.parametrize("namespace", ["svm_ext", "svm_ext_reference"])
def test_opcheck(namespace):
    torch.library.opcheck(getattr(torch.ops, namespace).nms_mask.default, arguments())


def test_compiles_in_one_piece(backend):
    def frame(boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        return boxes * ops.nms_mask(boxes, scores, labels, iou_threshold=0.5)[:, None]

    torch._dynamo.reset()
    boxes, scores, labels, _ = arguments()
    fast = torch.compile(frame, fullgraph=True, backend="aot_eager")
    assert torch.equal(fast(boxes, scores, labels), frame(boxes, scores, labels))


def test_vmap(backend):
    boxes, scores = torch.stack([clustered(30, 2) for _ in range(4)]), torch.rand(30)
    labels = torch.randint(-5, 5, (30, 4))
    expected = torch.stack([ops.nms_mask(boxes[x], scores, labels[:, x]) for x in range(4)])
    assert torch.equal(torch.vmap(ops.nms_mask, (0, None, 1))(boxes, scores, labels), expected)


def test_gradients_pass_it_by(backend):
    boxes = clustered(20, 2).requires_grad_()
    mask = ops.nms_mask(boxes, torch.rand(20, requires_grad=True))
    assert not mask.requires_grad
    boxes[mask].sum().backward()
    assert torch.equal(boxes.grad, mask[:, None].expand(-1, 4).float())


BAD = {
    "boxes: expected shape [n, 4], got [40, 5]": {"boxes": torch.zeros(40, 5)},
    "boxes: expected shape [n, 4], got [160]": {"boxes": torch.zeros(160)},
    "boxes: expected float32 or float64, got int64": {"boxes": torch.zeros(40, 4, dtype=torch.int64)},
    "scores: expected shape [n=40], got [39]": {"scores": torch.zeros(39)},
    "scores: expected float32 or float64, got int32": {"scores": torch.zeros(40, dtype=torch.int32)},
    "groups: expected int64, got float32": {"groups": torch.zeros(40)},
    "groups: expected shape [n=40], got [40, 1]": {"groups": torch.zeros(40, 1, dtype=torch.int64)},
    "threshold: expected a number, got nan": {"threshold": NAN},
}


@pytest.mark.parametrize("message", BAD)
@pytest.mark.parametrize("namespace", ["svm_ext", "svm_ext_reference"])
def test_bad_input(namespace, message):
    boxes, scores, groups, threshold = arguments()
    given = {"boxes": boxes, "scores": scores, "groups": groups, "threshold": threshold} | BAD[message]
    with pytest.raises(ValueError, match=f"^{re.escape(message)}; [^\n]+$"):
        getattr(torch.ops, namespace).nms_mask.default(**given)


@pytest.mark.parametrize("name", ["labels", "images"])
def test_bad_ids(name):
    boxes, scores, _, _ = arguments()
    with pytest.raises(ValueError, match=f"{name}: expected whole numbers"):
        ops.nms(boxes, scores, **{name: torch.rand(40)})
    with pytest.raises(ValueError, match=rf"{name}: expected shape \[n=40\], got \[3\]"):
        ops.nms(boxes, scores, **{name: torch.zeros(3, dtype=torch.int64)})
