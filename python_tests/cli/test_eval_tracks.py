"""`svm-ext eval tracks`: the table, JSON, and one line with exit code 2 for whatever is amiss."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from svm_ext.cli import main
from svm_ext.evaluate import evaluate_tracks
from track_oracle import random_rows

KEYS = ["HOTA", "DetA", "AssA", "MOTA", "MOTP", "IDF1", "IDSW", "FP", "FN", "Frag", "MT", "ML"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ground truth and results of two sequences."""
    for seed, name in enumerate(("MOT17-02", "MOT17-04")):
        random_rows(seed).write(tmp_path, name)
    return tmp_path


def run(data: Path, *more: str, gt: str = "gt", pred: str = "pred") -> int:
    return main.main(["eval", "tracks", "--gt", str(data / gt), "--pred", str(data / pred), *more])


def test_prints_a_table(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(data) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.rstrip("\n") == evaluate_tracks(data / "gt", data / "pred").table()
    assert [line.split()[0] for line in out.splitlines()] == ["sequence", "MOT17-02", "MOT17-04", "COMBINED"]
    assert set(KEYS) <= set(out.splitlines()[0].split())


def test_json_alone_goes_to_standard_output(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(data, "--json", "-") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["MOT17-02", "MOT17-04", "COMBINED"]
    assert found == evaluate_tracks(data / "gt", data / "pred").as_dict()
    for scores in found.values():
        assert set(KEYS) <= set(scores)
        assert all(isinstance(scores[key], int) for key in ("IDSW", "FP", "FN", "Frag", "MT", "ML"))
        assert all(0 < scores[key] < 1 for key in ("HOTA", "DetA", "AssA", "MOTP", "IDF1"))


def test_json_file_beside_the_table(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = data / "scores.json"
    assert run(data, "--json", str(path)) == 0
    assert capsys.readouterr().out.endswith(f"wrote {path}\n")
    assert json.loads(path.read_text()) == evaluate_tracks(data / "gt", data / "pred").as_dict()


@pytest.mark.parametrize("name", ["MOT15", "MOT17", "MOT20"])
def test_rules_can_be_chosen(name: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(data, "--benchmark", name, "--json", "-") == 0
    expected = evaluate_tracks(data / "gt", data / "pred", benchmark=name).as_dict()
    assert json.loads(capsys.readouterr().out) == expected


def test_sequences_can_be_chosen(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(data, "--sequences", "MOT17-04", "--json", "-") == 0
    assert list(json.loads(capsys.readouterr().out)) == ["MOT17-04", "COMBINED"]


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed: one line that says where it comes from, and nothing else."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("svm-ext eval: ")
    assert err.count("\n") == 1
    return err


def test_a_missing_sequence(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "pred" / "MOT17-04.txt").unlink()
    assert run(data) == 2
    assert "got none for MOT17-04; track it and write" in told(capsys)


def test_no_name_in_common(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(data, pred="gt/MOT17-02/gt") == 2
    assert "expected sequences named as in gt (MOT17-02, MOT17-04), got gt" in told(capsys)


def test_a_repeated_id(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = data / "pred" / "MOT17-04.txt"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines, lines[-1]]))
    assert run(data, "--json", str(data / "scores.json")) == 2
    last = len(lines) + 1
    assert f"{file}, line {last}: expected each id once a frame" in told(capsys)
    assert not (data / "scores.json").exists()


@pytest.mark.parametrize("which", ["pred/MOT17-02.txt", "gt/MOT17-02/gt/gt.txt"])
def test_an_empty_file(which: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / which).write_text("")
    assert run(data) == 2
    assert f"{data / which}: expected tracks, got an empty file; allow_empty (--allow-empty)" in told(capsys)
    assert run(data, "--allow-empty") == 0


@pytest.mark.parametrize("side", ["gt", "pred"])
def test_a_folder_that_is_not_there(side: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(data, **{side: "none"}) == 2
    assert f"{side}: expected a folder or a file that exists" in told(capsys)


def test_a_folder_of_the_json_file_that_is_not_there(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(data, "--json", str(data / "none" / "scores.json")) == 2
    assert "--json: expected a file in a folder that exists" in told(capsys)


@pytest.mark.parametrize(
    "arguments", [["eval"], ["eval", "boxes"], ["eval", "tracks"], ["eval", "tracks", "--gt", "x"]]
)
def test_wrong_use(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main.main(arguments)
    assert stop.value.code == 2
    assert "usage: svm-ext eval" in capsys.readouterr().err


def test_help_has_examples_and_waits_for_nothing(tmp_path: Path) -> None:
    code = """
import sys
from svm_ext.cli.main import main
try:
    main(["eval", "tracks", "--help"])
except SystemExit:
    pass
assert not {"torch", "numpy", "scipy"} & set(sys.modules), "imported too early"
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "svm-ext eval tracks --gt" in done.stdout.partition("examples:")[2]


def test_scores_without_torch(data: Path) -> None:
    """The evaluator needs no torch, so that a table of scores does not wait for it."""
    code = f"""
import sys
sys.modules["torch"] = None
from svm_ext.cli.main import main
sys.exit(main(["eval", "tracks", "--gt", {str(data / "gt")!r}, "--pred", {str(data / "pred")!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=data, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
