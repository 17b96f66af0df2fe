"""The detector's losses: class, box, objectness and, if wanted, the L1 distance of the raw boxes.

Letters: N images (B, or B*T of a clip), T frames, P priors, K classes, n positives: priors with a box.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch import distributed as dist

from .assign import assign, iou
from .frame_norm import ranks
from .head import Predictions
from .targets import Targets

BOX_WEIGHT = 5.0


def detection_losses(
    predictions: Predictions, targets: Sequence[Targets], frames: int = 1, *, use_l1: bool = False
) -> dict[str, Tensor]:
    """Return loss_cls, loss_bbox, loss_obj (and loss_l1) of N = B * frames images, summed over the frames.

    A frame's losses are sums over its B images, divided by its number of positives (their mean over all
    ranks, at least 1): what training frame by frame would give.
    """
    boxes, labels, owner = _assigned(predictions, targets)
    positive = owner >= 0  # [N, P]
    share = 1 / _positives(positive.sum(1), frames)  # [N]
    images, priors = positive.nonzero(as_tuple=True)  # [n]
    matched = owner[images, priors]
    boxes, labels, weight = boxes[matched], labels[matched], share[images]

    overlaps = iou(predictions.boxes[images, priors], boxes)  # [n]
    cls = predictions.cls[images, priors]  # [n, K]
    is_class = F.one_hot(labels, cls.shape[1]) * overlaps.detach()[:, None]
    entropy = F.binary_cross_entropy_with_logits
    losses = {
        "loss_cls": (entropy(cls, is_class, reduction="none").sum(1) * weight).sum(),
        "loss_bbox": BOX_WEIGHT * ((1 - overlaps.clamp(min=1e-16) ** 2) * weight).sum(),
        "loss_obj": (entropy(predictions.obj, positive.to(cls.dtype), reduction="none").sum(1) * share).sum(),
    }
    if use_l1:
        distance = predictions.raw[images, priors] - _encoded(boxes, predictions.priors[priors])
        losses["loss_l1"] = (distance.abs().sum(1) * weight).sum()
    return losses


def _assigned(predictions: Predictions, targets: Sequence[Targets]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the boxes [G, 4] and labels [G] of all images, and which of them each prior has, or -1 [N, P]."""
    given, rest, owners, before = predictions.boxes, (predictions.cls, predictions.obj), [], 0
    boxes = [target["boxes"].to(given.device, given.dtype) for target in targets]
    labels = [target["labels"].to(given.device, torch.int64) for target in targets]
    for image, of_image in enumerate(zip(boxes, labels, strict=True)):
        owner = assign(given[image], *(x[image] for x in rest), predictions.priors, *of_image)
        owners.append(torch.where(owner < 0, owner, owner + before))
        before += len(of_image[0])
    return torch.cat(boxes), torch.cat(labels), torch.stack(owners)


def _positives(counts: Tensor, frames: int) -> Tensor:
    """Return for each image [N] the positives of its frame, mean over ranks, at least 1."""
    of_frame = counts.view(-1, frames).sum(0).float()  # [T]
    if ranks() > 1:
        dist.all_reduce(of_frame)
        of_frame /= ranks()
    return of_frame.clamp(min=1).repeat(len(counts) // frames)


def _encoded(boxes: Tensor, priors: Tensor) -> Tensor:
    """Return boxes [n, 4] in the head's own terms: what it should say at these priors [n, 3]."""
    corner, stride = priors[:, :2], priors[:, 2:]
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return torch.cat([(centre - corner) / stride, (size / stride + 1e-8).log()], dim=1)
