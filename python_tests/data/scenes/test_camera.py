"""The camera moves without jumps, and its faults come and go."""

from __future__ import annotations

import numpy as np
import pytest

from svm_ext.data._scenes import camera
from svm_ext.data._scenes.camera import Camera
from svm_ext.data._scenes.stage import SWAY, TREMBLE, TURN

USUAL = dict(shake=1.0, blur=1.0, shade=1.0, noise=1.0)


def test_a_frame_is_a_function_of_its_number() -> None:
    first, second = Camera(5, 192, **USUAL), Camera(5, 192, **USUAL)
    order = [900, 3, 501, 3, 0]
    assert [first.shot(frame) for frame in order] == [second.shot(frame) for frame in order]
    assert first.shot(1) != Camera(6, 192, **USUAL).shot(1)


@pytest.mark.parametrize("seed", range(5))
def test_it_stays_within_what_the_layers_allow(seed: int) -> None:
    shots = [Camera(seed, 192, **{**USUAL, "shake": 2.0}).shot(frame) for frame in range(0, 4000, 3)]
    assert max(abs(shot.x) for shot in shots) <= SWAY
    assert max(abs(shot.pan[0]) for shot in shots) <= 192 * (TURN + TREMBLE)
    assert max(abs(shot.pan[1]) for shot in shots) <= 192 / 9


def test_it_does_not_jump() -> None:
    shots = [Camera(2, 192, **USUAL).shot(frame) for frame in range(1000)]
    steps = np.abs(np.diff([shot.pan for shot in shots], axis=0))
    assert steps.max() < 12.0
    assert np.median(steps) < 0.6
    assert np.abs(np.diff([shot.x for shot in shots])).max() < 0.02


def test_all_that_happens_happens() -> None:
    shots = [Camera(2, 192, **USUAL).shot(frame) for frame in range(2000)]
    assert 0.04 < np.mean([shot.defocus > 0 for shot in shots]) < 0.3
    assert 0.005 < np.mean([max(map(abs, shot.streak)) >= 1.5 for shot in shots]) < 0.1
    assert min(shot.gain[1] for shot in shots) < 0.7
    assert max(shot.gain[1] for shot in shots) < 1.12
    assert max(shot.noise for shot in shots) > min(shot.noise for shot in shots) > 0


def test_strengths_of_zero_leave_the_picture_alone() -> None:
    still = Camera(2, 192, shake=0.0, blur=0.0, shade=0.0, noise=0.0)
    for frame in range(0, 2000, 13):
        shot = still.shot(frame)
        assert shot.streak == (0.0, 0.0)
        assert (shot.defocus, shot.noise) == (0, 0)
        assert shot.gain == (1.0, 1.0, 1.0)


def test_noise_is_centred_and_bounded() -> None:
    steps = camera.noise(100_000, 12).view(np.int8).astype(int)
    assert np.abs(steps).max() <= 12
    assert abs(steps.mean()) < 0.6
    assert 2.0 < steps.std() < 4.5


def test_development_never_wraps() -> None:
    """White stays light and black stays dark under the strongest light and noise."""
    shot = Camera(0, 64, **USUAL).shot(0)._replace(gain=(1.3, 1.0, 0.2), noise=16)
    full = np.full((64, 64), 256, np.uint16)
    white = camera.develop(np.full((3, 64, 64), 235, np.uint8), shot, full)
    black = camera.develop(np.zeros((3, 64, 64), np.uint8), shot, full)
    assert white[0].min() > 200
    assert black.max() <= 32
