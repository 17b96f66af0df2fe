"""The losses: by hand, against the golden case, over the frames of a clip and over ranks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from svm_ext.models import losses as module
from svm_ext.models.assign import assign, iou
from svm_ext.models.head import HeadMaps, Predictions, decode
from svm_ext.models.losses import detection_losses

STRIDES = (8, 16, 32)
SIZES = ((8, 12), (4, 6), (2, 3))


def head_maps(images: int, classes: int = 2, dtype: torch.dtype = torch.float32) -> HeadMaps:
    shapes = [(classes, 1.0), (4, 0.5), (1, 1.0)]
    return HeadMaps(
        *([torch.randn(images, channels, *size, dtype=dtype) * scale for size in SIZES] for channels, scale in shapes)
    )


def predictions(images: int, classes: int = 2) -> Predictions:
    return decode(head_maps(images, classes), STRIDES)


def targets(*counts: int, classes: int = 2) -> list[dict[str, Tensor]]:
    made = []
    for count in counts:
        centre, size = torch.rand(count, 2) * torch.tensor([96, 64]), 8 + torch.rand(count, 2) * 32
        boxes = torch.cat([centre - size / 2, centre + size / 2], dim=1)
        made.append(dict(boxes=boxes, labels=torch.randint(classes, (count,))))
    return made


def by_hand(given: Predictions, wanted: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The losses of one frame, positive by positive."""
    cls = box = obj = l1 = torch.zeros(())
    count = 0
    for i, target in enumerate(wanted):
        owner = assign(
            given.boxes[i], given.cls[i], given.obj[i], given.priors, target["boxes"], target["labels"]
        ).tolist()
        for p, g in enumerate(owner):
            obj = obj + F.softplus(-given.obj[i, p] if g >= 0 else given.obj[i, p])
            if g < 0:
                continue
            count += 1
            truth, (x, y, stride) = target["boxes"][g], given.priors[p]
            overlap = iou(given.boxes[i, p], truth)
            for k, logit in enumerate(given.cls[i, p]):
                wish = overlap.detach() if k == target["labels"][g] else torch.zeros(())
                cls = cls + wish * F.softplus(-logit) + (1 - wish) * F.softplus(logit)
            box = box + 5 * (1 - overlap**2)
            centre, size = (truth[:2] + truth[2:]) / 2, truth[2:] - truth[:2]
            raw = torch.cat([(centre - torch.stack([x, y])) / stride, (size / stride).log()])
            l1 = l1 + (given.raw[i, p] - raw).abs().sum()
    share = max(count, 1)
    return dict(loss_cls=cls / share, loss_bbox=box / share, loss_obj=obj / share, loss_l1=l1 / share)


@pytest.mark.parametrize("counts", [(3, 2), (0, 4), (1,), (12, 12)])
def test_by_hand(counts: tuple[int, ...]) -> None:
    given, wanted = predictions(len(counts)), targets(*counts)
    losses = detection_losses(given, wanted, use_l1=True)
    expected = by_hand(given, wanted)
    assert set(losses) == set(expected)
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name], rtol=1e-4, atol=1e-5, msg=name)


def test_l1_is_off_unless_wanted() -> None:
    assert set(detection_losses(predictions(1), targets(2))) == {"loss_cls", "loss_bbox", "loss_obj"}


def test_pictures_without_boxes_teach_the_background() -> None:
    maps = head_maps(2)
    for level in (x for levels in maps for x in levels):
        level.requires_grad_()
    given = decode(maps, STRIDES)
    losses = detection_losses(given, targets(0, 0), use_l1=True)
    assert losses["loss_cls"] == losses["loss_bbox"] == losses["loss_l1"] == 0
    torch.testing.assert_close(losses["loss_obj"], F.softplus(given.obj).sum())
    sum(losses.values()).backward()
    assert all((x.grad != 0).all() for x in maps.obj)
    assert all(x.grad is not None and not x.grad.any() for x in (*maps.cls, *maps.box))


def test_clip_is_the_sum_over_its_frames() -> None:
    """Every frame is divided by its own positives, over its own streams."""
    streams, frames = 2, 3
    maps = HeadMaps(*([x.unflatten(0, (streams, frames)) for x in levels] for levels in head_maps(streams * frames)))
    wanted = [targets(3, 0, 6), targets(1, 0, 2)]
    at_once = detection_losses(decode(maps, STRIDES), [image for clip in wanted for image in clip], frames)
    summed = dict.fromkeys(at_once, torch.zeros(()))
    for t in range(frames):
        frame = decode(HeadMaps(*([x[:, t] for x in levels] for levels in maps)), STRIDES)
        for name, loss in detection_losses(frame, [clip[t] for clip in wanted]).items():
            summed[name] = summed[name] + loss
    for name, loss in at_once.items():
        torch.testing.assert_close(loss, summed[name], rtol=1e-5, atol=1e-5, msg=name)


def test_ranks_share_the_number_of_positives(monkeypatch: pytest.MonkeyPatch) -> None:
    """With four times as many positives on the other rank, the mean is two and a half times ours."""
    given, wanted = predictions(2), targets(3, 4)
    alone = detection_losses(given, wanted)
    monkeypatch.setattr(module, "ranks", lambda: 2)
    monkeypatch.setattr(module.dist, "all_reduce", lambda counts: counts.mul_(5))
    for name, loss in detection_losses(given, wanted).items():
        torch.testing.assert_close(loss * 2.5, alone[name])


def test_a_rank_without_positives_divides_by_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    given = predictions(1)
    alone = detection_losses(given, targets(0))
    monkeypatch.setattr(module, "ranks", lambda: 2)
    monkeypatch.setattr(module.dist, "all_reduce", lambda counts: counts.add_(40))
    torch.testing.assert_close(detection_losses(given, targets(0))["loss_obj"] * 20, alone["loss_obj"])


def test_overlap_teaches_the_class_but_not_the_box() -> None:
    """The class's target is the overlap as a number: through it no gradient reaches the box."""
    maps = head_maps(1)
    for x in maps.box:
        x.requires_grad_()
    loss = detection_losses(decode(maps, STRIDES), targets(4))["loss_cls"]
    assert not loss.requires_grad


def test_gradient_of_the_box_loss() -> None:
    others, wanted = head_maps(1, dtype=torch.float64), targets(3)

    def loss(*box: Tensor) -> Tensor:
        return detection_losses(decode(HeadMaps(others.cls, list(box), others.obj), STRIDES), wanted)["loss_bbox"]

    assert torch.autograd.gradcheck(loss, [x.requires_grad_() for x in others.box], eps=1e-7, atol=1e-4)


@pytest.mark.parametrize("part", ["cls", "box", "obj"])
def test_nan_shows(part: str) -> None:
    """A model that broke must not train on in silence."""
    maps = head_maps(1)
    for level in getattr(maps, part):
        level.fill_(torch.nan)
    losses = detection_losses(decode(maps, STRIDES), targets(6))
    assert sum(losses.values()).isnan()


def test_targets_in_other_types_and_with_more_in_them() -> None:
    given, wanted = predictions(2), targets(3, 2)
    loose = [
        dict(boxes=t["boxes"].double(), labels=t["labels"].int(), ids=torch.arange(9), name="street") for t in wanted
    ]
    for name, loss in detection_losses(given, loose).items():
        torch.testing.assert_close(loss, detection_losses(given, wanted)[name])


def test_autocast_computes_losses_in_fp32() -> None:
    maps, wanted = head_maps(1), targets(4)
    narrow = HeadMaps(*([x.bfloat16() for x in levels] for levels in maps))
    wide = HeadMaps(*([x.float() for x in levels] for levels in narrow))
    with torch.autocast("cpu", torch.bfloat16):
        losses = detection_losses(decode(narrow, STRIDES), wanted, use_l1=True)
    for name, loss in detection_losses(decode(wide, STRIDES), wanted, use_l1=True).items():
        assert losses[name].dtype == torch.float32
        torch.testing.assert_close(losses[name], loss)


def test_golden_losses(golden: Callable[[str], Path]) -> None:
    """From the reference's own head outputs: targets and losses without the model's rounding."""
    case = load_file(golden("detector_train.safetensors"))
    for t in range(3):
        maps = HeadMaps(*([case[f"{part}/{t}/{level}"] for level in range(3)] for part in ("cls", "box", "obj")))
        wanted = [dict(boxes=case[f"gt_boxes/{t}/{b}"], labels=case[f"gt_labels/{t}/{b}"]) for b in range(2)]
        for name, loss in detection_losses(decode(maps, STRIDES), wanted).items():
            torch.testing.assert_close(loss, case[f"loss/{t}/{name}"], rtol=1e-5, atol=1e-6)
