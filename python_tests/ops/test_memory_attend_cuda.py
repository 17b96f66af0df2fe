"""memory_attend and its backward on a GPU. Nothing here runs without one; it is then skipped, and says so."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import cuda_cases
import helpers
from cuda_cases import SMALL, Attend
from helpers import BF16, FP8
from on_gpu import GPU, MARKS
from svm_ext import ops

pytestmark = MARKS
OPS = torch.ops.svm_ext


@pytest.mark.parametrize("case", [*cuda_cases.ATTENDS, *cuda_cases.ANY, *cuda_cases.FP8_ATTENDS], ids=str)
def test_equals_oracle(case: Attend) -> None:
    cuda_cases.check_attend(OPS, case, GPU)


@pytest.mark.parametrize("units", [1, 12, 60, 140, 336])
@pytest.mark.parametrize("pool", [BF16, FP8], ids=str)
@pytest.mark.parametrize("dim", [64, 128])
def test_any_number_of_units_equals_oracle(units: int, dim: int, pool: torch.dtype) -> None:
    """Units shared by several blocks, one each, several a block."""
    cuda_cases.check_attend(OPS, Attend(streams=1, counts=(4,), heads=units, dim=dim, pool=pool), GPU)


def test_every_code_under_every_kind_of_exponent() -> None:
    cuda_cases.check_all_codes(OPS, GPU)


def test_frames_that_are_not_finite_are_nan() -> None:
    cuda_cases.check_not_finite(OPS, GPU)


@pytest.mark.parametrize("case", [Attend(), Attend(pool=FP8), replace(SMALL, pool=torch.float32)], ids=str)
def test_senseless_values_are_an_empty_memory(case: Attend) -> None:
    cuda_cases.check_senseless(OPS, case, GPU)


@pytest.mark.parametrize("pool", [BF16, FP8], ids=str)
@pytest.mark.parametrize("units", [12, 336])
def test_same_input_same_bits(units: int, pool: torch.dtype) -> None:
    it = cuda_cases.given(Attend(streams=1, counts=(3,), heads=units, pool=pool), GPU)
    first = OPS.memory_attend(it.q, *it.arguments, 0.3, True)
    for _ in range(20):
        for a, b in zip(first, OPS.memory_attend(it.q, *it.arguments, 0.3, True), strict=True):
            helpers.assert_same(a, b)


def test_two_streams_equal_each_alone() -> None:
    """In a batch of one size bit for bit; in a smaller one, which more blocks share, but for the last bits."""
    it = cuda_cases.given(Attend(windows=2, heads=3), GPU)
    both = ops.memory_attend(it.q, *it.memory.pools)
    swapped = ops.memory_attend(it.q.roll(2, 0), *it.memory.pools, torch.tensor([1, 0], device=GPU))
    helpers.assert_same(swapped, both.roll(2, 0))
    for stream in range(2):
        rows = slice(2 * stream, 2 * stream + 2)
        alone = ops.memory_attend(it.q[rows], *it.memory.pools, torch.tensor([stream], device=GPU))
        torch.testing.assert_close(both[rows], alone, rtol=2**-7, atol=1e-3)


def test_gradient_comes_by_autograd() -> None:
    it = cuda_cases.given(Attend(windows=2, real=((14, 9), (3, 14))), GPU)
    q = it.q.detach().requires_grad_()
    out = ops.memory_attend(q, *it.arguments, 0.3)
    out.backward(it.dout)
    results = OPS.memory_attend(it.q, *it.arguments, 0.3, True)
    helpers.assert_same(q.grad, OPS.memory_attend_backward(it.dout, it.q, *it.arguments, *results, 0.3))


def test_compiles_in_one_piece() -> None:
    it = cuda_cases.given(Attend(), GPU)
    torch._dynamo.reset()
    compiled = torch.compile(lambda q: ops.memory_attend(q, *it.memory.pools) * 2, fullgraph=True)
    torch.testing.assert_close(compiled(it.q), ops.memory_attend(it.q, *it.memory.pools) * 2)


def test_opcheck() -> None:
    it = cuda_cases.given(SMALL, GPU)
    torch.library.opcheck(OPS.memory_attend.default, (it.q, *it.arguments, 0.3, True))


def test_offsets_beyond_32_bits() -> None:
    """A pool of more than 2^31 numbers, of which the last unit is attended."""
    frames = 2**31 // (196 * 128) + 1
    pool = torch.empty(2, 1, 1, 14, frames, 14, 128, dtype=torch.bfloat16, device=GPU)
    pool[1, :, :, :, :2].normal_()
    cursor = torch.tensor([[[[0, -1]]], [[[2, 1]]]], device=GPU)
    q = torch.randn(1, 1, 196, 128, device=GPU).bfloat16()
    last, few = torch.tensor([1], device=GPU), pool[1:, :, :, :, :2].contiguous()
    found = ops.memory_attend(q, pool, pool, cursor, last)
    helpers.assert_same(found, ops.memory_attend(q, few, few, cursor[1:].contiguous()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": torch.float64}, "q: expected float32, bfloat16 or float16 on the GPU"),
        ({"device": "cpu"}, "q: expected a tensor on cuda:0 like k_pool"),
    ],
)
def test_bad_input_is_told(change: dict[str, object], message: str) -> None:
    it = cuda_cases.given(SMALL, GPU)
    with pytest.raises((ValueError, RuntimeError), match=message):
        OPS.memory_attend(it.q.to(**change), *it.arguments, 0.3, False)
