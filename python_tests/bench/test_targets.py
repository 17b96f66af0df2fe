"""Every goal gets its figure."""

from __future__ import annotations

import pytest
import torch

from svm_ext import ops
from svm_ext.bench import machine, overhead, targets
from svm_ext.bench.measure import Plan
from svm_ext.bench.rows import Failure, Row
from svm_ext.bench.targets import Target

PLAN = Plan(seconds=0.001, least=1, most=2)
SCALE = targets.Scale(units=2, frames=2, clip_units=2, clip_frames=2)
DTYPES = [torch.float32, torch.bfloat16]


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    """Op calls in small numbers."""
    monkeypatch.setattr(overhead, "measure", lambda measure=overhead.measure: measure(calls=2, batches=2))


def measured(dtypes=DTYPES) -> list:
    return list(targets.measure(PLAN, SCALE, dtypes))


def test_every_goal_once():
    found = [item for item in measured() if isinstance(item, Target)]
    assert sorted((target.what, target.dtype) for target in found) == sorted(targets.GOALS)
    assert all(target.measured is not None and target.measured > 0 for target in found)
    for target in found:
        assert (target.comparison, target.limit, target.unit) == targets.GOALS[target.what, target.dtype]


def test_the_goals_of_one_type():
    found = [item for item in measured([torch.bfloat16]) if isinstance(item, Target)]
    assert {target.dtype for target in found} == {"bf16", ""}


def test_the_sizes_that_the_goals_are_meant_for():
    assert targets.Scale() == targets.Scale(336, 32, 12, 16)


def test_figures_come_from_the_rows_beside_them():
    found = measured([torch.float32])
    row = next(item for item in found if isinstance(item, Row) and item.op == "memory_attend")
    goals = {item.what: item for item in found if isinstance(item, Target)}
    assert goals["attend over sdpa"].measured == row.baselines["sdpa"].ratio
    assert goals["attend over eager"].measured == row.baselines["eager"].ratio
    assert goals["attend, share of peak"].measured == pytest.approx(100 * row.peak_share)
    step = next(item for item in found if isinstance(item, Row) and item.op == "stream_step")
    two = step.baselines["append+attend"]
    assert goals["step over append + attend"].measured == pytest.approx(step.ms / two.ms)
    assert goals["attend over sdpa"].shape == "2 units 2 frames"


def test_the_slowest_op_call_counts():
    found = measured([torch.float32])
    calls = [item for item in found if isinstance(item, overhead.Overhead)]
    goal = next(item for item in found if isinstance(item, Target) and item.dtype == "")
    assert goal.measured == max(call.op_us for call in calls)
    assert goal.note == f"the slowest: {max(calls, key=lambda call: call.op_us).op}"


def test_what_comes_next_is_told():
    told: list[str] = []
    list(targets.measure(PLAN, SCALE, [torch.float32], told.append))
    assert told == ["attend fp32", "append fp32", "step fp32", "clip fp32", "op calls"]


def test_a_wrong_kernel_reaches_no_goal(monkeypatch):
    right = ops.memory_attend
    monkeypatch.setattr(ops, "memory_attend", lambda *given: right(*given) + 1)
    found = measured([torch.float32])
    failures = [item for item in found if isinstance(item, Failure)]
    assert len(failures) == 3  # attend, append's share of it, and the step beside it
    assert all(failure.wrong for failure in failures)
    goals = {item.what: item for item in found if isinstance(item, Target)}
    assert goals["attend over sdpa"].measured is None
    assert not goals["append (merge), share of attend"].met
    assert goals["clip both ways over eager"].measured is not None


def test_a_baseline_that_does_not_fit_leaves_its_goal_open(monkeypatch):
    shape_bytes = 2 * 2 * 2 * 196 * 64 * 4  # K and V, 2 units, 2 frames, fp32
    monkeypatch.setattr(machine, "available_bytes", lambda device: 5 * shape_bytes)
    goals = {item.what: item for item in measured([torch.float32]) if isinstance(item, Target)}
    assert goals["attend over eager"].measured is None
    assert "eager needs" in goals["attend over eager"].note
    assert goals["attend over sdpa"].measured is not None


def test_all_ops_are_called():
    from svm_ext.ops import _library

    assert {call.op for call in overhead.measure()} == set(_library.OPS)


def test_public_functions_are_called_where_there_are_any():
    found = {call.op: call for call in overhead.measure()}
    assert {name for name, call in found.items() if call.public_us is None} == {
        "memory_attend_backward",
        "clip_attend_backward",
    }
    assert all(call.op_us > 0 for call in found.values())


def test_the_tiny_calls_compute():
    for op, public in overhead._calls().values():
        with torch.inference_mode():
            op()
        if public is not None:
            public()
