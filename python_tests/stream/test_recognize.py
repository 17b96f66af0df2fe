"""svm_ext.recognize: what a classifier says of sources is what it says of their frames, each stream alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import svm_ext
from svm_ext.models.weights import save_model
from svm_ext.stream.prepare import MEAN, STD
from svm_ext.stream.recognize import ActionResult, ActionSession, best_of
from svm_ext.stream.sources import Frame
from video_kit import TINY_ACTIONS, data_file, noise, write_video

SIDE = TINY_ACTIONS["input_resolution"]


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    made = svm_ext.create_model("svit_tiny_action", **TINY_ACTIONS).eval()
    for parameter in made.parameters():  # so that pictures matter to what is said
        torch.nn.init.normal_(parameter, std=0.1)
    return made


def frames(count: int, seed: int = 0, size: tuple[int, int] = (96, 64)) -> list[Frame]:
    return [Frame(image, index / 25, index) for index, image in enumerate(noise(count, size, seed))]


def shown(model: torch.nn.Module, given: list[Frame], stride: int = 1, name: str = "a") -> list[ActionResult]:
    session = ActionSession(model, stride=stride)
    session.open(name, given[0].image.shape[1::-1])
    return [result for frame in given for result in session.step({name: frame}).values()]


def prepared(image: np.ndarray) -> torch.Tensor:
    """The central square of a picture, in the model's size, normalised; on its own, without the code under test."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = torch.from_numpy(image[top : top + side, left : left + side].copy()).permute(2, 0, 1)[None]
    scaled = torch.nn.functional.interpolate(square, (SIDE, SIDE), mode="bilinear", antialias=SIDE / side < 0.5)[0]
    return (scaled - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


@pytest.mark.parametrize("size", [(96, 64), (64, 96), (32, 32), (200, 33)])
def test_the_last_frames_are_seen_as_a_clip(model: torch.nn.Module, size: tuple[int, int]) -> None:
    given = frames(4, size=size)
    clip = torch.stack([prepared(frame.image) for frame in given])[None]  # [1, 4, 3, H, W]
    with torch.no_grad():
        expected = [model(clip[:, : count + 1]).softmax(-1)[0].numpy() for count in range(4)]
    found = shown(model, given)
    assert np.ptp([scores[0] for scores in expected]) > 1e-4
    for result, scores in zip(found, expected, strict=True):
        np.testing.assert_allclose(result.scores, scores, atol=1e-4)
        assert result.scores.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("stride", [1, 2, 3, 7, 100])
def test_the_model_sees_every_so_many_frames(model: torch.nn.Module, stride: int) -> None:
    given = frames(15)
    found = shown(model, given, stride)
    assert [result.index for result in found] == list(range(0, 15, stride))
    alone = shown(model, given[::stride], 1)
    for result, expected in zip(found, alone, strict=True):
        np.testing.assert_array_equal(result.scores, expected.scores)
        assert result.time == expected.time
        assert result.image is expected.image


def test_frames_that_a_live_source_lost_count_too(model: torch.nn.Module) -> None:
    given = [frame for frame in frames(20) if frame.index not in (4, 5, 8, 13)]
    assert [result.index for result in shown(model, given, 4)] == [0, 6, 10, 14, 18]


def test_streams_know_nothing_of_each_other(model: torch.nn.Module) -> None:
    given = {"a": frames(9, 1), "b": frames(6, 2, (48, 80)), "c": frames(7, 3)}
    alone = {name: shown(model, it, 2) for name, it in given.items()}
    session = ActionSession(model, stride=2)
    found: dict[str, list[ActionResult]] = {name: [] for name in given}
    for step in range(12):
        arriving = {}
        for late, (name, it) in enumerate(given.items()):  # each begins three frames after the one before
            at = step - 3 * late
            if at == 0:
                session.open(name, it[0].image.shape[1::-1])
            if 0 <= at < len(it):
                arriving[name] = it[at]
        for name, result in session.step(arriving).items():
            found[name].append(result)
        for name in [name for name in session.streams if given[name][-1] is arriving.get(name)]:
            session.close(name)
    for name, expected in alone.items():
        assert [it.index for it in found[name]] == [it.index for it in expected][: len(found[name])]
        assert found[name]
        for one, other in zip(found[name], expected, strict=False):
            np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


def test_a_slot_is_empty_when_it_is_taken_again(model: torch.nn.Module) -> None:
    session = ActionSession(model, stride=1)
    session.open("old", (96, 64))
    for frame in frames(5, 1):
        session.step({"old": frame})
    session.close("old")
    assert session.streams == []
    session.open("new", (96, 64))
    first = session.step({"new": frames(1, 2)[0]})["new"]
    np.testing.assert_allclose(first.scores, shown(model, frames(1, 2))[0].scores, atol=1e-6)
    session.reset("new")
    again = session.step({"new": frames(1, 2)[0]})["new"]
    np.testing.assert_allclose(again.scores, first.scores, atol=1e-6)


def test_memory_does_not_grow(model: torch.nn.Module) -> None:
    session = ActionSession(model, stride=1)
    assert session.nbytes == 0
    session.open("a", (96, 64))
    sizes = {session.nbytes for frame in frames(30) if session.step({"a": frame})}
    assert len(sizes) == 1
    assert sizes.pop() > 0


def test_wrong_use_is_told_and_changes_nothing(model: torch.nn.Module) -> None:
    session = ActionSession(model, stride=1)
    session.open("a", (96, 64))
    [first, second] = frames(2)
    expected = shown(model, [first, second])[1].scores
    session.step({"a": first})
    small = Frame(first.image[:-1], 0.0, 1)
    floats = Frame(first.image.astype(np.float32), 0.0, 1)
    for wrong, message in (
        ({"a": small}, r"frames: expected uint8 \[64, 96, 3\] for stream 'a'"),
        ({"a": floats}, "got float32"),
        ({"b": second}, "stream: expected an open stream \\('a'\\), got 'b'"),
    ):
        with pytest.raises(ValueError, match=message):
            session.step(wrong)
    np.testing.assert_array_equal(session.step({"a": second})["a"].scores, expected)
    for call, message in (
        (lambda: session.open("a", (96, 64)), "which is open"),
        (lambda: session.open("b", (0, 64)), "size: expected two sides"),
        (lambda: session.close("b"), "open it first"),
        (lambda: ActionSession(model, stride=0), "stride: expected a whole number of at least 1, got 0"),
        (lambda: ActionSession(model, stride=True), "stride"),
        (lambda: ActionSession(svm_ext.create_model("svit_tiny_action", **TINY_ACTIONS)), r"call model\.eval\(\)"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert session.step({}) == {}


def test_best_of() -> None:
    scores = np.array([0.1, 0.4, 0.1, 0.4], dtype=np.float32)
    assert [label for label, _ in best_of(scores, 3)] == [1, 3, 0]
    assert len(best_of(scores, 9)) == 4


def test_from_a_file_to_results(tmp_path: Path, model: torch.nn.Module) -> None:
    path = write_video(tmp_path / "hall.mp4", noise(10, (96, 64)))
    save_model(model, tmp_path / "actions.safetensors")
    with svm_ext.recognize(path, tmp_path / "actions.safetensors", stride=3, device="cpu") as found:
        results = list(found)
    assert [(it.stream, it.index) for it in results] == [("hall", 0), ("hall", 3), ("hall", 6), ("hall", 9)]
    decoded = list(svm_ext.open_source(path))
    for result, expected in zip(results, shown(model, decoded, 3), strict=True):
        np.testing.assert_allclose(result.scores, expected.scores, atol=1e-5)
    again = list(svm_ext.recognize([path, path], model, stride=3))
    assert {it.stream for it in again} == {"hall", "hall-2"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(model="svit_tiny_mot"), "model: expected a classifier, got a Detector in svit_tiny_mot; choose from"),
        (dict(model="svit_tiny_acton"), "svit_tiny_action"),
        (dict(model="svit_tiny_action", widht=64), "widht"),
    ],
)
def test_models_that_do_not_recognise(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    path = write_video(tmp_path / "hall.mp4", noise(3, (96, 64)))
    with pytest.raises(ValueError, match=message):
        svm_ext.recognize(path, **given)


def test_weights_that_do_not_tell_their_model(tmp_path: Path, model: torch.nn.Module) -> None:
    path = write_video(tmp_path / "hall.mp4", noise(3, (96, 64)))
    torch.save(model.state_dict(), tmp_path / "plain.pth")
    with pytest.raises(ValueError, match="model: expected the name of one for weights that do not tell it"):
        svm_ext.recognize(path, tmp_path / "plain.pth")
    named = svm_ext.recognize(path, "svit_tiny_action", weights=tmp_path / "plain.pth", device="cpu", **TINY_ACTIONS)
    [result] = list(named)
    np.testing.assert_allclose(result.scores, next(iter(svm_ext.recognize(path, model))).scores, atol=1e-5)
    with pytest.warns(UserWarning, match="svit_tiny_action has random weights and knows no action"):
        svm_ext.recognize(path, "svit_tiny_action", **TINY_ACTIONS).close()


def test_a_real_video_that_is_damaged(model: torch.nn.Module) -> None:
    found = svm_ext.recognize(data_file("action_clips/k400_arm_wrestling.mp4"), model, stride=16, device="cpu")
    indices = [result.index for result in found]
    assert indices == list(range(0, 16 * len(indices), 16))
    assert len(indices) > 5
