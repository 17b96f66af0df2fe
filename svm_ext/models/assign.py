"""SimOTA: which priors answer for which box in training.

Priors near a box compete for it. What a pair costs is how badly the prior's prediction fits: its class, its
overlap, and whether the prior lies inside the box and near its centre. A box takes as many of the cheapest
priors as the predictions overlap it well; a prior that several boxes take goes to the one it costs least.

Letters: G boxes, P priors (or those among them that are candidates), K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

RADIUS = 2.5  # strides from a box's centre to the border of the square that counts as near
MOST = 10  # priors a box may have
IOU_WEIGHT = 3.0
OUTSIDE = 1e5  # what a prior costs more that is not both inside the box and near its centre
PAIRS = 1 << 20  # of boxes and priors, looked at together: 4 MB a matrix, however crowded the picture


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the overlap of boxes (x1 y1 x2 y2 in the last dimension), broadcast over the others."""
    width = (torch.minimum(a[..., 2], b[..., 2]) - torch.maximum(a[..., 0], b[..., 0])).clamp(min=0)
    height = (torch.minimum(a[..., 3], b[..., 3]) - torch.maximum(a[..., 1], b[..., 1])).clamp(min=0)
    shared = width * height
    area = (a[..., 2] - a[..., 0]) * (a[..., 3] - a[..., 1]) + (b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1])
    return shared / (area - shared).clamp(min=1e-6)


@torch.no_grad()
def assign(boxes: Tensor, cls: Tensor, obj: Tensor, priors: Tensor, gt_boxes: Tensor, gt_labels: Tensor) -> Tensor:
    """Return for each prior of one image the box that it answers for, int64 [P]; -1 is the background.

    Given are the predicted boxes [P, 4], class logits [P, K] and objectness logits [P], the priors [P, 3] and
    the true boxes [G, 4] with labels [G]. The same input gives the same result: of equal costs the first
    prior, and the first box, is the cheaper.
    """
    owner = torch.full(boxes.shape[:1], -1, dtype=torch.int64, device=boxes.device)
    rows = gt_boxes.split(max(1, PAIRS // max(1, len(boxes))))
    near = torch.zeros_like(owner, dtype=torch.bool)
    for some in rows:
        near |= torch.logical_or(*_places(priors, some)).any(0)
    candidates = near.nonzero()[:, 0]
    if len(candidates):
        chosen = (x[candidates] for x in (boxes, _class_costs(cls, obj), priors))
        owner[candidates] = _match(*chosen, gt_boxes, gt_labels)
    return owner


def _places(priors: Tensor, gt_boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Tell which cells' centres are inside which boxes, and which near the centre of which [G, P]."""
    x, y = (priors[:, :2] + priors[:, 2:] / 2).T  # [P]
    reach = RADIUS * priors[:, 2]
    left, top, right, bottom = gt_boxes.T[..., None]  # [G, 1] each
    inside = (x > left) & (x < right) & (y > top) & (y < bottom)
    near = ((x - (left + right) / 2).abs() < reach) & ((y - (top + bottom) / 2).abs() < reach)
    return inside, near


def _class_costs(cls: Tensor, obj: Tensor) -> Tensor:
    """Return what each class would cost each prior [P, K]: the binary cross entropy of all its scores."""
    score = (cls.sigmoid() * obj.sigmoid()[:, None]).sqrt()
    right, wrong = -score.log().clamp(min=-100), -(-score).log1p().clamp(min=-100)
    return wrong.sum(1, keepdim=True) - wrong + right


def _match(boxes: Tensor, class_costs: Tensor, priors: Tensor, gt_boxes: Tensor, gt_labels: Tensor) -> Tensor:
    """Return the box of each candidate [P], or -1."""
    takers = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)  # [P] boxes that take the prior
    taker, favourite = torch.zeros_like(takers), torch.zeros_like(takers)  # the only such box; the cheapest box
    least = torch.full_like(boxes[:, 0], torch.inf)  # what the cheapest box costs
    ids = torch.arange(len(gt_boxes), device=boxes.device)
    for some in ids.split(max(1, PAIRS // len(boxes))):
        overlaps = iou(gt_boxes[some, None], boxes)  # [G, P]
        near = torch.logical_and(*_places(priors, gt_boxes[some]))
        costs = class_costs.T[gt_labels[some]] - IOU_WEIGHT * (overlaps + 1e-7).log() + OUTSIDE * ~near

        most = min(MOST, len(boxes))
        wanted = overlaps.topk(most).values.sum(1).int().clamp(min=1)  # [G]
        took = torch.arange(most, device=boxes.device) < wanted[:, None]  # [G, most]
        cheapest = _cheapest(costs, most).flatten()
        takers.scatter_add_(0, cheapest, took.long().flatten())
        taker.scatter_add_(0, cheapest, (took * some[:, None]).flatten())

        cost, which = costs.min(0)  # [P]
        favourite = torch.where(cost < least, some[which], favourite)
        least = torch.minimum(cost, least)
    return torch.where(takers > 1, favourite, taker).masked_fill(takers == 0, -1)


def _cheapest(costs: Tensor, count: int) -> Tensor:
    """Return the places of the smallest costs of each row [G, count], of equal ones the first.

    Which of equal numbers topk finds depends on the device. Here no two are equal: the bits of a float,
    read as a whole number, keep its order, and the place is put behind them.
    """
    bits = costs.float().view(torch.int32)
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()  # negative floats count downwards
    places = torch.arange(costs.shape[1], device=costs.device)
    return (ordered << 32 | places).topk(count, largest=False).values & 0xFFFFFFFF
