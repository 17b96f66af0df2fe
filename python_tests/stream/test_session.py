"""StreamSession: streams in batches, each as if it were alone, for ever."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import long_runs
from svm_ext.stream.results import FrameResult
from svm_ext.stream.session import StreamSession
from svm_ext.stream.sources import Frame
from svm_ext.tracking import ByteTracker, TrackerRules
from video_kit import SIZE, BrightDetector, picture, small_model, tracks_of, walk

OTHER = (64, 96)  # upright


def session(detector: BrightDetector | None = None, **options) -> StreamSession:
    return StreamSession(detector or BrightDetector(), size=SIZE, **options)


def frames_of(images, start: int = 0) -> list[Frame]:
    return [Frame(image, index / 25, index) for index, image in enumerate(images, start)]


def alone(frames: list[Frame], size: tuple[int, int] = SIZE, **options) -> list[FrameResult]:
    """What a stream gives that nobody shares the session with."""
    one = session(**options)
    one.open("x", size)
    return [one.step({"x": frame})["x"] for frame in frames]


# One stream


def test_a_result_tells_the_frame_and_what_is_in_it():
    one = session()
    one.open("door", SIZE)
    boxes = [[20, 10, 40, 60], [90, 30, 110, 80]]
    given = Frame(picture(boxes), 8.25, 17)
    result = one.step({"door": given})["door"]
    assert (result.stream, result.index, result.time, result.remembered) == ("door", 17, 8.25, 1)
    assert result.image is given.image
    assert sorted(result.tracks.boxes.tolist()) == boxes
    assert result.tracks.ids.tolist() == [1, 2]
    assert len(result.detections) == 2
    assert result.timing.total > 0


def test_boxes_are_in_the_videos_pixels():
    one = StreamSession(BrightDetector(), size=(320, 192))  # twice the video's
    one.open("door", SIZE)
    result = one.step({"door": picture([[20, 10, 40, 60]])})["door"]
    assert result.tracks.boxes[0].tolist() == pytest.approx([20, 10, 40, 60], abs=0.6)


def test_tracks_are_those_of_a_tracker_of_ones_own():
    frames, tracker = frames_of(walk(40)), ByteTracker()
    for frame, result in zip(frames, alone(frames), strict=True):
        expected = tracker.update(result.detections)
        assert result.tracks.ids.tolist() == expected.ids.tolist()
        assert torch.equal(result.tracks.boxes, expected.boxes)
        assert result.index == frame.index


def test_plain_pictures_get_numbers_and_times():
    one = session()
    one.open("door", SIZE)
    results = [one.step({"door": image})["door"] for image in walk(5)]
    assert [result.index for result in results] == list(range(5))
    times = [result.time for result in results]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] < 10


def test_results_can_be_changed_by_those_who_get_them():
    [result] = alone(frames_of([picture([[20, 10, 40, 60]])]))
    result.tracks.boxes.clamp_(0, 30)
    result.detections.boxes.requires_grad_()


def test_rules_and_coasting():
    strict = session(BrightDetector(score=0.5))
    strict.open("a", SIZE)
    assert len(strict.step({"a": next(walk(1))})["a"].tracks) == 0
    lenient = session(BrightDetector(score=0.5), rules=TrackerRules(high=0.4, init=0.4), coast=5)
    lenient.open("a", SIZE)
    images = [*walk(6), picture([])]
    *_, last = [lenient.step({"a": image})["a"] for image in images]
    assert last.tracks.predicted.all()
    assert len(last.tracks) == 2


# Many streams


def test_streams_of_one_size_go_through_the_model_at_once():
    detector = BrightDetector()
    many = session(detector)
    for name in "abc":
        many.open(name, SIZE)
    many.open("other", OTHER)
    many.step({name: picture([], OTHER if name == "other" else SIZE) for name in ("a", "other", "b", "c")})
    assert sorted(detector.batches) == [1, 3]
    detector.batches.clear()
    many.step({"c": picture([]), "a": picture([])})
    assert detector.batches == [2]


def test_sizes_that_look_alike_to_the_model_share_a_batch():
    detector = BrightDetector()
    many = StreamSession(detector, size=(160, 96))
    many.open("a", (160, 96))
    many.open("b", (320, 192))
    results = many.step({"a": picture([[20, 10, 40, 60]]), "b": picture([[40, 20, 80, 120]], (320, 192))})
    assert detector.batches == [2]
    assert results["a"].tracks.boxes[0].tolist() == pytest.approx([20, 10, 40, 60], abs=1)
    assert results["b"].tracks.boxes[0].tolist() == pytest.approx([40, 20, 80, 120], abs=1)


@pytest.mark.parametrize("seed", range(3))
def test_each_stream_is_tracked_as_if_it_were_alone(seed: int):
    """Streams come in any company, in any order, some standing still."""
    rng = np.random.default_rng(seed)
    clips = {name: frames_of(walk(30, seed=number + 10 * seed)) for number, name in enumerate("abcd")}
    many, left = session(), {name: list(frames) for name, frames in clips.items()}
    found: dict[str, list[FrameResult]] = {name: [] for name in clips}
    for name in clips:
        many.open(name, SIZE)
    while any(left.values()):
        chosen = [name for name in rng.permutation(list(clips)) if left[name] and rng.random() < 0.6]
        for name, result in many.step({name: left[name].pop(0) for name in chosen}).items():
            found[name].append(result)
    for name, frames in clips.items():
        assert tracks_of(found[name]) == tracks_of(alone(frames))


def test_a_stream_without_a_frame_stands_still():
    detector = BrightDetector()
    many = session(detector)
    many.open("a", SIZE)
    many.open("b", SIZE)
    for image in walk(3):
        many.step({"a": image})
    many.step({"b": picture([])})
    assert detector.memories[-1].step.tolist() == [3, 1]
    assert many.remembered("a") == (3, 4)
    assert many.remembered("b") == (1, 4)


def test_memory_holds_the_streams_own_frames():
    detector = BrightDetector()
    many = session(detector)
    for name in "ab":
        many.open(name, SIZE)
    for shade in (10, 20, 30):
        many.step({"b": picture([], shade=100 + shade), "a": picture([], shade=shade)})
    for slot, shades in enumerate(([10, 20, 30], [110, 120, 130])):
        keys, _ = detector.memories[-1].frames_of(0, slot)
        bright = keys.mean((1, 2, 3, 4)).tolist()
        plain = [float(detector_mean(shade)) for shade in shades]
        assert bright == pytest.approx(plain, abs=1e-4)


def detector_mean(shade: int) -> float:
    from svm_ext.stream.prepare import MEAN, STD

    return float(np.mean([(shade - mean) / std for mean, std in zip(MEAN, STD, strict=True)]))


def test_an_empty_step_does_nothing():
    many = session()
    many.open("a", SIZE)
    assert many.step({}) == {}
    assert many.remembered("a") == (0, 0)


# Coming and going


def test_a_stream_that_comes_later_does_not_disturb_the_others():
    frames, late = frames_of(walk(30)), frames_of(walk(20, seed=5))
    many = session()
    many.open("a", SIZE)
    found = [many.step({"a": frame})["a"] for frame in frames[:10]]
    many.open("b", SIZE)
    others = []
    for frame, other in zip(frames[10:], late, strict=True):
        results = many.step({"a": frame, "b": other})
        found.append(results["a"])
        others.append(results["b"])
    assert tracks_of(found) == tracks_of(alone(frames))
    assert tracks_of(others) == tracks_of(alone(late))
    assert [result.remembered for result in found[:6]] == [1, 2, 3, 4, 4, 4]


def test_a_place_is_used_again_and_nothing_is_left_in_it():
    detector = BrightDetector()
    many = session(detector)
    many.open("a", SIZE)
    many.open("b", SIZE)
    for image in walk(8):
        many.step({"a": image, "b": image})
    many.close("a")
    many.open("c", SIZE)
    late = frames_of(walk(10, seed=3))
    assert tracks_of(many.step({"c": frame})["c"] for frame in late) == tracks_of(alone(late))
    assert len(detector.memories) == 1
    assert many.streams == ["b", "c"]


def test_memory_is_given_back_when_the_last_stream_of_a_size_goes():
    many = session()
    many.open("a", SIZE)
    many.open("b", OTHER)
    many.step({"a": picture([]), "b": picture([], OTHER)})
    both = many.nbytes
    many.close("b")
    assert 0 < many.nbytes < both
    many.close("a")
    assert many.nbytes == 0


def test_a_thousand_streams_that_come_and_go_take_no_more_room():
    detector = BrightDetector()
    many = session(detector)
    for number in range(1000):
        many.open(number, SIZE)
        if number >= 3:
            many.close(number - 3)
        if number % 50 == 0:
            many.step({number: picture([])})
    assert max(memory.streams for memory in detector.memories) <= 4
    assert len(many.streams) == 3


def test_reset_starts_a_stream_again():
    frames = frames_of(walk(12))
    many = session()
    for name in "ab":
        many.open(name, SIZE)
    for frame in frames:
        many.step({"a": frame, "b": frame})
    many.reset("a")
    assert many.remembered("a") == (0, 4)
    again = frames_of(walk(12, seed=9))
    found = [many.step({"a": frame, "b": frame}) for frame in again]
    assert tracks_of(result["a"] for result in found) == tracks_of(alone(again))
    assert tracks_of(result["b"] for result in found) == tracks_of(alone([*frames, *again])[12:])


def test_reset_before_the_first_frame_is_fine():
    many = session()
    many.open("a", SIZE)
    many.reset("a")
    many.close("a")
    assert many.streams == []


def test_memory_options_reach_the_model():
    detector = BrightDetector()
    many = session(detector, memory=dict(frames=7, evict="clear"))
    many.open("a", SIZE)
    held = [many.step({"a": image})["a"].remembered for image in walk(16)]
    assert held == [1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 5, 6, 7, 1, 2]
    assert detector.memories[0].evict == "clear"


# Wrong use


def test_wrong_use_is_told_in_one_line():
    many = session()
    many.open("a", SIZE)
    for act, text in (
        (lambda: many.open("a", SIZE), "stream: expected a new name, got 'a', which is open"),
        (lambda: many.close("b"), r"stream: expected an open stream \('a'\), got 'b'; open it first"),
        (lambda: many.reset("b"), "got 'b'"),
        (lambda: many.step({"b": picture([])}), "got 'b'"),
        (lambda: many.open("c", (0, 5)), "source: expected two sides"),
    ):
        with pytest.raises(ValueError, match=text) as error:
            act()
        assert "\n" not in str(error.value)
    assert many.streams == ["a"]


@pytest.mark.parametrize(
    "image",
    [np.zeros((96, 160), np.uint8), np.zeros((96, 160, 3), np.float32), np.zeros((160, 96, 3), np.uint8)],
    ids=["grey", "float", "turned"],
)
def test_a_picture_that_does_not_fit_changes_nothing(image: np.ndarray):
    detector = BrightDetector()
    many = session(detector)
    many.open("a", SIZE)
    many.open("b", SIZE)
    many.step({"a": picture([]), "b": picture([])})
    with pytest.raises(ValueError, match=r"frames: expected uint8 \[96, 160, 3\] for stream 'b'"):
        many.step({"a": picture([]), "b": image})
    assert detector.memories[0].step.tolist() == [1, 1]
    assert many.remembered("a") == (1, 4)


def test_a_model_in_training_is_refused():
    with pytest.raises(ValueError, match="got one in training; call model.eval"):
        StreamSession(BrightDetector().train())


def test_no_gradient_is_kept():
    [result] = alone(frames_of([picture([[20, 10, 40, 60]])]))
    assert not result.tracks.boxes.requires_grad


# The real model


def test_the_real_model_in_company_and_alone():
    """To rounding: matrix libraries choose by the size of the batch."""
    clips = {name: frames_of(walk(6, seed=number)) for number, name in enumerate("abc")}
    model = small_model()
    many = StreamSession(model, size=SIZE)
    for name in clips:
        many.open(name, SIZE)
    together = [many.step({name: clips[name][index] for name in clips}) for index in range(6)]
    for name, frames in clips.items():
        one = StreamSession(model, size=SIZE)
        one.open(name, SIZE)
        for index, frame in enumerate(frames):
            expected, found = one.step({name: frame})[name].detections, together[index][name].detections
            best = min(20, len(expected), len(found))
            assert torch.allclose(found.scores[:best], expected.scores[:best], atol=1e-4)
    memory = next(iter(many._rooms.values())).memory
    assert memory.step.tolist() == [6, 6, 6]
    assert many.nbytes == memory.nbytes


def test_the_real_model_grows_by_a_stream_without_forgetting():
    frames, model = frames_of(walk(6)), small_model()
    one, grown = StreamSession(model, size=SIZE), StreamSession(model, size=SIZE)
    one.open("a", SIZE)
    grown.open("a", SIZE)
    for index, frame in enumerate(frames):
        if index == 3:
            grown.open("b", SIZE)
        expected = one.step({"a": frame})["a"].detections
        found = grown.step({"a": frame, **({"b": frame} if index >= 3 else {})})["a"].detections
        best = min(20, len(expected), len(found))
        assert torch.allclose(found.scores[:best], expected.scores[:best], atol=1e-4)


def test_a_narrower_memory():
    many = StreamSession(small_model(), size=SIZE, memory=dict(dtype=torch.bfloat16))
    many.open("a", SIZE)
    many.step({"a": next(walk(1))})
    assert next(iter(many._rooms.values())).memory.dtype == torch.bfloat16


# For ever


def test_ten_thousand_frames_leave_nothing_behind():
    run = long_runs.in_fresh_process(long_runs.soak, False, 1250, 8)
    assert run.frames_seen == 10_000
    assert run.sizes[-1] - run.sizes[2] < 4 << 20
    assert len(set(run.held)) == 1
    assert (run.streams, run.rooms) == (8, 1)


@pytest.mark.slow
def test_a_hundred_thousand_frames_of_the_real_model_leave_nothing_behind():
    """Fifty streams for two thousand frames each, long after every memory is full."""
    run = long_runs.in_fresh_process(long_runs.soak, True, 2000, 50)
    assert run.sizes[-1] - run.sizes[2] < 4 << 20
    assert len(set(run.held)) == 1
    assert min(run.times[-3:]) < 1.3 * min(run.times[1:4])
