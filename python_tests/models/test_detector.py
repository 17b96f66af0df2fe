"""The detector as a whole: the golden cases, frames against clips, streams against each other, bad input."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from helpers import Backend
from svm_ext.models.config import BackboneConfig, DetectorConfig
from svm_ext.models.detections import Detections
from svm_ext.models.detector import Detector
from svm_ext.models.head import decode

BACKBONE = BackboneConfig(
    width=32, layers=4, heads=2, input_resolution=64, window_size=4, memory_frames=3,
    conv_blocks=(1, 3), stages=(0, 1, 2, 3), outputs=(1, 2, 3),
)  # fmt: skip
CONFIG = DetectorConfig(backbone=BACKBONE, neck_channels=16, csp_blocks=1, num_classes=2)
SIZE = (64, 96)


@cache
def _detector(config: DetectorConfig) -> Detector:
    torch.manual_seed(5)
    made = Detector(config)
    for name, parameter in made.named_parameters():
        if name.endswith(("alpha", "norm3.weight")):  # the past must show, and what starts as nothing
            torch.nn.init.normal_(parameter, std=0.5)
    return made


def detector(config: DetectorConfig = CONFIG) -> Detector:
    """A small detector, always the same, to do with what one likes."""
    return copy.deepcopy(_detector(config)).eval()


def clip(streams: int = 2, frames: int = 4) -> Tensor:
    return torch.randn(streams, frames, 3, *SIZE)


def target(count: int, classes: int = 2) -> dict[str, Tensor]:
    centre, size = torch.rand(count, 2) * torch.tensor([SIZE[1], SIZE[0]]), 8 + torch.rand(count, 2) * 32
    boxes = torch.cat([centre - size / 2, centre + size / 2], dim=1)
    return dict(boxes=boxes, labels=torch.randint(classes, (count,)))


def assert_same_detections(a: Detections, b: Detections, tolerance: float = 1e-3) -> None:
    assert len(a) == len(b)
    torch.testing.assert_close(a.scores, b.scores, rtol=tolerance, atol=tolerance / 10)
    torch.testing.assert_close(a.boxes, b.boxes, rtol=tolerance, atol=10 * tolerance)


def assert_near(out: Tensor, ref: Tensor, tolerance: float, what: str) -> None:
    """Relative to the largest number of the tensor."""
    error, largest = (out - ref).abs().max().item() if ref.numel() else 0.0, ref.abs().max().item() + 1e-12
    assert error <= tolerance * largest, f"{what}: {error / largest:.2g} instead of {tolerance}"


class Golden:
    """A golden case and the model it was made with."""

    def __init__(self, path: Path) -> None:
        self.tensors = load_file(path)
        with safe_open(path, "pt") as file:
            given = json.loads(file.metadata()["config"])
        self.frames = self.tensors["frames"]  # [T, B, 3, H, W]
        self.steps, self.streams = self.frames.shape[:2]
        backbone = BACKBONE.replace(
            width=given["width"], layers=given["layers"], heads=given["heads"], window_size=given["window"],
            conv_blocks=given["res"], input_resolution=given["inres"], memory_frames=given["mem"],
        )  # fmt: skip
        config = DetectorConfig(
            backbone=backbone, neck_channels=given["out_ch"], csp_blocks=given["csp"], num_classes=given["num_classes"]
        )
        self.model = Detector(config)
        weights = {name.removeprefix("weights/detector."): x for name, x in self.tensors.items() if "weights/" in name}
        self.model.load_state_dict(weights, strict=True)

    def targets(self, t: int) -> list[dict[str, Tensor]]:
        boxes, labels = (
            [self.tensors[f"gt_{name}/{t}/{b}"] for b in range(self.streams)] for name in ("boxes", "labels")
        )
        return [dict(boxes=b, labels=n) for b, n in zip(boxes, labels, strict=True)]


def assert_golden_frame(case: Golden, t: int, found: list[Detections]) -> None:
    """The same boxes and scores, best first; of scores that differ by rounding only, either may come first."""
    for b, one in enumerate(found):
        expected = case.tensors[f"detections/{t}/{b}"]
        assert len(one) == len(expected), f"frame {t}, stream {b}"
        order = torch.cdist(expected[:, :4], one.boxes).argmin(1)
        assert sorted(order.tolist()) == list(range(len(one))), f"frame {t}, stream {b}"
        assert_near(one.boxes[order], expected[:, :4], 1e-4, f"boxes {t} {b}")
        assert_near(one.scores[order], expected[:, 4], 1e-4, f"scores {t} {b}")
        assert_near(one.scores, expected[:, 4], 1e-4, f"sorted scores {t} {b}")
        assert torch.equal(one.labels[order], case.tensors[f"labels/{t}/{b}"])


def assert_near_gradients(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Relative to the largest number of the tensor; a constant before a batch norm has a gradient of rounding only."""
    rounding = 1e-6 * max(x.abs().max().item() for x in expected.values())
    assert set(found) == set(expected)
    for name, x in found.items():
        error, largest = (x - expected[name]).abs().max().item(), expected[name].abs().max().item()
        assert error <= tolerance * largest + rounding, f"{name}: {error:.2g} of {largest:.2g}"


def gradients(model: Detector) -> dict[str, Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_golden_evaluation(golden: Callable[[str], Path], backend: Backend) -> None:
    case = Golden(golden("detector_eval.safetensors"))
    model = case.model.eval()
    memory = model.new_memory(case.streams, tuple(case.frames.shape[-2:]))
    twin = model.new_memory(case.streams, tuple(case.frames.shape[-2:]))
    for t, frame in enumerate(case.frames):
        with torch.no_grad():
            maps = model.raw(frame, twin)
        for name, levels in maps._asdict().items():
            for level, x in enumerate(levels):
                assert_near(x, case.tensors[f"{name}/{t}/{level}"], 1e-4, f"{name} {t} {level}")
        assert_near(decode(maps, model.strides).boxes, case.tensors[f"decoded/{t}"], 1e-4, f"decoded {t}")
        assert_golden_frame(case, t, model(frame, memory))


def test_golden_evaluation_of_a_clip(golden: Callable[[str], Path], backend: Backend) -> None:
    """Until the memory is full it has thrown nothing away: then a clip at once gives the same."""
    case = Golden(golden("detector_eval.safetensors"))
    held = case.model.config.backbone.memory_frames
    found = case.model.eval()(case.frames[:held].transpose(0, 1))
    for t in range(held):
        assert_golden_frame(case, t, [found[b][t] for b in range(case.streams)])


@pytest.mark.parametrize("as_clip", [False, True], ids=["frames", "clip"])
def test_golden_training(golden: Callable[[str], Path], backend: Backend, as_clip: bool) -> None:
    case = Golden(golden("detector_train.safetensors"))
    model = case.model.train()
    wanted = {}
    if as_clip:
        targets = [list(of) for of in zip(*(case.targets(t) for t in range(case.steps)), strict=True)]
        losses = model.loss(case.frames.transpose(0, 1), targets)
        sum(losses.values()).backward()
        for name, loss in losses.items():
            wanted[name] = loss, sum(case.tensors[f"loss/{t}/{name}"] for t in range(case.steps))
    else:
        memory = model.new_memory(case.streams, tuple(case.frames.shape[-2:]))
        for t, frame in enumerate(case.frames):
            losses = model.loss(frame, case.targets(t), memory)
            sum(losses.values()).backward()
            wanted |= {f"{name} {t}": (loss, case.tensors[f"loss/{t}/{name}"]) for name, loss in losses.items()}
    for name, (loss, expected) in wanted.items():
        torch.testing.assert_close(loss.detach(), expected, rtol=1e-3, atol=1e-4, msg=name)
    prefix = "grad/detector."
    expected = {name.removeprefix(prefix): x for name, x in case.tensors.items() if name.startswith(prefix)}
    assert_near_gradients(gradients(model), expected, 1e-3)
    for name, buffer in model.named_buffers():
        expected = case.tensors[f"buffer_after/detector.{name}"]
        assert_near(buffer.double(), expected.double(), 1e-3, name)


def test_frames_and_clips_are_lists() -> None:
    model, frames = detector(), clip(2, 3)
    found = model(frames)
    assert [[type(x) for x in of] for of in found] == [[Detections] * 3] * 2
    single = model(frames[:, 0], model.new_memory(2, SIZE))
    assert [type(x) for x in single] == [Detections] * 2
    for b in range(2):
        assert_same_detections(single[b], found[b][0])


def test_clip_in_evaluation_is_frame_by_frame_with_fifo() -> None:
    model, frames = detector(), clip(2, 6)
    memory = model.new_memory(2, SIZE, evict="fifo")
    found = model(frames)
    for t in range(6):
        for b, one in enumerate(model(frames[:, t], memory)):
            assert_same_detections(one, found[b][t])


def test_without_memory_there_is_no_past() -> None:
    model, frames = detector(), clip(2, 3)
    for t in range(3):
        fresh = model(frames[:, t], model.new_memory(2, SIZE))
        for one, other in zip(model(frames[:, t]), fresh, strict=True):
            assert_same_detections(one, other)


def test_the_past_shows() -> None:
    model, frames = detector(), clip(1, 2)
    memory = model.new_memory(1, SIZE)
    model(frames[:, 0], memory)
    with torch.no_grad():
        told, alone = model.raw(frames[:, 1], memory), model.raw(frames[:, 1])
    assert (told.box[0] - alone.box[0]).abs().max() > 1e-4


def test_streams_do_not_mix() -> None:
    """Two interleaved streams, one of which misses a frame, give what each gives alone."""
    model, frames = detector(), clip(2, 3)
    both = model.new_memory(2, SIZE)
    together = [model(frames[:, 0], both), model(frames[1:, 1], both, [1]), model(frames[:, 2], both)]
    first, second = model.new_memory(1, SIZE), model.new_memory(1, SIZE)
    for t in (0, 2):
        assert_same_detections(together[t][0], model(frames[:1, t], first)[0])
    for t in range(3):
        assert_same_detections(together[t][-1], model(frames[1:, t], second)[0])


def test_detecting_builds_no_graph() -> None:
    model = detector()
    [found] = model(clip(1, 1)[:, 0])
    assert not found.boxes.requires_grad
    assert all(p.grad is None for p in model.parameters())


def test_score_threshold_and_nms_threshold_are_the_configurations() -> None:
    frames = clip(1, 1)[:, 0]
    everything = Detector(CONFIG.replace(score_threshold=0.0, nms_threshold=1.0)).eval()
    [found] = everything(frames)
    assert len(found) == 8 * 12 + 4 * 6 + 2 * 3
    nothing = Detector(CONFIG.replace(score_threshold=1.0)).eval()
    [none] = nothing(frames)
    assert len(none) == 0
    assert none.boxes.shape == (0, 4)


@pytest.mark.parametrize("length", [2, 5])
def test_loss_of_a_clip_accumulates_its_frames(length: int) -> None:
    """Losses, gradients and running statistics, also where the memory clears within the clip."""
    at_once = detector(CONFIG.replace(use_l1=True)).train()
    looped, frames = copy.deepcopy(at_once), clip(2, length)
    targets = [[target(n) for n in (torch.arange(length) % 4).tolist()] for _ in range(2)]
    losses = at_once.loss(frames, targets)
    assert set(losses) == {"loss_cls", "loss_bbox", "loss_obj", "loss_l1"}
    sum(losses.values()).backward()
    memory, total = looped.new_memory(2, SIZE), dict.fromkeys(losses, 0.0)
    for t in range(length):
        frame = looped.loss(frames[:, t], [of[t] for of in targets], memory)
        sum(frame.values()).backward()
        total = {name: total[name] + loss.item() for name, loss in frame.items()}
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(total[name], rel=1e-3)
    assert_near_gradients(gradients(at_once), gradients(looped), 1e-3)
    for (name, a), b in zip(at_once.named_buffers(), looped.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=name)


def test_every_parameter_learns() -> None:
    """With boxes enough for each level of the head."""
    model = detector().train()
    sum(model.loss(clip(2, 2), [[target(15), target(15)]] * 2).values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_checkpointing_changes_nothing() -> None:
    plain = detector().train()
    saving = Detector(CONFIG.replace(checkpoint=True)).train()
    saving.load_state_dict(plain.state_dict())
    frames, wanted = clip(2, 2), [target(2), target(3)]
    for model in (plain, saving):
        memory = model.new_memory(2, SIZE)
        for t in range(2):
            sum(model.loss(frames[:, t], wanted, memory).values()).backward()
    assert_near_gradients(gradients(saving), gradients(plain), 1e-4)
    for a, b in zip(plain.buffers(), saving.buffers(), strict=True):
        torch.testing.assert_close(a, b)


def test_loss_without_memory_is_of_single_pictures() -> None:
    model, frames = detector(), clip(2, 1)
    wanted = [target(2), target(0)]
    alone = model.loss(frames[:, 0], wanted)
    fresh = model.loss(frames[:, 0], wanted, model.new_memory(2, SIZE))
    as_clip = model.loss(frames, [[image] for image in wanted])
    for name, loss in alone.items():
        torch.testing.assert_close(loss, fresh[name], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(loss, as_clip[name], rtol=1e-4, atol=1e-4)


def test_training_step_lowers_the_loss() -> None:
    model = detector().train()
    frames, wanted = clip(1, 2), [[target(2), target(2)]]
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    seen = []
    for _ in range(12):
        loss = sum(model.loss(frames, wanted).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seen.append(loss.item())
    assert seen[-1] < 0.9 * seen[0]


def test_nan_in_the_input_shows() -> None:
    model = detector()
    frames = clip(2, 1)[:, 0]
    frames[0, 1, 30, 40] = torch.nan
    broken, whole = model(frames)
    assert broken.scores.isnan().any()
    assert not whole.scores.isnan().any()
    assert sum(model.loss(frames, [target(1), target(1)]).values()).isnan()


def test_autocast_scores_and_boxes_in_fp32() -> None:
    model, frames = detector(), clip(1, 1)[:, 0]
    with torch.autocast("cpu", torch.bfloat16):
        [found] = model(frames)
        assert model.raw(frames).box[0].dtype == torch.bfloat16
        losses = model.loss(frames, [target(3)])
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad.dtype == torch.float32 for p in model.parameters() if p.grad is not None)


def test_raw_compiles_whole_and_once() -> None:
    """From frame to frame nothing compiles again: the cursor of the memory is a tensor."""
    model, frames = detector(), clip(2, 4)
    compiled = torch.compile(model.raw, fullgraph=True, backend="eager")
    memory, twin = model.new_memory(2, SIZE), model.new_memory(2, SIZE)
    with torch.no_grad():
        for t in range(4):
            with torch.compiler.set_stance("fail_on_recompile" if t > 1 else "default"):
                maps = compiled(frames[:, t].contiguous(), memory)
            for levels, expected in zip(maps, model.raw(frames[:, t], twin), strict=True):
                for x, ref in zip(levels, expected, strict=True):
                    torch.testing.assert_close(x, ref, rtol=1e-4, atol=1e-4)


def test_state_dict_comes_back() -> None:
    model = detector()
    other = Detector(CONFIG).eval()
    other.load_state_dict(model.state_dict(), strict=True)
    frames = clip(1, 2)
    for a, b in zip(model(frames)[0], other(frames)[0], strict=True):
        assert torch.equal(a.boxes, b.boxes)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 64, 80), "frames: expected a height and a width that are multiples of 32, got 64 x 80; pad right"),
        ((1, 2, 3, 50, 96), "multiples of 32, got 50 x 96"),
        ((3, 64, 96), r"got \[3, 64, 96\]; add a batch axis"),
        ((1, 1, 1, 3, 64, 96), r"frames: expected .* got \[1, 1, 1, 3, 64, 96\]"),
    ],
)
def test_frames_that_do_not_fit(shape: tuple[int, ...], message: str) -> None:
    for call in (lambda x: detector()(x), lambda x: detector().loss(x, [target(1)])):
        with pytest.raises(ValueError, match=message):
            call(torch.zeros(shape))


def test_clips_take_no_memory() -> None:
    model = detector()
    with pytest.raises(ValueError, match="memory: expected none with a clip"):
        model(clip(2, 2), model.new_memory(2, SIZE))


def test_bad_targets_leave_the_memory_as_it_was() -> None:
    model = detector().train()
    memory = model.new_memory(2, SIZE)
    with pytest.raises(ValueError, match="targets: expected 2 for B images, got 1"):
        model.loss(clip(2, 1)[:, 0], [target(1)], memory)
    assert memory.step.tolist() == [0, 0]
    with pytest.raises(ValueError, match="labels: expected 0 to 1, got 2"):
        model.loss(clip(1, 1), [[dict(boxes=torch.rand(1, 4), labels=torch.tensor([2]))]])


def test_frame_based_detector_needs_no_memory() -> None:
    model = Detector(CONFIG.replace(temporal="none")).eval()
    frames = clip(2, 2)
    found = model(frames)
    for b, one in enumerate(model(frames[:, 1])):
        assert_same_detections(one, found[b][1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="NO GPU: no detector was run on one")
def test_on_a_gpu_as_on_the_cpu() -> None:
    """Maps and losses are the CPU's to rounding, detections stay on the GPU, the same input gives the same losses."""
    model, frames, wanted = detector(), clip(2, 3), [[target(3), target(0), target(6)]] * 2
    away, sent = copy.deepcopy(model).cuda(), frames.cuda()
    with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False, deterministic=True):
        for levels, expected in zip(away.raw(sent), model.raw(frames), strict=True):
            for x, ref in zip(levels, expected, strict=True):
                assert_near(x.cpu(), ref, 1e-3, "map")
        first, second, expected = away.loss(sent, wanted), away.loss(sent, wanted), model.loss(frames, wanted)
    for name, loss in first.items():
        assert torch.equal(loss, second[name])
        torch.testing.assert_close(loss.cpu(), expected[name], rtol=1e-2, atol=1e-2)
    for a, b in zip(away(sent)[1], model(frames)[1], strict=True):
        assert a.boxes.is_cuda
        torch.testing.assert_close(a.scores.cpu(), b.scores, rtol=1e-2, atol=1e-3)
