"""A training's settings reach the training, the detector and its backbone, and say what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from svm_ext.train.config import PRESETS, TrainConfig, config_from


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_sound_and_survive_a_file(name: str, tmp_path: Path) -> None:
    config = config_from(name)
    config.save(tmp_path / "config.yaml")
    assert config_from(str(tmp_path / "config.yaml")) == config


def test_settings_go_where_they_belong() -> None:
    config = TrainConfig().with_settings(
        {"width": 64, "neck_channels": 32, "batch": 7, "model": "svit_small_mot", "heads": 2}
    )
    assert (config.detector.backbone.width, config.detector.backbone.heads) == (64, 2)
    assert config.detector.backbone.layers == 12
    assert config.detector.neck_channels == 32
    assert config.detector.csp_blocks == 2  # of svit_small_mot
    assert config.batch == 7


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"bach": 3}, r"bach: .*did you mean batch"),
        ({"model": "svit_tiny"}, r"model: expected the name of a detector"),
        ({"batch": 0}, "batch: expected at least 1"),
        ({"batch": "many"}, "batch: expected a whole number"),
        ({"height": 100}, "height: expected a multiple of 32"),
        ({"step": "video"}, "step: expected one of clip, frame"),
        ({"warmup_epochs": 9.8}, "warmup_epochs"),
        ({"strides": ()}, "strides"),
        ({"sample": 0.0}, "sample"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"heads": 5}, "heads: expected a divisor"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(settings: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError, match=line) as error:
        TrainConfig().with_settings(settings)
    assert "\n" not in str(error.value)


def test_an_unknown_preset() -> None:
    with pytest.raises(ValueError, match=r"config: expected a file or a preset, got 'scene'; did you mean scenes"):
        config_from("scene")


def test_the_released_recipe() -> None:
    """Two frames, two remembered, a tenth of the rate for what CLIP has filled."""
    config = config_from("mot17")
    backbone = config.detector.backbone
    assert (config.clip_frames, backbone.memory_frames, config.size) == (2, 2, (800, 1440))
    assert backbone.checkpoint
    assert (config.learning_rate, config.backbone_factor, config.batch) == (2.5e-4, 0.1, 2)
