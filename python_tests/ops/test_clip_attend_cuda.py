"""clip_attend and its backward on a GPU. Nothing here runs without one; it is then skipped, and says so."""

from __future__ import annotations

import pytest
import torch

import cuda_cases
import helpers
from cuda_cases import FEW, Clip
from on_gpu import GPU, MARKS
from svm_ext import ops

pytestmark = MARKS
OPS = torch.ops.svm_ext


@pytest.mark.parametrize("case", cuda_cases.CLIPS, ids=str)
def test_equals_oracle(case: Clip) -> None:
    cuda_cases.check_clip(OPS, case, GPU)


@pytest.mark.parametrize("evict", ["fifo", "clear"])
@pytest.mark.parametrize("dim", [64, 128])
def test_many_units_equal_oracle(evict: str, dim: int) -> None:
    """Frames of one unit are done by blocks that come round more than once."""
    cuda_cases.check_clip(OPS, Clip(batch=2, frames=8, windows=2, heads=6, dim=dim, evict=evict, memory_frames=5), GPU)


def test_same_input_same_bits() -> None:
    torch.manual_seed(1)
    first = cuda_cases.check_clip(OPS, FEW, GPU)
    torch.manual_seed(1)
    for a, b in zip(first, cuda_cases.check_clip(OPS, FEW, GPU), strict=True):
        helpers.assert_same(a, b)


def test_gradient_comes_by_autograd() -> None:
    q, k, v, dout = torch.randn(4, 1, 3, 2, 2, 49, 64, device=GPU).bfloat16()
    q.requires_grad_()
    ops.clip_attend(q, k, v, memory_frames=2).backward(dout)
    settings = 64**-0.5, 2, 2
    results = OPS.clip_attend(q.detach(), k, v, None, None, None, *settings, True)
    expected = OPS.clip_attend_backward(dout, q.detach(), k, v, None, None, None, *results, *settings)
    helpers.assert_same(q.grad, expected)
