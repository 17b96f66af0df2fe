"""The Triton back end over pools of fp8: appends bit for bit with the reference, attends by the one tolerance rule.

On a GPU where there is one, else through Triton's interpreter, as test_triton.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import append_cases
import cuda_cases
import helpers
import triton_cases
from helpers import BF16, FP8, FP32
from svm_ext import ops, use_backend
from svm_ext.ops import _fp8, _triton_launch
from triton_cases import DEVICE, FP16, INTERPRETED, SCALE, check_attend, placed, there

pytestmark = triton_cases.MARKS
OWN = torch.ops.svm_ext_triton
# The interpreter takes a tenth of a second for a unit: small sizes there, and of alike cases one.
APPENDS = [case for case in append_cases.FP8_CASES if not INTERPRETED or case.strides != "qkv" or case.evict == "merge"]
STEPS = [case for case in cuda_cases.FP8_STEPS if not INTERPRETED or case.size.side == 4]
EXPONENTS = (-117, -9, 0, 118) if INTERPRETED else cuda_cases.EXPONENTS


@pytest.fixture(autouse=True)
def triton_back_end():
    triton_cases.skip_unless_usable()
    with use_backend("triton"):
        yield


def smaller(case: append_cases.Case) -> append_cases.Case:
    """The same case with fewer units and smaller windows, for the interpreter."""
    size = case.size
    fewer = size._replace(windows=len(case.real or (1,)), heads=1, side=min(size.side, 7), dim=min(size.dim, 32))
    return replace(case, size=fewer) if INTERPRETED else case


@pytest.mark.parametrize("case", APPENDS, ids=str)
def test_append_equals_reference(case):
    append_cases.check(OWN.memory_append_, smaller(case), DEVICE)


@pytest.mark.parametrize("evict", helpers.EVICTIONS)
def test_append_of_frames_of_all_sizes(evict):
    append_cases.check_sizes(OWN.memory_append_, evict, DEVICE)


def test_append_of_senseless_values_writes_nothing():
    append_cases.check_ignored(OWN.memory_append_, DEVICE, FP8)


@pytest.mark.parametrize("padding", ["none", "masked", "biases"])
@pytest.mark.parametrize("dtype", [FP32, FP16, BF16], ids=str)
def test_attend_of_every_type(dtype, padding):
    """A stream that has seen little, and one that has seen more than the memory holds."""
    size = helpers.size(streams=2, windows=1, heads=1, side=5, frames=3, dim=16)
    real = None if padding == "none" else torch.tensor([[3, 4]], dtype=torch.int32)
    pad = helpers.pads(size) if padding == "biases" else (None, None)
    memory = helpers.filled_memory(size, [2, 8], FP8, "tokens", real)
    check_attend(helpers.tokens(size, dtype), memory, real=real, pad=pad)


@pytest.mark.parametrize("dim", [5, 32, 96, 128])
def test_attend_of_every_head_dim(dim):
    size = helpers.size(streams=1, windows=1, heads=1, side=3, frames=2, dim=dim)
    check_attend(helpers.tokens(size, BF16), helpers.filled_memory(size, [2], FP8, "tokens"))


@pytest.mark.parametrize(("frames", "count"), [(1, 1), (4, 3), (9, 9), (17, 16), (33, 40)])
def test_attend_of_every_tile(frames, count):
    """An exponent of its own for each frame of a tile."""
    size = helpers.size(streams=1, windows=1, heads=1, side=3, frames=frames, dim=16)
    memory = helpers.filled_memory(size, [count], FP8, "tokens")
    memory.cursor[..., 2:].view(torch.int32).add_(torch.arange(2 * frames, dtype=torch.int32) % 7 - 3)
    check_attend(helpers.tokens(size), memory)


def test_attend_of_some_streams():
    size = helpers.size(streams=3, windows=2, heads=2, side=3, dim=16)
    memory = helpers.filled_memory(size, [0, 4, 7], FP8, "tokens")
    check_attend(helpers.tokens(size, batch=3), memory, streams=torch.tensor([2, 0, 2]))


def test_programs_that_share_a_unit():
    size = helpers.size(streams=1, windows=2, heads=1, side=5, frames=3, dim=64)
    memory = helpers.filled_memory(size, [3], FP8, "tokens")
    with triton_cases.processors(4):
        check_attend(helpers.tokens(size, BF16), memory)


def test_offsets_of_64_bits_within_a_unit(monkeypatch):
    size = helpers.size(streams=1, windows=1, heads=1, side=3, frames=3, dim=24)
    near = placed(helpers.filled_memory(size, [2], FP8, "tokens"))
    far = near.clone()
    q = helpers.tokens(size, BF16).to(DEVICE)
    expected = OWN.stream_step_(*near.pools, q, q, q, near.step, None, None, None, None, SCALE, 0)
    monkeypatch.setattr(_triton_launch, "_FAR", 0)
    helpers.assert_same(OWN.stream_step_(*far.pools, q, q, q, far.step, None, None, None, None, SCALE, 0), expected)
    helpers.assert_same(_fp8.raw(far.k), _fp8.raw(near.k))


def test_every_code_comes_through():
    cuda_cases.check_all_codes(OWN, DEVICE, EXPONENTS)


def test_frames_that_are_not_finite_hide_nothing():
    cuda_cases.check_not_finite(OWN, DEVICE)


@pytest.mark.parametrize("case", STEPS, ids=str)
def test_steps(case):
    cuda_cases.check_steps(OWN, smaller(case), DEVICE, triton_cases.factor(case.frame_type, BF16))


def test_a_stream_in_fp8_is_near_one_in_fp32():
    """As near as three bits of fraction allow, and so are the gradients."""
    size = helpers.size(streams=1, windows=1, heads=2, side=3, frames=2, dim=16)
    memories = [placed(helpers.empty_memory(size, dtype, "tokens")) for dtype in (FP8, FP32)]
    for _ in range(4):
        q, k, v = (x.to(DEVICE) for x in helpers.fused(size))
        results = []
        for memory in memories:
            ops.memory_append_(*memory.pools, k, v, memory.step)
            leaf = q.detach().requires_grad_()
            out = ops.memory_attend(leaf, *memory.pools)
            results.append((out.detach(), torch.autograd.grad(out, leaf, q)[0]))
            memory.step.add_(1)
        for ours, exact in zip(*results, strict=True):
            assert 0 < (ours - exact).norm() < 0.1 * exact.norm()


def test_ops_pass_opcheck():
    size = helpers.size(streams=1, windows=1, heads=1, dim=16)
    memory = placed(helpers.filled_memory(size, [2], FP8, "tokens"))
    q, k, v = (x.to(DEVICE) for x in helpers.fused(size))
    checks = ("test_autograd_registration", "test_faketensor")  # the others add up numbers, which codes are not
    for op, given in (
        (OWN.memory_append_, (*memory.pools, k, v, memory.step, None, None, 0)),
        (OWN.stream_step_, (*memory.pools, q, k, v, memory.step, *(None,) * 4, SCALE, 0)),
        (OWN.memory_attend, (q.requires_grad_(), *memory.pools, *(None,) * 4, SCALE, True)),
    ):
        torch.library.opcheck(op.default, given, test_utils=checks)


def test_only_pools_are_fp8():
    size = helpers.size(streams=1, windows=1, heads=1, dim=16)
    memory, x = placed(helpers.filled_memory(size, [1], FP8, "tokens")), helpers.tokens(size).to(DEVICE)
    with pytest.raises(ValueError, match="expected a floating point type, got float8_e4m3fn"):
        ops.memory_attend(x.to(FP8), *memory.pools)
    with pytest.raises(ValueError, match="k: expected a floating point type, got float8_e4m3fn"):
        ops.memory_append_(*memory.pools, *there(x.to(FP8), x.to(FP8)), memory.step)
