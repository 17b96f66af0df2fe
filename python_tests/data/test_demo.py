"""The demo's scenes: none of them can have been trained on, and the shipped files are small and say what they are."""

from __future__ import annotations

import numpy as np
import pytest

from svm_ext.data import demo
from svm_ext.data.scenes import Scene
from svm_ext.models.config import DetectorConfig
from svm_ext.models.registry import load_model
from svm_ext.models.weights import read_config, read_state


def test_training_never_draws_a_shown_seed() -> None:
    trained = demo.training_scenes()
    shown = {demo.demo_scene(number, (64, 96)).seed for number in range(50)}
    assert len(shown) == 50
    assert min(shown) > (1 << 30) + trained.places
    assert {demo.demo_scene(number, (64, 96)).place for number in range(50)} == shown


def test_trained_scenes_are_filmed_alike_and_busier() -> None:
    trained, shown = demo.training_scenes().config, demo.demo_scene(0).config
    for name in ("statues", "blur", "shade", "noise"):
        assert getattr(trained, name) == getattr(shown, name)
    assert trained.far < shown.far
    for name in ("people", "props", "hiding", "shake"):
        assert getattr(trained, name) > getattr(shown, name)
    for config in (trained, shown):
        assert config.size[0] * demo.MODEL_SIZE[1] == config.size[1] * demo.MODEL_SIZE[0]


def test_training_clips_hold_people_who_can_be_seen() -> None:
    clip, targets = demo.training_scenes()[0, 7]
    assert clip.shape == (8, 3, 192, 288)
    assert all((target["visibility"] >= demo.VISIBLE).all() for target in targets)


def test_a_number_is_a_scene() -> None:
    one, again, other = (demo.demo_scene(number, (64, 96))[5] for number in (1, 1, 2))
    assert np.array_equal(one.image, again.image)
    assert not np.array_equal(one.image, other.image)
    assert isinstance(demo.demo_scene(0, (64, 96)), Scene)


@pytest.mark.parametrize("number", [-1, 1 << 30])
def test_other_numbers_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match="seed: expected a whole number from 0"):
        demo.demo_scene(number)


@pytest.mark.parametrize("path", [demo.STREAMING, demo.FRAME_BASED], ids=lambda path: path.stem)
def test_shipped_weights_are_whole(path: object) -> None:
    described = read_config(path)
    assert described["model"] == "Detector"
    config = DetectorConfig.from_dict(described["config"])
    assert config.picture_size == (demo.MODEL_SIZE[1], demo.MODEL_SIZE[0])
    assert config.backbone.temporal == ("stream" if path == demo.STREAMING else "none")
    assert all(tensor.isfinite().all() for tensor in read_state(path).values())
    assert load_model(path).config == config


def test_shipped_weights_are_small() -> None:
    assert sum(path.stat().st_size for path in demo.WEIGHTS.iterdir()) <= 8_000_000


def test_the_two_models_differ_in_their_memory_alone() -> None:
    streaming, frame_based = (
        DetectorConfig.from_dict(read_config(path)["config"]) for path in (demo.STREAMING, demo.FRAME_BASED)
    )
    assert streaming.replace(temporal="none") == frame_based
