"""The recipe of the shipped models: draws, trains both alike, goes on after an interrupt, ships in half precision."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from svm_ext.data import demo as scenes
from svm_ext.data.scenes import SceneConfig, SceneDataset
from svm_ext.models.config import DetectorConfig
from svm_ext.models.registry import load_model
from svm_ext.models.weights import read_config, read_state
from svm_ext.train import demo
from svm_ext.train.config import TrainConfig, config_from

QUICK = dict(
    epochs=1, clip_frames=2, width=32, heads=1, precision="fp32", tail_epochs=0.5, warmup_epochs=0.5, memory_frames=4
)


def few_scenes(number: int = 0, clips: int = 2) -> SceneDataset:
    return SceneDataset(number, SceneConfig(size=(192, 288)), clip_frames=2, length=min(clips, 2), min_visibility=0.2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    """Both models, after a step in each round."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "training_scenes", few_scenes)
        return folder, demo.train(folder, QUICK)


@pytest.mark.parametrize("number", range(len(demo.ROUNDS)))
def test_both_are_trained_alike(trained: tuple[Path, dict[str, Path]], number: int) -> None:
    folder, _ = trained
    streaming, frame_based = (TrainConfig.load(folder / f"{name}-{number}" / "config.yaml") for name in demo.MODELS)
    assert streaming.detector.backbone.temporal == "stream"
    assert frame_based.detector.backbone.temporal == "none"
    without = streaming.detector.replace(backbone=streaming.detector.backbone.replace(temporal="none"))
    assert streaming.replace(detector=without, weights=frame_based.weights) == frame_based


def test_a_round_goes_on_from_the_one_before_with_other_clips(trained: tuple[Path, dict[str, Path]]) -> None:
    folder, _ = trained
    for name in demo.MODELS:
        rounds = [TrainConfig.load(folder / f"{name}-{number}" / "config.yaml") for number in range(len(demo.ROUNDS))]
        assert rounds[0].weights is None
        assert [Path(it.weights) for it in rounds[1:]] == [
            folder / f"{name}-{number}" / "model.safetensors" for number in range(len(rounds) - 1)
        ]
        assert len({it.data for it in rounds}) == len(rounds)


def test_shipped_weights_are_the_trained_ones_in_half_precision(trained: tuple[Path, dict[str, Path]]) -> None:
    folder, weights = trained
    for name, path in weights.items():
        last = folder / f"{name}-{len(demo.ROUNDS) - 1}" / "model.safetensors"
        exact, shipped = read_state(last), read_state(path)
        assert exact.keys() == shipped.keys()
        for key, value in exact.items():
            expected = value.half() if value.is_floating_point() else value
            assert torch.equal(shipped[key], expected)
        config = DetectorConfig.from_dict(read_config(path)["config"])
        assert config.picture_size == (240, 160)
        assert next(load_model(path).parameters()).dtype == torch.float32


def test_a_finished_training_is_not_done_again(
    trained: tuple[Path, dict[str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, weights = trained
    before = {name: path.read_bytes() for name, path in weights.items()}
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("trained again"))
    again = demo.train(folder, QUICK)
    assert {name: path.read_bytes() for name, path in again.items()} == before


def test_a_training_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "training_scenes", few_scenes)
    with pytest.raises(ValueError, match=r"streaming-0 ended before its time; see .*streaming-0\.log"):
        demo.train(tmp_path, {**QUICK, "batch": 999})


def test_scores_come_from_scenes_that_were_held_out(
    trained: tuple[Path, dict[str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, weights = trained
    monkeypatch.setattr(demo, "HELD_OUT", [100, 101])
    scores = demo.score(weights["streaming"], scenes.MEMORY, frames=3)
    assert scores.tracks["GT_Dets"] > 0
    assert 0 <= scores.ap50 <= 1
    assert scores.memory_bytes > 0


def test_the_weights_in_the_package_can_be_scored_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "train", lambda *_: pytest.fail("trained"))
    monkeypatch.setattr(demo, "HELD_OUT", [100])
    monkeypatch.setattr(demo.score, "__defaults__", (None, 3))
    assert demo.main(["--score"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.startswith(name) for line, name in zip(lines, scenes.CONTENDERS, strict=True)] == [True] * 3
    with pytest.raises(SystemExit):
        demo.main(["--score", "--install"])


def test_the_preset_is_the_recipe() -> None:
    config = config_from("demo")
    rounds = [config.with_settings(changes) for _, changes in demo.ROUNDS]
    assert rounds[-1].size == scenes.MODEL_SIZE
    assert all(it.size[0] * scenes.MODEL_SIZE[1] == it.size[1] * scenes.MODEL_SIZE[0] for it in rounds)
    assert config.seed == scenes.TRAINING_SEED
    assert config.clip_frames <= scenes.training_scenes().clip_frames
    assert config.detector.backbone.temporal == "stream"


def test_help_tells_what_it_does(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "svm_ext.train.demo", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0
    assert "--install" in done.stdout
    assert "two idle cores" in done.stdout
