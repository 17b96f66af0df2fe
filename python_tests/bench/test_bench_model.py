"""The model's benchmark: fair rows, every contender right before it is timed, figures where they belong."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

import benchmark_scripts
from svm_ext.bench import machine
from svm_ext.bench.measure import Plan
from svm_ext.bench.refcheck import WrongResultError

rows = benchmark_scripts.load("model_rows")
bench = benchmark_scripts.load("bench_model")

PLAN = Plan(seconds=0.001, least=1, most=2)
TINY = dict(width=32, layers=3, heads=2, input_resolution=64, window_size=4)
TINY |= dict(conv_blocks=(1,), stages=(0, 1, 2), outputs=(0, 1, 2))
MAKE = {
    "frame": lambda: rows.frame_row("svit_tiny", (96, 96), 3, **TINY),  # 2 x 2 windows, padded
    "streams": lambda: rows.streams_row("svit_tiny", (96, 96), 3, 2, **TINY),
    "clip": lambda: rows.clip_row("svit_tiny", 64, 3, **TINY),
}
ALL = pytest.mark.parametrize("name", MAKE)


@ALL
def test_all_contenders_are_measured(name):
    row = MAKE[name]()
    measured = bench.measure(row, PLAN)
    assert tuple(measured.contenders) == rows.CONTENDERS[name]
    assert 0 <= measured.error <= bench.PRECISION
    for found in measured.contenders.values():
        assert found.ms >= found.best_ms > 0
        assert found.rounds >= 1
        assert found.multiply_adds > 0
    goals = bench.targets(row, measured)
    assert [goal.what for goal in goals] == [goal.what for goal in row.goals]
    for goal, target in zip(row.goals, goals, strict=True):
        long, short = measured.contenders[goal.long], measured.contenders[goal.short]
        assert target.measured == pytest.approx(long.ms / short.ms)


def test_goals():
    goals = {goal.what: (goal.comparison, goal.limit) for make in MAKE.values() for goal in make().goals}
    assert goals == {
        "frame over eager": (">=", 3.0),
        "full memory over 1 frame": ("<=", 1.25),
        "2 streams in one call": (">=", 1.3),
        "clip step over frame by frame": (">=", 1.5),
        "clip step over eager": (">=", 3.0),
    }


def test_the_sizes_that_the_goals_are_meant_for():
    assert {name: row.args for name, row in rows.ROWS.items()} == {
        "frame": ("svit_base", (800, 1440), 32),
        "streams": ("svit_small", (448, 800), 32, 8),
        "clip": ("svit_small", 224, 16),
    }
    assert rows.QUICK.keys() == rows.ROWS.keys() == rows.CONTENDERS.keys()


@ALL
def test_contenders_are_those_of_the_row(name):
    row = MAKE[name]()
    sitting = [contender for sitting in row.sittings for contender in sitting]
    assert tuple(sitting) == tuple(row.make) == tuple(row.needs) == rows.CONTENDERS[name]
    named = {contender for pair in row.same for contender in pair}
    assert named == set(row.make), "somebody's result is not checked"


def scene() -> rows.Scene:
    return rows.Scene("svit_tiny", (96, 96), **TINY)


@torch.no_grad()
def test_both_memories_hold_the_same():
    made = scene()
    memory, eager = made.memory(3), made.eager(3)
    assert memory.step.tolist() == [3]
    for layer, attention in enumerate(eager.attentions):
        pad = made.model.transformer.resblocks[layer].attn.pad()
        held = memory.frames_of(layer, 0, pad=pad)
        for pool, frames in zip(held, (attention.memory.keys, attention.memory.values), strict=True):
            assert torch.equal(pool, torch.stack(frames))  # [T, W, H, N, D]


def test_frames_differ_from_each_other():
    made = scene()
    keys = [made.past(layer, t)[0] for layer in range(3) for t in range(3)]
    assert not any(torch.equal(a, b) for i, a in enumerate(keys) for b in keys[:i])


def test_a_full_memory_is_bounded_by_what_it_is_said_to_need():
    made = scene()
    assert made.memory(3).nbytes == pytest.approx(made.bytes_of(3), rel=0.1)
    eager = made.eager(3)
    held = {
        x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for a in eager.attentions for x in a.memory.keys
    }
    assert sum(held.values()) == made.bytes_of(3)


def test_every_weight_counts():
    made = scene()
    for name, parameter in made.model.named_parameters():
        assert parameter.abs().max() > 1e-3, name


@pytest.mark.parametrize("part", ["attn.out_proj_t.weight", "residual_block.norm3.weight", "attn.in_proj_bias_t"])
def test_a_wrong_model_is_not_measured(part, monkeypatch):
    """One weight of one block is off by one per cent, and the row fails."""
    build = rows.EagerSVit.load_state_dict

    def load(self: nn.Module, state: dict, strict: bool = True) -> None:
        build(self, {n: x * 1.01 if n.endswith(f"resblocks.1.{part}") else x for n, x in state.items()}, strict=strict)

    monkeypatch.setattr(rows.EagerSVit, "load_state_dict", load)
    with pytest.raises(WrongResultError, match=r"level \d is .* off, allowed 0.0001; it is not measured"):
        bench.measure(MAKE["frame"](), PLAN)


def test_not_a_number_is_wrong():
    with pytest.raises(WrongResultError, match="x is nan off"):
        bench._distance("ours", {"x": torch.full((2,), float("nan"))}, {"x": torch.ones(2)})


def test_a_wrong_gradient_is_not_measured():
    row = MAKE["clip"]()
    honest = row.make[rows.OURS]

    def dishonest() -> rows.Made:
        made = honest()

        def run() -> rows.Result:
            found = made.run()
            name = "transformer.resblocks.0.attn.alpha"
            return found | {name: found[name] * 1.001}

        return replace(made, run=run)

    with pytest.raises(WrongResultError, match=r"ours: transformer.resblocks.0.attn.alpha is 0.001 off"):
        bench.measure(replace(row, make=row.make | {rows.OURS: dishonest}), PLAN)


def test_what_does_not_fit_is_left_out_and_its_goal_stays_open(monkeypatch):
    row = MAKE["frame"]()
    most = max(row.needs[name] for name in (rows.OURS, rows.OURS_SINGLE, rows.EAGER_SINGLE))
    row = replace(row, needs=row.needs | {rows.EAGER: 100 * most})
    monkeypatch.setattr(machine, "available_bytes", lambda device: 10 * most)
    measured = bench.measure(row, PLAN)
    assert rows.EAGER not in measured.contenders
    goals = {goal.what: goal for goal in bench.targets(row, measured)}
    assert goals["frame over eager"].measured is None
    assert not goals["frame over eager"].met
    assert "eager needs" in goals["frame over eager"].note
    assert goals["full memory over 1 frame"].measured > 0
    assert any("eager left out: needs" in line for line in bench.table(measured))


def test_results_are_told_and_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench, "QUICK", MAKE)
    monkeypatch.setattr(bench, "BRIEF", PLAN)
    path = tmp_path / "found.json"
    assert bench.main(["--quick", "frame", "clip", "--json", str(path)]) == 0
    told = capsys.readouterr().out
    assert "svit_tiny frame, 96 x 96 pixels, 3 frames; results within" in told
    assert "frame by frame" in told
    found = json.loads(path.read_text())
    assert [row["name"] for row in found["rows"]] == ["svit_tiny frame", "svit_tiny clip step"]
    assert len(found["targets"]) == 4
    assert found["machine"]["command"].startswith("python benchmarks/bench_model.py --quick frame clip")


def test_a_wrong_row_is_told_and_the_others_go_on(capsys, monkeypatch):
    def refuse(row, plan):
        if "frame" in row.name:
            raise WrongResultError("ours: level 0 is 0.5 off")
        return bench.Measured(row.name, row.sizes)

    monkeypatch.setattr(bench, "QUICK", MAKE)
    monkeypatch.setattr(bench, "measure", refuse)
    assert bench.main(["--quick", "frame", "clip"]) == 1
    told = capsys.readouterr().out
    assert "WRONG: svit_tiny frame: ours: level 0 is 0.5 off" in told
    assert "svit_tiny clip step" in told


def test_unknown_rows_are_refused(capsys):
    with pytest.raises(SystemExit):
        bench.main(["frames"])
    assert "ROW: expected some of frame, streams, clip, got frames" in capsys.readouterr().err
