"""A row's figures follow from its times, and a row that cannot be measured says why."""

from __future__ import annotations

import pytest
import torch

from svm_ext.bench import cases, machine, rows
from svm_ext.bench.case import Case, Contender, Room, Shape
from svm_ext.bench.measure import Plan

PLAN = Plan(seconds=0.01, least=2, most=3)
TINY = Shape(units=2, frames=2, side=3, dim=8)


def clocked(monkeypatch: pytest.MonkeyPatch, ms: dict[str, float]) -> Case:
    """A case whose contenders take the milliseconds that they are told, and a peak of 100 GFLOP/s."""
    contenders = [Contender(name, lambda name=name: name, lambda _: torch.zeros(1, 1)) for name in ms if name != "copy"]
    monkeypatch.setattr(rows, "cpu_clock", lambda run: ms.get(run(), ms["copy"]) if callable(run) else 0.0)
    monkeypatch.setattr(machine, "copier", lambda count, device: lambda: "copy")
    monkeypatch.setattr(machine, "peak_probe", lambda kind: (lambda: 100.0) if kind else None)

    def expected(units):
        return torch.zeros(len(units), 1, dtype=torch.float64), torch.zeros(len(units), 1)

    return Case(
        "memory_attend", torch.float32, {"units": 1, "frames": 2}, 8_000_000, 50_000_000, contenders, expected, 1
    )


def test_figures_of_a_row(monkeypatch):
    row = rows.run_case(clocked(monkeypatch, {"ours": 2.0, "sdpa": 5.0, "eager": 30.0, "copy": 0.5}), PLAN)
    assert (row.ms, row.best_ms) == (2.0, 2.0)
    assert row.gb_s == pytest.approx(4.0)  # 8 MB in 2 ms
    assert row.gflop_s == pytest.approx(25.0)  # 50 MFLOP in 2 ms
    assert (row.peak_kind, row.peak_gflop_s) == ("fma", 100.0)
    assert row.peak_share == pytest.approx(0.25)
    assert row.copy_share == pytest.approx(0.25)
    assert {name: found.ratio for name, found in row.baselines.items()} == {"sdpa": 2.5, "eager": 15.0, "copy": 0.25}
    assert row.baselines["eager"].rounds == 1  # longer than the plan
    assert row.rounds == 3
    assert row.error == 0


def test_the_peak_is_what_the_machine_can_do(monkeypatch):
    """A neighbour that takes half of the machine for a moment must not make our share look better."""
    case, peaks = clocked(monkeypatch, {"ours": 1.0, "copy": 1.0}), iter([50.0, 100.0, 50.0])
    monkeypatch.setattr(machine, "peak_probe", lambda kind: lambda: next(peaks))
    assert rows.run_case(case, PLAN).peak_gflop_s == 100.0


def test_rows_of_one_plot_line():
    row = rows.run_entry(cases.entry("memory_append", TINY), PLAN)
    assert row.series == ("memory_append", "fp32", {"units": 2, "evict": "merge"}, 2)
    row = rows.run_entry(cases.entries(["nms"], boxes=[10])[0], PLAN)
    assert row.series == ("nms", "fp32", {}, 10)


@pytest.mark.parametrize("op", cases.OPS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_every_op_gives_a_row(op, dtype):
    for entry in cases.entries([op], [dtype], [2], [1, 2], [10]):
        row = rows.run_entry(entry, PLAN)
        assert isinstance(row, rows.Row), row
        assert row.op == op
        assert row.ms > 0
        assert len(row.baselines) >= 2
        assert (row.gflop_s is None) == (op in ("memory_append", "nms"))
        assert (row.peak_share is None) == (row.gflop_s is None)


def test_a_wrong_kernel_is_a_failure_and_no_row(monkeypatch):
    from svm_ext import ops

    right = ops.memory_attend
    monkeypatch.setattr(ops, "memory_attend", lambda *given: right(*given) * 1.001)
    failure = rows.run_entry(cases.entry("memory_attend", TINY), PLAN)
    assert isinstance(failure, rows.Failure)
    assert failure.wrong
    assert failure.name == "memory_attend fp32 2 units 2 frames"
    assert "memory_attend: " in failure.reason


def test_an_append_that_forgets_to_merge_is_wrong(monkeypatch):
    from svm_ext import ops

    right = ops.memory_append_
    monkeypatch.setattr(ops, "memory_append_", lambda *given, evict: right(*given, evict="fifo"))
    failure = rows.run_entry(cases.entry("memory_append", TINY), PLAN)
    assert isinstance(failure, rows.Failure)
    assert failure.wrong


def test_a_kernel_that_is_not_there_is_left_out_and_not_wrong(monkeypatch):
    from svm_ext import ops

    def missing(*given):
        raise NotImplementedError("memory_attend: the back end 'cuda' does not carry this op yet")

    monkeypatch.setattr(ops, "memory_attend", missing)
    failure = rows.run_entry(cases.entry("memory_attend", TINY), PLAN)
    assert isinstance(failure, rows.Failure)
    assert not failure.wrong
    assert "does not carry this op yet" in failure.reason


def test_a_row_that_does_not_fit_is_left_out(monkeypatch):
    monkeypatch.setattr(machine, "available_bytes", lambda device: 1000)
    failure = rows.run_entry(cases.entry("memory_attend", TINY), PLAN)
    assert not failure.wrong
    assert "take fewer units" in failure.reason


def test_a_baseline_that_does_not_fit_is_left_out_of_the_row(monkeypatch):
    monkeypatch.setattr(machine, "available_bytes", lambda device: 5 * TINY.pool_bytes)
    row = rows.run_entry(cases.entry("memory_attend", TINY), PLAN)
    assert set(row.baselines) == {"sdpa", "copy"}
    assert set(row.left_out) == {"eager"}


def test_wanted_baselines_only():
    row = rows.run_entry(cases.entry("memory_attend", TINY), PLAN, wanted={"sdpa"})
    assert set(row.baselines) == {"sdpa"}
    assert row.copy_share is None
    assert row.left_out == {}


def test_in_place_ops_are_timed_at_new_frames(monkeypatch):
    """Without a new step the second append would only overwrite: the memory must have moved on with the runs."""
    from svm_ext.bench import inputs

    made = []
    monkeypatch.setattr(inputs, "memory", lambda shape, make=inputs.memory: made.append(make(shape)) or made[-1])
    row = rows.run_entry(cases.entry("memory_append", TINY), PLAN, wanted=())
    assert made[0].step.tolist() == [TINY.frames + 1 + row.rounds]  # one by the warm-up after the refcheck
    assert made[0].cursor[..., 0].unique().tolist() == [TINY.frames + 2 + row.rounds]


def names(**options) -> list[str]:
    return [entry.name for entry in cases.entries(**options)]


def test_all_shapes_that_the_design_names():
    found = names(ops=["memory_attend"])
    assert found == [
        f"memory_attend fp32 {units} units {frames} frames"
        for units in (12, 96, 336, 672)
        for frames in (1, 2, 8, 16, 32)
    ]


def test_shapes_that_are_asked_for():
    assert names(ops=["stream_step"], dtypes=[torch.bfloat16], units=[3], frames=[4]) == [
        "stream_step bf16 3 units 4 frames"
    ]
    assert names(ops=["memory_append"], units=[3], frames=[4]) == [
        "memory_append fp32 3 units 4 frames merge",
        "memory_append fp32 3 units 4 frames fifo",
    ]
    assert names(ops=["nms"], boxes=[7]) == ["nms 7 boxes"]


def test_quick_is_less_of_everything():
    quick, full = names(quick=True), names()
    assert len(quick) < len(full) / 4
    assert {name.split()[0] for name in quick} == set(cases.OPS)


def test_names_are_those_of_the_cases():
    for entry in cases.entries(units=[2], frames=[2], boxes=[5]):
        name = entry.build(Room(1 << 30)).name
        assert entry.name in (name, name.replace("fp32 ", ""))
        assert entry.weight >= 1
