"""Streams of one model: they come and go at their own pace, and nobody disturbs anybody."""

from __future__ import annotations

import copy

import pytest
import torch

import helpers
from helpers import BF16, FP64
from svit_cases import CLASS_TOKEN, ONE_WINDOW, PADDED, SIZES, tiny, video, worst
from svm_ext import StreamMemory

# Who has a new frame, call by call: subsets in any order, newcomers, and pauses.
CALLS = [[0], [0, 2], [2, 0], [1], [0, 1, 2], [2], [2, 1], [1, 0], [0, 1, 2], [2, 0, 1], [1]]


def contents(memory: StreamMemory) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in memory.tensors()]


def poisoned(memory: StreamMemory) -> StreamMemory:
    """The same memory, with NaN wherever nothing was written."""
    for k_pool, v_pool, _ in memory._layers:
        k_pool.fill_(float("nan"))
        v_pool.fill_(float("nan"))
    return memory


def assert_untouched(memory: StreamMemory, before: list[torch.Tensor], streams: list[int]) -> None:
    for now, then in zip(memory.tensors(), before, strict=True):
        for stream in streams:
            helpers.assert_same(now[stream], then[stream])


@pytest.mark.parametrize("as_tensor", [False, True], ids=["list", "tensor"])
@pytest.mark.parametrize("size", [PADDED, SIZES["whole"]], ids=["padded", "whole"])
@torch.no_grad()
def test_any_streams_in_any_order_equal_each_stream_alone(size, as_tensor):
    model = tiny(dtype=FP64)
    together = poisoned(model.new_memory(3, size))
    alone = [model.new_memory(1, size) for _ in range(3)]
    for ids in CALLS:
        frames, before = video(1, len(ids), size, FP64)[0], contents(together)
        maps = model(frames, together, torch.tensor(ids) if as_tensor else ids)
        assert_untouched(together, before, [stream for stream in range(3) if stream not in ids])
        for row, stream in enumerate(ids):
            single = model(frames[row : row + 1], alone[stream])
            assert worst([x[row : row + 1] for x in maps], single) < 1e-12
    assert together.step.tolist() == [sum(stream in ids for ids in CALLS) for stream in range(3)]


@torch.no_grad()
def test_a_stream_that_is_reset_begins_anew():
    model, frames = tiny(), video(7)
    memory = model.new_memory(2, PADDED)
    for frame in frames[:5]:
        model(frame, memory)
    memory.reset([1])
    fresh = model.new_memory(2, PADDED)
    for frame in frames[5:]:
        ours, theirs = model(frame, memory), model(frame, fresh)
        assert worst([x[1:] for x in ours], [x[1:] for x in theirs]) < 1e-5
        assert worst([x[:1] for x in ours], [x[:1] for x in theirs]) > 1e-4


@torch.no_grad()
def test_two_videos_do_not_meet_in_the_model():
    """The module keeps nothing: interleaved or one after the other, copied or not, the numbers are the same."""
    model = tiny()
    before = copy.deepcopy(model.state_dict())
    videos, memories = [video(5), video(5)], [model.new_memory(2, PADDED) for _ in range(2)]
    interleaved = [[model(v[t], m) for v, m in zip(videos, memories, strict=True)] for t in range(5)]
    other = copy.deepcopy(model)
    for i, frames in enumerate(videos):
        memory = other.new_memory(2, PADDED)
        for t, frame in enumerate(frames):
            for ours, theirs in zip(interleaved[t][i], other(frame, memory), strict=True):
                helpers.assert_same(ours, theirs)
    for name, value in model.state_dict().items():
        helpers.assert_same(value, before[name])


@torch.no_grad()
def test_a_snapshot_is_where_a_stream_goes_on():
    model, frames = tiny(), video(6)
    memory, other = model.new_memory(2, PADDED), model.new_memory(2, PADDED)
    for frame in frames[:4]:
        model(frame, memory)
    other.restore(memory.snapshot())
    for frame in frames[4:]:
        for ours, theirs in zip(model(frame, memory), model(frame, other), strict=True):
            helpers.assert_same(ours, theirs)


@torch.no_grad()
def test_the_frame_is_over_once():
    """Every layer appends at the same step, and all of them are one step on afterwards."""
    model = tiny()
    memory = model.new_memory(2, PADDED)
    for t, frames in enumerate(video(4)):
        model(frames, memory)
        assert memory.step.tolist() == [t + 1] * 2
        for _, _, cursor in memory._layers:
            assert bool((cursor == torch.tensor([t + 1, t])).all())


@torch.no_grad()
def test_the_same_input_gives_the_same_bits():
    model, frames = tiny(), video(5)
    memories = [model.new_memory(2, PADDED) for _ in range(2)]
    for frame in frames:
        for ours, theirs in zip(*(model(frame, memory) for memory in memories), strict=True):
            helpers.assert_same(ours, theirs)


@torch.no_grad()
def test_no_stream_has_a_frame():
    model = tiny()
    memory = model.new_memory(2, PADDED)
    model(video(1)[0], memory)
    before = contents(memory)
    assert [len(x) for x in model(video(1, batch=0)[0], memory, [])] == [0, 0, 0]
    for now, then in zip(memory.tensors(), before, strict=True):
        helpers.assert_same(now, then)


@torch.no_grad()
def test_a_narrow_memory_serves_a_wide_model():
    model, frames = tiny(), video(5)
    wide, narrow = model.new_memory(2, PADDED), model.new_memory(2, PADDED, dtype=BF16)
    assert narrow.nbytes < 0.6 * wide.nbytes
    for frame in frames:
        assert worst(model(frame, narrow), model(frame, wide)) < 3e-2


@torch.no_grad()
def test_streaming_with_a_class_token():
    model = tiny(**CLASS_TOKEN)
    memory = model.new_memory(2, ONE_WINDOW)
    clip = video(3, size=ONE_WINDOW)
    whole = model.features(clip.transpose(0, 1))
    for t, frames in enumerate(clip):
        token = model.features(frames, memory).class_token
        torch.testing.assert_close(token, whole.class_token[:, t], rtol=1e-4, atol=1e-4)


def refused(model, memory, message: str, frames: torch.Tensor, streams=None) -> None:
    """The frame fails with one line, and the memory is as before."""
    before = contents(memory) if isinstance(memory, StreamMemory) else []
    with pytest.raises((ValueError, IndexError), match=message) as error:
        model(frames, memory, streams)
    assert len(str(error.value).splitlines()) == 1
    for now, then in zip(memory.tensors(), before, strict=True):
        helpers.assert_same(now, then)


@pytest.mark.parametrize(
    ("made_for", "message"),
    [
        (dict(size=SIZES["whole"]), "frames: expected 64 x 96 like the memory's, got 40 x 56"),
        (dict(size=(56, 40)), "frames: expected 56 x 40 like the memory's, got 40 x 56"),
        (dict(layers=2, stages=(0, 1), outputs=(0, 1), adapter=False), "memory: expected layers=3 .* got 2"),
        (dict(heads=4), "memory: expected heads=2 .* got 4"),
        (dict(width=64), "memory: expected head_dim=16 .* got 32"),
        (dict(window_size=5, input_resolution=40), "memory: expected window=4 .* got 5"),
        (dict(dtype=FP64), "memory: expected torch.float32 like the frames, got torch.float64"),
        (dict(device="meta"), "memory: expected it on cpu like the frames, got meta"),
    ],
)
@torch.no_grad()
def test_a_memory_of_another_model_is_refused(made_for, message):
    options = {name: made_for.pop(name) for name in ("dtype", "device") if name in made_for}
    size = made_for.pop("size", PADDED)
    memory = tiny(**made_for).new_memory(2, size, **options)
    if memory.device.type == "cpu":
        memory = poisoned(memory)
    model = tiny()
    before = contents(memory)
    with pytest.raises(ValueError, match=message) as error:
        model(video(1)[0], memory)
    assert len(str(error.value).splitlines()) == 1
    assert str(error.value).endswith("make one with model.new_memory(streams, (height, width))")
    if memory.device.type == "cpu":
        for now, then in zip(memory.tensors(), before, strict=True):
            helpers.assert_same(now, then)


@torch.no_grad()
def test_a_picture_of_as_many_windows_but_another_shape_is_refused():
    """Two windows beside each other are not two on top of each other, though the pools look alike."""
    model = tiny()
    memory = model.new_memory(1, (32, 64))
    refused(model, memory, "frames: expected 32 x 64 like the memory's, got 64 x 32", video(1, 1, (64, 32))[0])


@pytest.mark.parametrize(
    ("batch", "streams", "message"),
    [
        (1, None, "frames: expected one for each of 2 streams, got 1"),
        (2, [0], "frames: expected one for each of 1 streams, got 2"),
        (2, [1, 1], "streams: expected every id once, got 1 again"),
        (1, [2], "streams: expected ids from 0 to 1, got 2"),
        (1, [-1], "streams: expected ids from 0 to 1, got -1"),
        (2, torch.tensor([0, 0]), "streams: expected every id once"),
        (1, torch.tensor([5]), "streams: expected ids from 0 to 1, got 5"),
        (1, torch.tensor([0], dtype=torch.int32), "streams: expected int64, got int32"),
        (1, 1, r"streams: expected ids in a sequence or a tensor \[B\], got 1; write \[1\]"),
        (1, torch.tensor(1), r"streams: expected ids in a sequence or a tensor \[B\], got 1"),
        (1, [0.5], "streams: expected whole numbers, got 0.5"),
    ],
)
@torch.no_grad()
def test_wrong_streams_are_refused(batch, streams, message):
    model = tiny()
    memory = model.new_memory(2, PADDED)
    model(video(1)[0], memory)
    refused(model, memory, message, video(1, batch)[0], streams)


@torch.no_grad()
def test_after_an_interrupt_the_same_frame_can_be_repeated():
    """A frame that stopped half way left some layers written; done again it is as if done once."""
    model, frames = tiny(), video(5)
    memory, undisturbed = model.new_memory(2, PADDED), model.new_memory(2, PADDED)

    def stop(*_):
        raise KeyboardInterrupt

    for frame in frames:
        hook = model.transformer.resblocks[2].register_forward_pre_hook(stop)
        with pytest.raises(KeyboardInterrupt):
            model(frame, memory)
        hook.remove()
        for ours, theirs in zip(model(frame, memory), model(frame, undisturbed), strict=True):
            helpers.assert_same(ours, theirs)
