"""`svm-ext recognize`: from a command to answers in files, and one line for everything that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import svm_ext
from svm_ext.cli import main, recognize
from svm_ext.models.weights import save_model
from svm_ext.stream import recognize as stream_recognize
from video_kit import TINY_ACTIONS, noise, write_video


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = svm_ext.create_model("svit_tiny_action", **TINY_ACTIONS)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save_model(model, tmp_path / "actions.safetensors")
    return tmp_path / "actions.safetensors"


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "hall.mp4", noise(10, (96, 64)))


def run(*words: object) -> int:
    return main.main(["recognize", *map(str, words), "--device", "cpu"])


def small(name: str) -> dict:
    return TINY_ACTIONS if name.endswith("_action") else {}


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_answers_are_told_and_written(tmp_path: Path, weights: Path, video: Path, capsys) -> None:
    (tmp_path / "names.txt").write_text("sit\nstand\n\nwalk\n")
    out = tmp_path / "out"
    words = [video, "--weights", weights, "--classes", tmp_path / "names.txt", "--top", 2, "--stride", 3]
    assert run(*words, "--output", out) == 0
    told = capsys.readouterr().out
    found = lines(out / "hall.jsonl")
    results = list(svm_ext.recognize(video, weights, stride=3, device="cpu"))
    assert [line["frame"] for line in found] == [result.index for result in results] == [0, 3, 6, 9]
    for line, result in zip(found, results, strict=True):
        assert [action["label"] for action in line["actions"]] == [label for label, _ in result.best(2)]
        assert [action["name"] for action in line["actions"]] == [
            ["sit", "stand", "walk"][label] for label, _ in result.best(2)
        ]
        assert [action["score"] for action in line["actions"]] == pytest.approx(
            [score for _, score in result.best(2)], abs=1e-3
        )
    mean = np.mean([result.scores for result in results], axis=0)
    [best, second] = [["sit", "stand", "walk"][label] for label in np.argsort(-mean)[:2]]
    assert "done: 4 answers" in told
    assert "hall, the mean of 4 answers:" in told
    assert told.index(f"  {best}\n") < told.index(f"  {second}\n")
    assert f"wrote {out / 'hall.jsonl'}" in told


def test_without_names_classes_have_numbers(tmp_path: Path, weights: Path, video: Path, capsys) -> None:
    assert run(video, "--weights", weights, "--output", tmp_path / "out") == 0
    assert "class 2" in capsys.readouterr().out
    assert {len(line["actions"]) for line in lines(tmp_path / "out" / "hall.jsonl")} == {3}


def test_many_sources_each_have_a_file(tmp_path: Path, weights: Path, video: Path) -> None:
    other = write_video(tmp_path / "gym.mp4", noise(6, (64, 64), seed=1))
    assert run(video, other, "--weights", weights, "--output", tmp_path / "both", "--stride", 2) == 0
    assert run(other, "--weights", weights, "--output", tmp_path / "one", "--stride", 2) == 0
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == ["gym.jsonl", "hall.jsonl"]
    for together, alone in zip(*(lines(tmp_path / it / "gym.jsonl") for it in ("both", "one")), strict=True):
        assert together["frame"] == alone["frame"]
        assert together["actions"][0]["score"] == pytest.approx(alone["actions"][0]["score"], abs=2e-4)


def test_an_interrupt_leaves_whole_files(tmp_path: Path, weights: Path, video: Path, capsys, monkeypatch) -> None:
    step, steps = stream_recognize.ActionSession.step, iter(range(99))

    def interrupted(self, frames):
        if next(steps) == 4:
            raise KeyboardInterrupt
        return step(self, frames)

    monkeypatch.setattr(stream_recognize.ActionSession, "step", interrupted)
    assert run(video, "--weights", weights, "--output", tmp_path / "out", "--stride", 1) == 130
    assert "interrupted: 4 answers" in capsys.readouterr().out
    assert len(lines(tmp_path / "out" / "hall.jsonl")) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--weights: expected a file, got none"),
        (
            ["--weights", "nowhere.safetensors"],
            "--weights: expected a file of weights, got none at nowhere.safetensors",
        ),
        (["--random-weights", "--model", "svit_tiny_mot"], "model: expected a classifier, got a Detector"),
        (["--random-weights", "--model", "svit_huge"], "svit_huge"),
        (["--random-weights", "--top", "0"], "--top: expected at least 1, got 0"),
        (["--random-weights", "--stride", "0"], "stride: expected a whole number of at least 1, got 0"),
        (["--random-weights", "--set", "clip_frames"], "--set: expected FIELD=VALUE, got 'clip_frames'"),
        (["--random-weights", "--backend", "cpus"], "use_backend: expected one of"),
        (["--random-weights", "--classes", "nowhere.txt"], "nowhere.txt"),
    ],
)
def test_wrong_words_are_one_line(
    tmp_path: Path, video: Path, capsys, monkeypatch, words: list[str], message: str
) -> None:
    build = svm_ext.models.registry.create_model
    monkeypatch.setattr(
        svm_ext.models.registry, "create_model", lambda name, **given: build(name, **small(name) | given)
    )
    named = words if "--model" in words or "--weights" in words else [*words, "--model", "svit_tiny_action"]
    assert run(video, *named, "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("svm-ext recognize: ")
    assert message in error
    assert "\n" not in error
    assert not (tmp_path / "out").exists()


def test_names_that_do_not_fit(tmp_path: Path, weights: Path, video: Path, capsys) -> None:
    (tmp_path / "names.txt").write_text("sit\nstand\n")
    assert run(video, "--weights", weights, "--classes", tmp_path / "names.txt", "--output", tmp_path / "out") == 2
    assert "--classes: expected 3 names, got 2" in capsys.readouterr().err


def test_results_that_are_there_stay(tmp_path: Path, weights: Path, video: Path, capsys) -> None:
    words = [video, "--weights", weights, "--output", tmp_path / "out"]
    assert run(*words) == 0
    before = (tmp_path / "out" / "hall.jsonl").read_bytes()
    assert run(*words, "--stride", 2) == 2
    assert "is there already; add --overwrite" in capsys.readouterr().err
    assert (tmp_path / "out" / "hall.jsonl").read_bytes() == before
    assert run(*words, "--stride", 2, "--overwrite") == 0
    assert len(lines(tmp_path / "out" / "hall.jsonl")) == 5


def test_help_shows_examples_and_agrees_with_the_library(capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        main.main(["recognize", "--help"])
    assert stopped.value.code == 0
    assert "svm-ext recognize 0 --weights W" in capsys.readouterr().out
    assert recognize.STRIDE == stream_recognize.STRIDE
    assert recognize.MODEL in svm_ext.list_models()
