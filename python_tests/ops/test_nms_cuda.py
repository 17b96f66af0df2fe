"""nms on a GPU. Nothing here runs without one; it is then skipped, and says so."""

from __future__ import annotations

import pytest
import torch

import cuda_cases
from on_gpu import GPU, MARKS
from svm_ext import ops

pytestmark = MARKS


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.7])
@pytest.mark.parametrize(("count", "groups"), [*cuda_cases.BOXES, (5000, 1), (5000, 80)])
def test_equals_reference(count: int, groups: int, dtype: torch.dtype, threshold: float) -> None:
    cuda_cases.check_nms(torch.ops.svm_ext, count, groups, dtype, threshold, GPU)


def test_best_first_and_by_label_and_image() -> None:
    corners = torch.rand(300, 2) * 50
    boxes, scores = torch.cat([corners, corners + 20 * torch.rand(300, 2)], 1), torch.rand(300)
    labels, images = torch.randint(5, (300,)), torch.randint(3, (300,))
    expected = ops.nms(boxes, scores, labels, images, 0.5)
    found = ops.nms(*(x.to(GPU) for x in (boxes, scores, labels, images)), 0.5)
    assert found.tolist() == expected.tolist()


def test_replays_in_a_graph() -> None:
    corners = torch.rand(300, 2, device=GPU) * 50
    boxes = torch.cat([corners, corners + 20 * torch.rand(300, 2, device=GPU)], 1)
    scores, groups = torch.rand(300, device=GPU), torch.randint(3, (300,), device=GPU)
    arguments = boxes, scores, groups, 0.5
    torch.ops.svm_ext.nms_mask(*arguments)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = torch.ops.svm_ext.nms_mask(*arguments)
    for _ in range(3):
        scores.uniform_()
        graph.replay()
        assert torch.equal(found, torch.ops.svm_ext.nms_mask(*arguments))
