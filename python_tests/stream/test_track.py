"""svm_ext.track: from a source, or several, to results."""

from __future__ import annotations

import gc
import os
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import svm_ext
from svm_ext.models.weights import save_model
from svm_ext.stream.sources import open_source
from svm_ext.stream.track import find_model, open_sources, split_settings
from video_kit import SIZE, TINY, BrightDetector, data_file, noise, picture, tracks_of, walk, write_scene, write_video
from video_servers import http_server, send


@pytest.fixture(autouse=True)
def nothing_is_left_open() -> Iterator[None]:
    yield
    gc.collect()
    deadline = time.monotonic() + 5
    while any("reader" in thread.name for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [thread.name for thread in threading.enumerate() if "reader" in thread.name] == []


def bright(source, **options):
    return svm_ext.track(source, BrightDetector(), size=SIZE, **options)


def test_a_loop_over_results(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "yard.mp4", 25)
    results = list(bright(path))
    assert [result.index for result in results] == list(range(25))
    assert {result.stream for result in results} == {"yard"}
    assert [result.time for result in results] == pytest.approx([k / 25 for k in range(25)], abs=1e-4)
    assert all(len(result.tracks) == 2 for result in results)
    assert results[-1].tracks.ids.tolist() == results[0].tracks.ids.tolist() == [1, 2]
    assert results[-1].remembered == 4


def test_ids_stay_with_their_boxes(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "yard.mp4", 20)
    lanes = {}
    for result in bright(path):
        for number, box in zip(result.tracks.ids.tolist(), result.tracks.boxes.tolist(), strict=True):
            lanes.setdefault(number, set()).add(round(box[1]))
    assert sorted(lanes) == [1, 2]
    assert not set.intersection(*lanes.values())


def test_many_sources_give_the_tracks_that_each_gives_alone(tmp_path: Path) -> None:
    paths = [write_scene(tmp_path / f"{k}.mp4", 15 + 6 * k, seed=k) for k in range(3)]
    found: dict[str, list] = {}
    for result in bright(paths):
        found.setdefault(result.stream, []).append(result)
    for path in paths:
        assert tracks_of(found[path.stem]) == tracks_of(bright(path))


def test_sources_of_one_name_are_told_apart(tmp_path: Path) -> None:
    paths = []
    for folder in "abc":
        (tmp_path / folder).mkdir()
        paths.append(write_scene(tmp_path / folder / "door.mp4", 3))
    assert {result.stream for result in bright(paths)} == {"door", "door-2", "door-3"}


def test_a_source_may_be_open_already(tmp_path: Path) -> None:
    source = open_source(write_scene(tmp_path / "yard.mp4", 4))
    assert len(list(bright(source))) == 4


def test_memory_is_given_back_as_streams_end(tmp_path: Path) -> None:
    paths = [write_scene(tmp_path / "short.mp4", 3), write_scene(tmp_path / "long.mp4", 9)]
    run = bright(paths)
    streams = [(result.index, list(run.session.streams)) for result in run]
    assert streams[0][1] == ["short", "long"]
    assert streams[-1][1] == ["long"]
    assert run.session.streams == []
    assert run.session.nbytes == 0


def test_breaking_out_closes_the_source(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "yard.mp4", 100)
    before = len(os.listdir("/proc/self/fd"))
    for result in bright(path):
        if result.index == 3:
            break
    gc.collect()
    wait = time.monotonic() + 5
    while len(os.listdir("/proc/self/fd")) > before and time.monotonic() < wait:
        time.sleep(0.01)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_run_that_nobody_began_is_closed_too(tmp_path: Path) -> None:
    bright(write_scene(tmp_path / "yard.mp4", 100))


def test_it_is_a_context(tmp_path: Path) -> None:
    with bright(write_scene(tmp_path / "yard.mp4", 100)) as run:
        next(run)
    assert (run.dropped, run.problems) == (0, [])


def test_damage_is_a_problem_and_no_error(tmp_path: Path) -> None:
    path = write_video(tmp_path / "yard.mp4", noise(40), movflags="faststart")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    run = bright(path)
    assert 10 < len(list(run)) < 30
    assert len(run.problems) == 1
    assert "cut short" in run.problems[0]


def test_an_error_in_mid_stream_comes_after_the_results_before_it(tmp_path: Path) -> None:
    first, second = write_scene(tmp_path / "1.ts", 8), write_scene(tmp_path / "2.ts", 8, size=(192, 96))
    both = tmp_path / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    other = write_scene(tmp_path / "other.mp4", 20)
    seen: dict[str, int] = {}

    def loop() -> None:
        for result in bright([both, other]):
            seen[result.stream] = seen.get(result.stream, 0) + 1

    with pytest.raises(ValueError, match="from frame 8 of"):
        loop()
    assert seen == {"both": 8, "other": 20}


def test_a_live_source(tmp_path: Path) -> None:
    body = write_scene(tmp_path / "a.ts", 20).read_bytes()

    def answer(handler, number: int) -> None:
        send(handler, body) if number == 0 else handler.send_error(404)

    with http_server(answer) as address:
        run = bright(f"{address}/door", live="all")
        for source in run.sources.values():
            source._delays = (0.01,)
        results = list(run)
        assert len(results) == 20
        assert run.dropped == 0
        assert "lost after 20 frames" in run.problems[0]
    with http_server(answer) as address:
        run = bright(f"{address}/door", live="latest")
        for source in run.sources.values():
            source._delays = (0.01,)
        results = list(run)
        assert len(results) + run.dropped == 20
        assert results[-1].index == 19


# Models


def test_by_name_without_weights_there_is_a_warning(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "yard.mp4", 2)
    with pytest.warns(UserWarning, match="svit_tiny_mot has random weights and finds nothing useful"):
        results = list(svm_ext.track(path, "svit_tiny_mot", size=SIZE, **TINY))
    assert [result.index for result in results] == [0, 1]


def test_by_name_and_weights_and_by_file(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "yard.mp4", 3)
    torch.manual_seed(0)
    model = svm_ext.create_model("svit_tiny_mot", **TINY, score_threshold=0.0)
    save_model(model, tmp_path / "mine.safetensors")
    torch.save(model.state_dict(), tmp_path / "mine.pth")
    loose = dict(**TINY, score_threshold=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [
            list(svm_ext.track(path, model.eval(), size=SIZE)),
            list(svm_ext.track(path, tmp_path / "mine.safetensors", size=SIZE)),
            list(svm_ext.track(path, str(tmp_path / "mine.safetensors"), size=SIZE)),
            list(svm_ext.track(path, "svit_tiny_mot", weights=tmp_path / "mine.pth", size=SIZE, **loose)),
        ]
    for results in found[1:]:
        for result, expected in zip(results, found[0], strict=True):
            assert torch.equal(result.detections.boxes, expected.detections.boxes)


def test_settings_go_to_the_model_and_to_the_tracker() -> None:
    rules, coast, left = split_settings(dict(high=0.5, retain=9, coast=4, memory_frames=8))
    assert (rules.high, rules.retain, coast, left) == (0.5, 9, 4, {"memory_frames": 8})
    model, trained = find_model("svit_tiny_mot", None, **{**TINY, "memory_frames": 8})
    assert model.config.backbone.memory_frames == 8
    assert not trained


@pytest.mark.parametrize(
    ("model", "options", "text"),
    [
        ("svit_tyni_mot", {}, "svit_tiny_mot"),
        ("svit_tiny", {}, "model: expected a detector, got a SVit in svit_tiny; choose from svit_tiny_mot"),
        ("svit_tiny_mot", {"memory_frame": 3}, "did you mean memory_frames"),
        ("svit_tiny_mot", {"high": 2.0}, "high: expected a number from 0 to 1"),
        ("none.safetensors", {}, "none.safetensors"),
        ("svit_tiny_mot", {"weights": "none.safetensors"}, "none.safetensors"),
    ],
)
def test_a_model_that_is_not_there_is_told(tmp_path: Path, model: str, options: dict, text: str) -> None:
    path = write_scene(tmp_path / "yard.mp4", 2)
    with pytest.raises((ValueError, OSError), match=text) as error:
        svm_ext.track(path, model, **options)
    assert "\n" not in str(error.value)


def test_settings_do_not_change_a_model_that_is_built(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "yard.mp4", 2)
    with pytest.raises(ValueError, match="memory_frames: expected none with a model that is built"):
        bright(path, memory_frames=3)
    with pytest.raises(ValueError, match="weights: expected none with a model that is built"):
        bright(path, weights="a.pth")


def test_a_wrong_path_need_not_wait_for_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("svm_ext.stream.track.find_model", lambda *_, **__: pytest.fail("the model was built"))
    with pytest.raises(FileNotFoundError, match="which is not there"):
        svm_ext.track(tmp_path / "none.mp4", "svit_base_mot")


def test_weights_of_a_part_are_refused(tmp_path: Path) -> None:
    model = svm_ext.create_model("svit_tiny_mot", **TINY)
    torch.save(model.backbone.state_dict(), tmp_path / "backbone.pth")
    with pytest.raises(ValueError, match=r"weights: expected all of the detector, got none for (neck|bbox_head)"):
        find_model("svit_tiny_mot", tmp_path / "backbone.pth", **TINY)


def test_weights_that_do_not_fit_name_the_tensor(tmp_path: Path) -> None:
    other = svm_ext.create_model("svit_tiny_mot", **{**TINY, "neck_channels": 32})
    torch.save(other.state_dict(), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"neck\..*expected shape"):
        find_model("svit_tiny_mot", tmp_path / "other.pth", **TINY)


def test_a_file_of_weights_with_other_weights_is_refused(tmp_path: Path) -> None:
    save_model(svm_ext.create_model("svit_tiny_mot", **TINY), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="weights: expected none with a model from the file"):
        find_model(tmp_path / "a.safetensors", tmp_path / "a.safetensors")


# Sources


def test_all_sources_open_or_none(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "yard.mp4", 4)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError, match="which is not there"):
        open_sources([path, tmp_path / "none.mp4"])
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ValueError, match="source: expected at least one, got none"):
        bright([])


def test_a_wrong_policy_closes_what_was_opened(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "yard.mp4", 4)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ValueError, match="live: expected latest or all"):
        bright(path, live="some")
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    from PIL import Image

    for index, image in enumerate(walk(12)):
        Image.fromarray(image).save(tmp_path / f"shot{index}.png")
    results = list(bright(tmp_path))
    assert tracks_of(results)[0][1] == [1, 2]
    assert np.array_equal(results[11].image, list(walk(12))[11])


def test_boxes_of_a_larger_video_come_in_its_pixels(tmp_path: Path) -> None:
    path = write_video(tmp_path / "large.mp4", [picture([[120, 80, 240, 300]], (640, 384))] * 3)
    *_, last = bright(path)
    assert last.tracks.boxes[0].tolist() == pytest.approx([120, 80, 240, 300], abs=5)


def test_a_real_video_with_the_real_model() -> None:
    path = data_file("codec_edge_cases/test_non_zero_start.mp4")
    torch.manual_seed(0)
    model = svm_ext.create_model("svit_tiny_mot", **TINY).eval()
    results = list(svm_ext.track(path, model, size=(224, 128)))
    assert len(results) == 12
    assert results[0].time == pytest.approx(8.333008)
