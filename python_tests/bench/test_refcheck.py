"""A wrong kernel is never measured: whichever contender is wrong, and wherever."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from svm_ext.bench import cases, refcheck
from svm_ext.bench.case import Case, Contender, Room, Shape
from svm_ext.bench.cases import memory_attend, nms

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
SHAPED = [op for op in cases.OPS if op != "nms"]


def small(op: str, dtype: torch.dtype = torch.float32, **sizes) -> Case:
    shape = Shape(**dict(units=6, frames=3, side=4, dim=16) | sizes, dtype=dtype)
    return cases.entry(op, shape).build(Room(1 << 30))


def call(contender: Contender):
    return contender.run()


def spoiled(case: Case, name: str, spoil) -> Case:
    """The case with one contender whose result passes through `spoil`."""
    contenders = [
        replace(contender, seen=lambda found, seen=contender.seen: spoil(seen(found)))
        if contender.name == name
        else contender
        for contender in case.contenders
    ]
    return replace(case, contenders=contenders)


@DTYPES
@pytest.mark.parametrize("op", SHAPED)
@pytest.mark.parametrize("frames", [1, 3])
def test_all_contenders_of_all_ops_are_right(op, dtype, frames):
    assert refcheck.check(small(op, dtype, frames=frames), call) >= 0


@DTYPES
@pytest.mark.parametrize("op", ["memory_attend", "stream_step", "clip_attend"])
def test_at_the_sizes_that_are_measured(op, dtype):
    assert refcheck.check(small(op, dtype, side=14, dim=64, units=12, frames=2), call) > 0


@pytest.mark.parametrize("evict", ["merge", "fifo"])
@pytest.mark.parametrize("op", ["memory_append", "stream_step"])
def test_both_evictions(op, evict):
    refcheck.check(small(op, evict=evict), call)


@pytest.mark.parametrize("count", [1, 20, 300])
def test_nms(count):
    assert refcheck.check(nms.build(count), call) == 0


@pytest.mark.parametrize("op", SHAPED)
def test_every_contender_is_checked(op):
    for contender in small(op).contenders:
        case = spoiled(small(op), contender.name, lambda seen: seen * 1.01)
        with pytest.raises(
            refcheck.WrongResultError, match=rf"^{contender.name.replace('+', '.')}: .* away from the ref"
        ):
            refcheck.check(case, call)


def test_a_wrong_unit_between_the_samples_is_found_by_the_others():
    """Four units are compared with the reference; the baselines watch the rest."""

    def spoil(seen):
        seen = seen.clone()
        seen[1] += 0.01
        return seen

    case = small("memory_attend")
    assert 1 not in refcheck.limits(case).rows
    with pytest.raises(refcheck.WrongResultError, match="sdpa: .* away from memory_attend"):
        refcheck.check(spoiled(case, "memory_attend", spoil), call)


@pytest.mark.parametrize("op", ["memory_append", "memory_attend"])
def test_nan_is_wrong(op):
    case = small(op)
    with pytest.raises(refcheck.WrongResultError, match="inf away from the reference"):
        refcheck.check(spoiled(case, case.ours.name, lambda seen: seen * float("nan")), call)


def test_another_shape_is_wrong():
    case = small("memory_attend")
    with pytest.raises(refcheck.WrongResultError, match=r"expected a result of shape \[.*\], got \[.*\]"):
        refcheck.check(spoiled(case, "sdpa", lambda seen: seen[..., :1]), call)


def test_one_box_too_many_is_wrong():
    case = nms.build(100)
    with pytest.raises(refcheck.WrongResultError, match="nms: 1 away from the reference"):
        refcheck.check(spoiled(case, "nms", lambda mask: torch.ones_like(mask)), call)


def test_low_precision_is_held_to_low_precision():
    """What plain torch loses in bf16 is allowed to everybody; in fp32 it is not."""
    assert refcheck.limits(small("memory_attend", torch.bfloat16)).allowed > 1e-3
    assert refcheck.limits(small("memory_attend")).allowed < 1e-4


def test_samples_are_spread_and_hold_both_ends():
    assert refcheck.limits(small("memory_attend", units=12)).rows.tolist() == [0, 4, 7, 11]
    assert refcheck.limits(small("memory_attend", units=1)).rows.tolist() == [0]


def test_contenders_that_have_no_result_are_run_and_not_judged():
    case = small("memory_attend")
    called = []
    copy = Contender("copy", lambda: called.append(1))
    refcheck.check(replace(case, contenders=[*case.contenders, copy]), call)
    assert called == [1]


def test_the_check_leaves_the_step_alone():
    """In place ops run at one step, so that two of them on one memory do the same."""
    shape = Shape(units=2, frames=2, side=3, dim=8)
    case = cases.entry("stream_step", shape).build(Room(1 << 30))
    before = case.contenders[1].run()
    after = case.contenders[0].run()
    torch.testing.assert_close(before, after)


def test_truth_is_that_of_the_sampled_units():
    shape = Shape(units=5, frames=2, side=3, dim=8)
    case = memory_attend.build(shape, Room(1 << 30))
    truth, plain = case.expected(torch.tensor([3]))
    seen = case.ours.seen(case.ours.run())
    assert truth.dtype == torch.float64
    assert plain.dtype == torch.float32
    torch.testing.assert_close(seen[3:4].double(), truth, rtol=1e-5, atol=1e-6)
