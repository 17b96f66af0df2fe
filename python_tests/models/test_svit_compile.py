"""torch.compile: a frame step is one graph, compiled once for all frames."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

import helpers
from svit_cases import CLASS_TOKEN, ONE_WINDOW, PADDED, SIZES, assert_same_gradients, gradients, tiny, video, worst

BARE = dict(layers=1, stages=(0,), outputs=(0,), conv_blocks=(0,), adapter=False)  # one block of all kinds of parts
TWO = BARE | dict(layers=2, stages=(0, 1))


@pytest.fixture(autouse=True)
def nothing_compiled_yet():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(model, backend: str = "aot_eager"):
    """The model as one graph, and a counter of compilations."""
    counter = CompileCounterWithBackend(backend)
    return torch.compile(model, fullgraph=True, backend=counter), counter


@pytest.mark.parametrize(
    ("overrides", "size"),
    [(TWO, PADDED), (BARE, SIZES["whole"]), (BARE | CLASS_TOKEN | dict(outputs=(0,)), ONE_WINDOW)],
    ids=["padded", "whole", "class_token"],
)
@torch.no_grad()
def test_one_compilation_for_all_frames(overrides, size):
    """Across the ring's wrap, twice; the memory is the same as without."""
    model = tiny(**overrides)
    step, counter = compiled(model)
    memory, other = model.new_memory(2, size), model.new_memory(2, size)
    for frame in video(7, size=size):
        assert worst(step(frame, memory), model(frame, other)) < 1e-5
    assert counter.frame_count == 1
    for ours, theirs in zip(memory.frames_of(0, 1), other.frames_of(0, 1), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4, equal_nan=True)


@torch.no_grad()
def test_streams_are_tensors_and_change_freely():
    """One graph for any two streams, whichever they are and whatever they have seen."""
    model = tiny(**BARE)
    step, counter = compiled(model)
    memory, other = model.new_memory(3, PADDED), model.new_memory(3, PADDED)
    for ids, frame in zip(([0, 1], [2, 1], [1, 2], [0, 2], [2, 0]), video(5), strict=True):
        streams = torch.tensor(ids)
        assert worst(step(frame, memory, streams), model(frame, other, streams)) < 1e-5
    memory.reset(torch.tensor([1]))
    other.reset(torch.tensor([1]))
    step_maps, maps = (m(video(1)[0] * 0 + 1, at, torch.tensor([1, 0])) for m, at in ((step, memory), (model, other)))
    assert worst(step_maps, maps) < 1e-5
    assert counter.frame_count == 1
    assert memory.step.tolist() == other.step.tolist()


@torch.no_grad()
def test_another_memory_of_the_same_size_is_the_same_graph():
    model = tiny(**BARE)
    step, counter = compiled(model)
    frames = video(3)
    for _ in range(3):
        memory, other = model.new_memory(2, PADDED), model.new_memory(2, PADDED)
        for frame in frames:
            assert worst(step(frame, memory), model(frame, other)) < 1e-5
    assert counter.frame_count == 1


def test_a_refusal_is_still_a_refusal():
    model = tiny(**BARE)
    memory = model.new_memory(2, SIZES["whole"])
    with pytest.raises(Exception, match="frames: expected 64 x 96 like the memory's, got 40 x 56"):
        compiled(model)[0](video(1)[0], memory)
    assert memory.step.tolist() == [0, 0]


def test_a_clip_compiles_with_its_gradients():
    model = tiny(**BARE).train()
    clip = video(4).transpose(0, 1)
    step, counter = compiled(model)
    found = []
    for run in (step, model):
        model.zero_grad()
        sum(x.square().mean() for x in run(clip)).backward()
        found.append(gradients(model))
    assert_same_gradients(*found, 1e-4)
    assert counter.frame_count == 1


def test_training_frame_by_frame_compiles():
    model, frames = tiny(**BARE).train(), video(5)
    step, counter = compiled(model)
    found = []
    for run in (step, model):
        model.zero_grad()
        memory = model.new_memory(2, PADDED)
        for frame in frames:
            sum(x.square().mean() for x in run(frame, memory)).backward()
        found.append(gradients(model))
    assert_same_gradients(*found, 1e-4)
    assert counter.frame_count == 1


def test_a_compiled_frame_step_is_not_checkpointed():
    """Its recomputation would come after the frame is over, and give wrong gradients without a word."""
    model = tiny(checkpoint=True, **BARE).train()
    memory = model.new_memory(2, PADDED)
    with pytest.raises(
        Exception, match="checkpoint: expected false in a compiled frame step, got true; train on clips"
    ):
        compiled(model)[0](video(1)[0], memory)
    assert memory.step.tolist() == [0, 0]


def test_a_checkpointed_clip_compiles():
    model = tiny(checkpoint=True, **BARE).train()
    clip = video(4).transpose(0, 1)
    step, counter = compiled(model)
    found = []
    for run in (step, model):
        model.zero_grad()
        sum(x.square().mean() for x in run(clip)).backward()
        found.append(gradients(model))
    assert_same_gradients(*found, 1e-4)
    assert counter.frame_count == 1


@torch.no_grad()
def test_a_table_that_is_resized_follows_its_parameter():
    model = tiny(**BARE)
    step, _ = compiled(model)
    frames = video(1)[0]
    before = step(frames, model.new_memory(2, PADDED))
    model.positional_embedding.add_(torch.randn_like(model.positional_embedding))
    after = step(frames, model.new_memory(2, PADDED))
    assert worst(before, after) > 1e-2
    assert worst(after, model(frames, model.new_memory(2, PADDED))) < 1e-5


@pytest.mark.slow
@torch.no_grad()
def test_inductor_compiles_once():
    """To machine code: the real thing, a minute long."""
    model = tiny(layers=1, stages=(0,), outputs=(0,), adapter=False, conv_blocks=())
    step, counter = compiled(model, "inductor")
    memory, other = model.new_memory(2, PADDED), model.new_memory(2, PADDED)
    for frame in video(7):
        assert worst(step(frame, memory), model(frame, other)) < 1e-4
    assert counter.frame_count == 1
    helpers.assert_same(memory.step, other.step)
