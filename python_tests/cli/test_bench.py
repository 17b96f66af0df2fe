"""`svm-ext bench`: what it prints, what it writes, what it refuses."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from svm_ext import ops
from svm_ext.bench import cases, machine, overhead, targets
from svm_ext.bench.measure import Plan
from svm_ext.cli import bench, main

TINY = ["--quick", "--units", "2", "--frames", "2", "4", "--boxes", "10"]


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread (on tiny tensors others only wait), and small numbers of what is measured besides the rows."""
    monkeypatch.setattr(machine, "_BANDWIDTH_BYTES", 1 << 16)
    monkeypatch.setattr(overhead, "measure", lambda measure=overhead.measure: measure(calls=2, batches=2))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(*arguments: str) -> int:
    return main.main(["bench", *arguments])


def test_every_op_has_its_rows(capsys):
    assert run(*TINY) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("copies" in line and "reads" in line for line in lines)
    measured = [line.split()[0] for line in lines if line.split()[1:2] == ["fp32"]]
    assert measured == [
        *["memory_append"] * 4,
        *["memory_attend"] * 2,
        *["stream_step"] * 2,
        *["clip_attend"] * 2,
        "nms",
    ]
    assert any(line.startswith("clip_attend_backward") and "us" in line for line in lines)


def test_a_line_tells_the_ratio_to_each_baseline(capsys):
    assert run("--ops", "memory_attend", *TINY) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("memory_attend"))
    assert "x sdpa" in line
    assert "x eager" in line
    assert "2 units 2 frames" in line


def test_json(tmp_path: Path):
    path = tmp_path / "found.json"
    assert run("--ops", "memory_attend", "nms", *TINY, "--dtype", "fp32", "bf16", "--json", str(path)) == 0
    found = json.loads(path.read_text())
    assert found["complete"] is True
    assert [(row["op"], row["dtype"]) for row in found["rows"]] == [
        ("memory_attend", "fp32"),
        ("memory_attend", "fp32"),
        ("memory_attend", "bf16"),
        ("memory_attend", "bf16"),
        ("nms", "fp32"),
    ]
    assert found["failures"] == found["targets"] == []
    assert {call["op"] for call in found["overheads"]} >= {"memory_attend", "nms_mask"}
    assert found["machine"]["threads"] == torch.get_num_threads()
    assert found["bandwidth"]["copy_gb_s"] > 0


def test_the_command_in_the_json_measures_the_same(tmp_path: Path):
    path = tmp_path / "found.json"
    arguments = ["--ops", "nms", "--boxes", "10", "--quick", "--threads", "1", "--json", str(path)]
    assert run(*arguments) == 0
    words = shlex.split(json.loads(path.read_text())["machine"]["command"])
    assert words[:2] == ["svm-ext", "bench"]
    parser = main.build_parser("bench")
    assert parser.parse_args(words[1:]) == parser.parse_args(["bench", *arguments])


def test_plot(tmp_path: Path, capsys):
    pytest.importorskip("matplotlib")
    path = tmp_path / "found.svg"
    assert run("--ops", "memory_attend", *TINY, "--plot", str(path)) == 0
    assert path.read_text().startswith("<?xml")
    assert f"wrote {path}" in capsys.readouterr().out


def test_a_wrong_kernel_is_told_and_gives_no_row(capsys, monkeypatch, tmp_path: Path):
    right = ops.memory_attend
    monkeypatch.setattr(ops, "memory_attend", lambda *given: right(*given) * 1.01)
    path = tmp_path / "found.json"
    assert run("--ops", "memory_attend", *TINY, "--json", str(path)) == 1
    printed = capsys.readouterr().out
    assert "WRONG: memory_attend fp32 2 units 2 frames: memory_attend: " in printed
    assert "x sdpa" not in printed
    found = json.loads(path.read_text())
    assert found["rows"] == []
    assert len(found["failures"]) == 2


def test_targets(capsys, monkeypatch, tmp_path: Path):
    path = tmp_path / "found.json"
    assert run("--targets", "--quick", "--units", "2", "--frames", "2", "--json", str(path)) == 0
    lines = capsys.readouterr().out.splitlines()
    for what, dtype in targets.GOALS:
        [line] = [line for line in lines if line.startswith(f"{what:<33}{dtype:<6}")]
        assert any(f"  {verdict}" in line for verdict in ("ok", "below", "above"))
    found = json.loads(path.read_text())
    assert len(found["targets"]) == len(targets.GOALS)
    assert {row["op"] for row in found["rows"]} == {"memory_attend", "stream_step", "clip_attend"}


def test_targets_at_their_own_sizes_unless_asked_otherwise(monkeypatch):
    asked = []
    monkeypatch.setattr(targets, "measure", lambda plan, scale, dtypes, told: asked.append((plan, scale)) or [])
    assert run("--targets") == 0
    assert run("--targets", "--units", "12") == 0
    assert asked[0] == (targets.PLAN, targets.Scale())
    assert asked[1][1] == targets.Scale(12, 32, 12, 16)


def test_an_interrupted_run_leaves_what_it_has(monkeypatch, tmp_path: Path, capsys):
    path, entries = tmp_path / "found.json", cases.entries

    def interrupt(_):
        raise KeyboardInterrupt

    def then_interrupted(*given, **options):
        first, second = entries(*given, **options)
        return [first, cases.Entry("second", interrupt, second.weight)]

    monkeypatch.setattr(cases, "entries", then_interrupted)
    assert run("--ops", "memory_attend", *TINY, "--json", str(path)) == 130
    found = json.loads(path.read_text())
    assert found["complete"] is False
    assert [row["sizes"]["frames"] for row in found["rows"]] == [2]


def test_isa_and_threads_are_used_and_put_back(tmp_path: Path):
    path = tmp_path / "found.json"
    threads, isa = torch.get_num_threads(), torch.ops.svm_ext.cpu_isa(None)
    assert run("--ops", "nms", *TINY, "--isa", "portable", "--threads", "2", "--json", str(path)) == 0
    found = json.loads(path.read_text())["machine"]
    assert (found["isa"], found["threads"]) == ("portable", 2)
    assert (torch.ops.svm_ext.cpu_isa(None), torch.get_num_threads()) == (isa, threads)


def test_an_unknown_isa_lists_those_that_there_are(capsys):
    assert run("--quick", "--isa", "mmx") == 2
    error = capsys.readouterr().err
    assert "portable" in error
    assert "mmx" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--units", "0"], "expected a whole number of at least 1, got '0'"),
        (["--frames", "some"], "expected a whole number of at least 1, got 'some'"),
        (["--ops", "attend"], "invalid choice: 'attend'"),
        (["--dtype", "fp16"], "invalid choice: 'fp16'"),
    ],
)
def test_wrong_words(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--json", "--plot"])
def test_a_folder_that_is_not_there_is_told_before_the_work(option, capsys, tmp_path: Path):
    assert run(*TINY, option, str(tmp_path / "missing" / "found.png")) == 2
    found = capsys.readouterr()
    assert found.err.startswith(f"svm-ext bench: {option}: expected a file in a folder that exists")
    assert found.out == ""


def test_matplotlib_that_is_missing_is_told_before_the_work(capsys, monkeypatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(*TINY, "--plot", str(tmp_path / "found.png")) == 2
    found = capsys.readouterr()
    assert found.err == "svm-ext bench: --plot: needs matplotlib, found none; type: pip install matplotlib\n"
    assert found.out == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(capsys):
    assert run("--device", "cuda") == 2
    assert "torch finds no GPU" in capsys.readouterr().err


def test_every_example_of_the_help_is_a_command():
    parser = main.build_parser("bench")
    lines = [line.split("  ")[1] for line in bench.EXAMPLES.splitlines()[1:]]
    assert len(lines) >= 4
    for line in lines:
        words = shlex.split(line)
        assert words[:2] == ["svm-ext", "bench"]
        parser.parse_args(words[1:])


def test_ops_are_those_that_there_are():
    assert bench.OPS == cases.OPS


def test_few_options():
    actions = main.build_parser("bench")._subparsers._group_actions[0].choices["bench"]._actions
    assert len(actions) <= 16  # --help among them


def test_quick_is_quick(monkeypatch):
    """Few rows, and no more than a few seconds of measuring each."""
    from svm_ext.bench import measure

    rows = cases.entries(quick=True)
    contenders = 6
    assert len(rows) * contenders * measure.QUICK.seconds < 30
    assert isinstance(measure.QUICK, Plan)
