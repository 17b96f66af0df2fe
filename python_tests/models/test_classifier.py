"""The classifier: streams against clips, streams against each other, what it remembers, what it refuses."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import svm_ext
from helpers import assert_same
from svm_ext.models.classifier import Classifier, ClassifierMemory
from svm_ext.models.config import BackboneConfig, ClassifierConfig

SIZE, FRAMES, CLASSES = (64, 64), 4, 7
CAUSAL = pytest.mark.parametrize("causal", [False, True], ids=["both-ways", "causal"])
TEMPORAL = pytest.mark.parametrize("temporal", ["stream", "none"])


def classifier(causal: bool = False, **overrides) -> Classifier:
    backbone = dict(width=32, layers=2, heads=2, input_resolution=64, window_size=4, memory_frames=8)
    backbone |= dict(conv_blocks=(), stages=(1,), outputs=(0,), adapter=False, class_token=True)
    config = ClassifierConfig(
        backbone=BackboneConfig(**backbone), num_classes=CLASSES, clip_frames=FRAMES, decoder_layers=2, causal=causal
    )
    model = Classifier(config.replace(**overrides)).eval()
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "bias_t", "alpha", "head.weight")):
            nn.init.normal_(parameter, std=0.5)  # so that everything counts
    return model


def random_clip(batch: int = 2, frames: int = FRAMES) -> Tensor:
    return torch.randn(batch, frames, 3, *SIZE)


def run(model: Classifier, clip: Tensor, memory: ClassifierMemory, streams=None) -> list[Tensor]:
    with torch.no_grad():
        return [model(frames, memory, streams) for frames in clip.unbind(1)]


def assert_near(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


# A clip and a stream give the same.


@CAUSAL
@TEMPORAL
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_a_stream_gives_what_the_clip_so_far_gives(backend, causal, temporal, training):
    model = classifier(causal, temporal=temporal).train(training)
    clip, memory = random_clip(), model.new_memory(2, SIZE)
    for t, logits in enumerate(run(model, clip, memory)):
        assert logits.shape == (2, CLASSES)
        with torch.no_grad():
            assert_near(logits, model(clip[:, : t + 1]))


def test_a_causal_clip_answers_after_every_frame():
    model = classifier(causal=True)
    clip = random_clip(3)
    live = torch.stack(run(model, clip, model.new_memory(3, SIZE)), 1)  # [B, T, classes]
    assert_near(model._clip_logits(clip).detach(), live)


def test_memory_tells_a_stream_from_its_frames():
    """The same last frame after other frames: another answer, also without a decoder's help."""
    model = classifier(clip_frames=1)
    clip = random_clip(1)
    changed = torch.cat([random_clip(1, 1), clip[:, 1:]], 1)
    ends = [run(model, c, model.new_memory(1, SIZE))[-1] for c in (clip, changed)]
    assert not torch.allclose(*ends, atol=1e-3)


def test_without_temporal_branch_only_the_last_frames_count():
    model = classifier(temporal="none")
    clip = random_clip(1, FRAMES + 2)
    assert_near(run(model, clip, model.new_memory(1, SIZE))[-1], model(clip[:, 2:]).detach())


@CAUSAL
def test_long_streams_are_judged_by_their_last_frames(causal):
    """After more frames than a clip has, the decoder sees the last ones; the backbone's memory reaches further."""
    model = classifier(causal)
    clip, memory, features = random_clip(1, 3 * FRAMES), model.new_memory(1, SIZE), []
    past = model.backbone.new_memory(1, SIZE)
    for frames, logits in zip(clip.unbind(1), run(model, clip, memory), strict=True):
        with torch.no_grad():
            features = [*features, model.backbone.features(frames, past).class_token][-FRAMES:]
            held = torch.tensor([len(features)])
            assert_near(logits, model._logits(torch.stack(features, 1), held)[:, -1])
    assert memory.features.shape == (1, FRAMES, 32)


@CAUSAL
def test_nothing_grows(causal):
    model = classifier(causal)
    memory = model.new_memory(1, SIZE, frames=2)
    before = memory.nbytes
    run(model, random_clip(1, 20), memory)
    assert memory.nbytes == before
    assert memory.step.tolist() == [20]


def test_longer_clips_than_usual_when_all_frames_are_seen():
    model = classifier()
    assert model(random_clip(1, 7)).shape == (1, CLASSES)


def test_clip_based_model():
    model = classifier(temporal="clip")
    clip = random_clip(1)
    changed = clip.clone()
    changed[:, -1] += 1
    features = [model.backbone.features(c).class_token[:, 0] for c in (clip, changed)]
    assert not torch.allclose(*features)  # the first frame has seen the last
    assert model(clip).shape == (1, CLASSES)
    with pytest.raises(ValueError, match=r"expected .* got .*clip.*; "):
        model(clip[:, 0], model.new_memory(1, SIZE))


# The feature of a frame.


def test_the_class_token_speaks_for_the_frame():
    model = classifier()
    features = model.backbone.features(random_clip())
    assert torch.equal(model._pooled(features), features.class_token)
    assert features.class_token.shape == (2, FRAMES, 32)


def test_without_one_it_is_the_mean_of_all_tokens_of_any_picture():
    model = classifier(class_token=False)
    clip = torch.randn(1, 2, 3, 80, 96)
    [last] = model.backbone(clip)  # [B, T, C, h, w]
    torch.testing.assert_close(model._pooled(model.backbone.features(clip)), last.flatten(3).mean(3))
    live = run(model, clip, model.new_memory(1, (80, 96)))
    assert_near(live[-1], model(clip).detach())


# Streams do not mix.


@CAUSAL
def test_streams_of_unequal_age_in_any_order(causal):
    model = classifier(causal)
    clips, shared = random_clip(3, 6), model.new_memory(3, SIZE)
    alone = [run(model, clip[None], model.new_memory(1, SIZE)) for clip in clips]
    seen = [0, 0, 0]
    for ids in ([2], [0, 2], [2, 1, 0], [1], [0, 1], [2, 0]):
        frames = torch.stack([clips[i, seen[i]] for i in ids])
        with torch.no_grad():
            found = model(frames, shared, ids)
        for logits, i in zip(found, ids, strict=True):
            assert_near(logits[None], alone[i][seen[i]])
            seen[i] += 1
    assert shared.step.tolist() == seen


def test_others_are_untouched():
    model = classifier()
    memory = model.new_memory(3, SIZE)
    run(model, random_clip(3), memory)
    before = memory.snapshot([0, 2])
    run(model, random_clip(1), memory, torch.tensor([1]))
    memory.reset([1])
    after = memory.snapshot([0, 2])
    for name in before.keys() - {"metadata"}:
        assert_same(before[name], after[name], name)


def test_a_stream_that_was_reset_is_new():
    model = classifier()
    clip, memory = random_clip(2), model.new_memory(2, SIZE)
    run(model, random_clip(2), memory)
    memory.reset([1])
    assert memory.step.tolist() == [FRAMES, 0]
    assert_near(run(model, clip[1:], memory, [1])[-1], model(clip[1:]).detach())


def test_what_was_there_before_a_stream_is_not_looked_at():
    """A broken frame spoils its own stream, and that until it is reset; no longer."""
    model = classifier()
    clip, memory = random_clip(1), model.new_memory(1, SIZE)
    run(model, torch.full_like(clip, float("nan")), memory)
    memory.reset()
    for logits in run(model, clip, memory):
        assert logits.isfinite().all()
    assert_near(logits, model(clip).detach())


# Snapshots.


@pytest.mark.parametrize("by_file", [False, True], ids=["snapshot", "file"])
def test_a_stream_goes_on_elsewhere(tmp_path, by_file):
    model = classifier()
    first, second = random_clip(2, 3), random_clip(1, 3)
    memory = model.new_memory(2, SIZE)
    run(model, first, memory)
    other = model.new_memory(3, SIZE)
    if by_file:
        memory.save(tmp_path / "stream.safetensors", [1])
        other.load(tmp_path / "stream.safetensors", [2])
    else:
        other.restore(memory.snapshot([1]), [2])
    here, there = run(model, second, memory, [1]), run(model, second, other, [2])
    for a, b in zip(here, there, strict=True):
        assert_same(a, b)
    assert other.step.tolist() == [0, 0, 6]


def test_a_snapshot_is_a_copy():
    model = classifier()
    memory = model.new_memory(1, SIZE)
    run(model, random_clip(1), memory)
    state = memory.snapshot()
    before = state["features"].clone()
    run(model, random_clip(1), memory)
    assert torch.equal(state["features"], before)


def spoiled(state: dict, name: str) -> dict:
    changes = {
        "without features": {name: value for name, value in state.items() if name != "features"},
        "other clip length": state | {"features": state["features"][:, 1:]},
        "other streams": state | {"features": state["features"][:1]},
        "not a tensor": state | {"features": 3},
        "no memory": {"features": state["features"]},
        "one stream": {name: value[:1] if name in ("step", "features") else value for name, value in state.items()},
    }
    return changes[name]


@pytest.mark.parametrize(
    "fault", ["without features", "other clip length", "other streams", "not a tensor", "no memory", "one stream"]
)
def test_a_snapshot_that_does_not_fit_changes_nothing(fault):
    model = classifier()
    memory, other = (model.new_memory(2, SIZE) for _ in range(2))
    run(model, random_clip(2), memory)
    run(model, random_clip(2), other)
    before = other.snapshot()
    with pytest.raises(ValueError, match=r": expected .*, got .*;"):
        other.restore(spoiled(memory.snapshot(), fault))
    for name in before.keys() - {"metadata"}:
        assert_same(before[name], other.snapshot()[name], name)


# Training.


def test_loss_of_a_clip():
    model, clip, labels = classifier(), random_clip(3), torch.tensor([0, 6, 3])
    torch.testing.assert_close(model.loss(clip, labels), F.cross_entropy(model(clip), labels))


def test_loss_of_a_causal_clip_is_that_of_all_its_beginnings():
    model, clip, labels = classifier(causal=True), random_clip(2), torch.tensor([5, 1])
    beginnings = [F.cross_entropy(model(clip[:, : t + 1]), labels) for t in range(FRAMES)]
    torch.testing.assert_close(model.loss(clip, labels), torch.stack(beginnings).mean())


@CAUSAL
@TEMPORAL
def test_every_weight_learns(causal, temporal):
    model = classifier(causal, temporal=temporal).train()
    model.loss(random_clip(), torch.tensor([1, 2])).backward()
    # The class token hears of other frames through the tokens of its own: nobody is left to tell it of the last
    # block's.
    unheard = [f"resblocks.1.attn.{name}" for name in ("in_proj_weight_t", "in_proj_bias_t", "out_proj_t.", "alpha")]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if any(part in name for part in unheard):
            assert temporal == "stream"
            continue
        assert parameter.grad.abs().max() > 0, name


def test_two_clips_are_learnt_by_heart():
    """The order of frames is all that tells them apart."""
    model = classifier().train()
    nn.init.normal_(model.decoder.positional_embedding)
    clip = random_clip(1)
    clips, labels = torch.cat([clip, clip.flip(1)]), torch.tensor([2, 5])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = model.loss(clips, labels)
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    assert model(clips).argmax(1).tolist() == [2, 5]


def test_a_live_frame_can_be_learnt_from():
    """The newest frame's feature carries a gradient, those in memory do not."""
    model, clip = classifier(), random_clip(1, 2)
    memory = model.new_memory(1, SIZE)
    frames = clip.clone().requires_grad_()
    model(frames[:, 0], memory)
    F.cross_entropy(model(frames[:, 1], memory), torch.tensor([1])).backward()
    assert not memory.features.requires_grad
    assert frames.grad[:, 0].abs().max() == 0
    assert frames.grad[:, 1].abs().max() > 0


def test_a_memory_from_inference_mode_serves_training():
    model, clip = classifier(), random_clip(1)
    with torch.inference_mode():
        memory = model.new_memory(1, SIZE)
        model(clip[:, 0], memory)
    model(clip[:, 1], memory).sum().backward()
    with torch.inference_mode():
        model(clip[:, 2], memory)


def test_under_autocast():
    model, clip = classifier(), random_clip(1)
    memory = model.new_memory(1, SIZE)
    exact = model(clip).detach()
    with torch.autocast("cpu", torch.bfloat16):
        live, at_once = run(model, clip, memory)[-1], model(clip).detach()
    for near in (live, at_once):
        assert (near - exact).abs().max() < 0.1 * exact.abs().max()


@pytest.mark.slow
def test_one_compilation_for_all_frames():
    model, clip = classifier(), random_clip(2, 6)
    memory, plain = model.new_memory(2, SIZE), model.new_memory(2, SIZE)
    ids = torch.tensor([1, 0])
    step = torch.compile(lambda frames: model(frames, memory, ids), fullgraph=True)
    with torch.no_grad(), torch.compiler.set_stance("default"):
        step(clip[:, 0])
        assert_near(run(model, clip[:, :1], plain, ids)[0], model(clip[[1, 0], :1])[[1, 0]])
        with torch._dynamo.config.patch(error_on_recompile=True):
            found = [step(frames) for frames in clip[:, 1:].unbind(1)]
    for a, b in zip(found, run(model, clip[:, 1:], plain, ids), strict=True):
        assert_near(a, b)


# What it is made of, what it refuses.


@pytest.mark.parametrize(("name", "width", "heads"), [("tiny", 192, 3), ("small", 384, 6), ("base", 768, 12)])
def test_presets(name, width, heads):
    with torch.device("meta"):
        model = svm_ext.create_model(f"svit_{name}_action", num_classes=174, causal=True)
    backbone = model.config.backbone
    assert (backbone.width, backbone.heads, backbone.class_token, backbone.adapter) == (width, heads, True, False)
    assert model.head.weight.shape == (174, width)
    assert model.decoder.positional_embedding.shape == (16, width)
    assert len(model.decoder.blocks) == 4
    assert all(block.heads == heads for block in model.decoder.blocks)
    assert model.decoder.causal


def test_memory_tells_what_it_is():
    memory = classifier().new_memory(2, SIZE, frames=3, evict="fifo", dtype=torch.bfloat16)
    assert (memory.stream.frames, memory.stream.evict, memory.stream.dtype) == (3, "fifo", torch.bfloat16)
    assert memory.nbytes == memory.stream.nbytes + 2 * FRAMES * 32 * 4
    assert repr(memory).startswith("ClassifierMemory(stream=StreamMemory(2 layers, 2 streams")
    assert "\n" not in repr(memory)


def test_weights_take_the_memory_to_their_type():
    model = classifier().double()
    memory = model.new_memory(1, SIZE)
    assert memory.features.dtype == torch.float64
    clip = random_clip(1).double()
    torch.testing.assert_close(run(model, clip, memory)[-1], model(clip).detach())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m: m(torch.randn(1, 3, *SIZE)),
            r"clip: expected \[B, T, 3, height, width\], got .*; give frames a mem",
        ),
        (lambda m: m(random_clip(), m.new_memory(2, SIZE)), r"memory: expected none with a clip"),
        (
            lambda m: m(random_clip()[:, 0], m.backbone.new_memory(2, SIZE)),
            r"memory: expected a ClassifierMemory, got S",
        ),
        (lambda m: m(random_clip()[:, 0], m.new_memory(3, SIZE)), r"frames: expected one for each of 3 streams, got 2"),
        (lambda m: m(torch.randn(1, 3, 80, 80), m.new_memory(1, SIZE)), r"frames: expected .*64 x 64.*, got 80 x 80"),
        (lambda m: m.loss(random_clip(2), torch.tensor([1])), r"labels: expected one for each clip, \[2\], got \[1\]"),
        (lambda m: m.loss(random_clip(2), torch.tensor(1)), r"labels: expected one for each clip, \[2\], got \[\]"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call(classifier())
    assert "\n" not in str(caught.value)


def test_a_refused_frame_changes_nothing():
    model = classifier()
    memory = model.new_memory(2, SIZE)
    run(model, random_clip(2), memory)
    before = memory.snapshot()
    for frames, streams in [
        (torch.randn(2, 3, 80, 80), None),
        (random_clip(1)[:, 0], [2]),
        (random_clip(1)[:, 0], None),
    ]:
        with pytest.raises((ValueError, IndexError)):
            model(frames, memory, streams)
    for name in before.keys() - {"metadata"}:
        assert_same(before[name], memory.snapshot()[name], name)


def test_a_causal_clip_has_no_place_for_more_frames():
    model = classifier(causal=True)
    with pytest.raises(ValueError, match=rf"clip: expected at most clip_frames {FRAMES} frames .*, got {FRAMES + 1}; "):
        model(random_clip(1, FRAMES + 1))


def test_a_classifier_takes_the_last_stage_as_it_is():
    with pytest.raises(ValueError, match=r"adapter: expected false for a classifier, .*; change"):
        Classifier(ClassifierConfig(backbone=BackboneConfig(adapter=True)))
