"""Training: a clip at once is frame by frame, and checkpointing changes nothing but the bytes that are kept."""

from __future__ import annotations

import pytest
import torch

import helpers
from helpers import BF16, FP32, FP64
from svit_cases import CLASS_TOKEN, ONE_WINDOW, PADDED, SIZES, assert_same_gradients, gradients, tiny, video, worst
from svm_ext import use_backend

KINDS = {
    "released": (dict(), PADDED),
    "whole": (dict(), SIZES["whole"]),
    "attn_out": (dict(cross_query="attn_out"), PADDED),
    "class_token": (CLASS_TOKEN, ONE_WINDOW),
}


@pytest.mark.parametrize("name", ["cpu", "reference"])
@pytest.mark.parametrize("training", [True, False], ids=["clear", "fifo"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_at_once_is_frame_by_frame(kind, training, name):
    """Outputs and gradients; in training memories are cleared, in evaluation the window slides."""
    overrides, size = KINDS[kind]
    model, frames = tiny(dtype=FP64, **overrides).train(training), video(5, size=size, dtype=FP64)
    with use_backend(name):
        whole = model(frames.transpose(0, 1))
        sum(x.square().mean(0).sum() for x in whole).backward()
        ours = gradients(model)
        model.zero_grad()
        memory = model.new_memory(2, size, evict="clear" if training else "fifo")
        for t, frame in enumerate(frames):
            maps = model(frame, memory)
            assert worst([x[:, t] for x in whole], maps) < 1e-11
            sum(x.square().mean(0).sum() for x in maps).backward()
    assert_same_gradients(ours, gradients(model), 1e-10)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 6, 7])
def test_a_clip_of_any_length(frames):
    """Shorter than the memory, as long, and longer: blocks of `memory_frames` frames."""
    model, clip = tiny().train(), video(frames)
    memory, whole = model.new_memory(2, PADDED), model(clip.transpose(0, 1))
    with torch.no_grad():
        for t, frame in enumerate(clip):
            assert worst([x[:, t] for x in whole], model(frame, memory)) < 1e-5


def test_a_clip_in_fp32_is_promised_to_four_digits():
    model, clip = tiny().train(), video(5)
    whole = model(clip.transpose(0, 1))
    sum(x.square().mean(0).sum() for x in whole).backward()
    ours = gradients(model)
    model.zero_grad()
    memory = model.new_memory(2, PADDED)
    for frame in clip:
        sum(x.square().mean(0).sum() for x in model(frame, memory)).backward()
    assert_same_gradients(ours, gradients(model), 1e-4)


def frame_by_frame(model, clip, memory) -> list[torch.Tensor]:
    maps = []
    for frame in clip:
        maps += model(frame, memory)
        sum(x.square().mean() for x in maps[-3:]).backward()
    return maps


def at_once(model, clip, memory) -> list[torch.Tensor]:
    maps = model(clip.transpose(0, 1))
    sum(x.square().mean() for x in maps).backward()
    return maps


@pytest.mark.parametrize("run", [frame_by_frame, at_once])
@pytest.mark.parametrize("size", [PADDED, ONE_WINDOW], ids=["padded", "one"])
def test_checkpointing_changes_no_bit(run, size):
    """Dropped paths included: the second forward draws what the first drew."""
    model, clip = tiny(drop_path=0.3).train(), video(5, size=size)
    found = []
    for checkpoint in (False, True):
        model.config = model.config.replace(checkpoint=checkpoint)
        model.zero_grad()
        torch.manual_seed(3)
        memory = model.new_memory(2, size)
        maps = [x.detach() for x in run(model, clip, memory)]
        found.append((maps, gradients(model), memory.tensors()))
    (maps, grads, state), (other_maps, other_grads, other_state) = found
    for ours, theirs in zip([*maps, *grads.values()], [*other_maps, *other_grads.values()], strict=True):
        helpers.assert_same(ours, theirs)
    held = [held for held in state if run is frame_by_frame and held.dtype == torch.int64]
    other = [held for held in other_state if run is frame_by_frame and held.dtype == torch.int64]
    for ours, theirs in zip(held, other, strict=True):
        helpers.assert_same(ours, theirs)


@pytest.mark.parametrize("checkpoint", [False, True], ids=["plain", "checkpointed"])
@pytest.mark.parametrize("run", ["memory", "clip"])
def test_frame_1_depends_on_frame_0(run, checkpoint):
    """With the released settings the reference loses this: its blocks append twice under checkpointing, so that a
    memory of two frames is full, and cleared, before frame 1 looks at it. Outputs and gradients must show frame 0.
    """
    model = tiny(memory_frames=2, checkpoint=checkpoint).train()
    clip = video(2)
    other = torch.stack([clip[0] + 1, clip[1]])
    found = []
    for frames in (clip, other):
        model.zero_grad()
        if run == "clip":
            maps = [x[:, 1] for x in model(frames.transpose(0, 1))]
        else:
            memory = model.new_memory(2, PADDED)
            model(frames[0], memory)
            maps = model(frames[1], memory)
        sum(x.square().mean() for x in maps).backward()
        found.append((maps, model.transformer.resblocks[0].attn.in_proj_weight_t.grad.clone()))
    (maps, grad), (other_maps, other_grad) = found
    assert worst(maps, other_maps) > 1e-3
    assert worst([grad], [other_grad]) > 1e-3


def saved_bytes(model, clip) -> int:
    """Bytes of the tensors that a forward keeps for its backward, every storage once."""
    storages = {}

    def keep(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        kept.append(tensor)
        return tensor

    kept = []
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(clip)
    return sum(size for pointer, size in storages.items() if pointer not in parameters)


def test_checkpointing_keeps_fewer_bytes():
    model = tiny(layers=6, stages=(0, 3, 5)).train()
    clip = video(4).transpose(0, 1)
    plain = saved_bytes(model, clip)
    model.config = model.config.replace(checkpoint=True)
    assert saved_bytes(model, clip) < 0.3 * plain


def test_checkpointing_sleeps_where_nothing_is_learned():
    model, clip = tiny(checkpoint=True), video(2).transpose(0, 1)
    calls = []
    model.transformer.resblocks[0].register_forward_hook(lambda *_: calls.append(1))
    model(clip)[0].sum().backward()
    model.train()
    with torch.no_grad():
        model(clip)
    assert len(calls) == 2


def test_the_past_gets_no_gradient():
    """Neither frames before nor their keys and values; in the clip-based model they do."""
    for temporal, expected in (("stream", False), ("clip", True)):
        model = tiny(temporal=temporal).train()
        clip = video(2).transpose(0, 1).requires_grad_()
        model(clip)[2][:, 1].square().sum().backward()
        assert bool(clip.grad[:, 0].any()) == expected
        assert bool(clip.grad[:, 1].any())


def test_a_memory_that_moved_on_is_not_differentiated():
    """Two frames, then the backward of the first: an error, not another gradient."""
    model = tiny().train()
    memory, clip = model.new_memory(2, PADDED), video(2)
    first = model(clip[0], memory)[0].sum()
    model(clip[1], memory)
    with pytest.raises(RuntimeError, match="overwritten before its backward"):
        first.backward()


def test_all_parameters_learn():
    for overrides, size in KINDS.values():
        model = tiny(**overrides).train()
        found = model.features(video(2, size=size).transpose(0, 1))
        loss = sum(x.square().mean() for x in found.maps)
        (loss if found.class_token is None else loss + found.class_token.square().mean()).backward()
        assert [name for name, gradient in gradients(model).items() if not gradient.any()] == []


@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_training_under_autocast(dtype):
    """Gradients arrive in the parameters' type; the memory keeps the type it was made with."""
    model = tiny(checkpoint=True).train()
    memory = model.new_memory(2, PADDED, dtype=dtype)
    for frame in video(3):
        with torch.autocast("cpu", BF16):
            loss = sum(x.float().square().mean() for x in model(frame, memory))
        loss.backward()
    assert {p.grad.dtype for p in model.parameters()} == {FP32}
    assert memory.tensors()[1].dtype == dtype
