"""SimOTA: against the rules told pair by pair, on ties, crowds, empty pictures and broken predictions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from svm_ext.models import assign as module
from svm_ext.models.assign import assign, iou
from svm_ext.models.head import priors_of

SIZE = (64, 96)  # height and width of the pictures here


def all_priors(height: int = SIZE[0], width: int = SIZE[1]) -> Tensor:
    sizes = [(height // stride, width // stride) for stride in (8, 16, 32)]
    return priors_of(sizes, (8, 16, 32), torch.device("cpu"), torch.float32)


def random_boxes(count: int, height: int = SIZE[0], width: int = SIZE[1], largest: float = 40) -> Tensor:
    centre = torch.rand(count, 2) * torch.tensor([width, height])
    size = 4 + torch.rand(count, 2) * largest
    return torch.cat([centre - size / 2, centre + size / 2], dim=1)


def random_case(boxes: int, classes: int = 1) -> dict[str, Tensor]:
    """Predictions that are about right: around the true boxes near their cell, with noise."""
    priors, gt = all_priors(), random_boxes(boxes)
    centres = priors[:, :2] + priors[:, 2:] / 2
    wanted = gt[(centres[:, None] - (gt[:, :2] + gt[:, 2:]) / 2).norm(dim=2).argmin(1)]
    return dict(
        boxes=wanted + torch.randn(len(priors), 4) * 4,
        cls=torch.randn(len(priors), classes),
        obj=torch.randn(len(priors)),
        priors=priors,
        gt_boxes=gt,
        gt_labels=torch.randint(classes, (boxes,)),
    )


def overlap(a: list[float], b: list[float]) -> float:
    w, h = max(0, min(a[2], b[2]) - max(a[0], b[0])), max(0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h
    return w * h / max(union, 1e-6)


def places(prior: list[float], box: list[float]) -> tuple[bool, bool]:
    """Whether the cell's centre is inside the box, and whether it is near the box's centre."""
    x, y = prior[0] + prior[2] / 2, prior[1] + prior[2] / 2
    cx, cy, reach = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, 2.5 * prior[2]
    inside = box[0] < x < box[2] and box[1] < y < box[3]
    return inside, abs(x - cx) < reach and abs(y - cy) < reach


def pair_cost(case: dict[str, Tensor], prior: int, g: int) -> float:
    cls, label = case["cls"][prior].tolist(), int(case["gt_labels"][g])
    objectness = 1 / (1 + math.exp(-case["obj"][prior].item()))
    cost = 0.0
    for k, value in enumerate(cls):
        score = math.sqrt(objectness / (1 + math.exp(-value)))
        cost -= math.log(score) if k == label else math.log(1 - score)
    cost -= 3 * math.log(overlap(case["boxes"][prior].tolist(), case["gt_boxes"][g].tolist()) + 1e-7)
    if not all(places(case["priors"][prior].tolist(), case["gt_boxes"][g].tolist())):
        cost += 1e5
    return torch.tensor(cost, dtype=torch.float32).item()  # beside 1e5 an fp32 number keeps two decimals


def told(case: dict[str, Tensor]) -> list[int]:
    """The rules, pair by pair."""
    priors, gts = case["priors"].tolist(), case["gt_boxes"].tolist()
    candidates = [p for p in range(len(priors)) if any(any(places(priors[p], box)) for box in gts)]
    cost = {(p, g): pair_cost(case, p, g) for p in candidates for g in range(len(gts))}
    takers: dict[int, list[int]] = {}
    for g, box in enumerate(gts):
        best = sorted((overlap(case["boxes"][p].tolist(), box) for p in candidates), reverse=True)[:10]
        for p in sorted(candidates, key=lambda p: (cost[p, g], p))[: max(1, int(sum(best)))]:
            takers.setdefault(p, []).append(g)
    owner = [-1] * len(priors)
    for p, of in takers.items():
        owner[p] = of[0] if len(of) == 1 else min(range(len(gts)), key=lambda g: (cost[p, g], g))
    return owner


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("boxes", [1, 4, 25])
@pytest.mark.parametrize("round_", range(3))
def test_against_the_rules(boxes: int, classes: int, round_: int) -> None:
    torch.manual_seed(100 * boxes + 10 * classes + round_)
    case = random_case(boxes, classes)
    assert assign(**case).tolist() == told(case)


def test_crowds_are_looked_at_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    case = random_case(40)
    whole = assign(**case)
    for pairs in (1, 500, 5000):
        monkeypatch.setattr(module, "PAIRS", pairs)
        assert torch.equal(assign(**case), whole)


def test_a_crowd_on_a_large_picture_takes_little_memory() -> None:
    """23,625 priors and 400 boxes are 9.4 million pairs; no tensor holds more than a part of them."""

    class Largest(TorchDispatchMode):
        bytes = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, (tuple, list)) else [result]:
                if isinstance(tensor, Tensor):
                    self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
            return result

    priors = all_priors(800, 1440)
    boxes, gt = random_boxes(len(priors), 800, 1440, 90), random_boxes(400, 800, 1440, 90)
    labels = torch.zeros(len(gt), dtype=torch.int64)
    with Largest() as seen:
        owner = assign(boxes, torch.randn(len(priors), 1), torch.randn(len(priors)), priors, gt, labels)
    assert (owner >= 0).any()
    assert 1 << 20 <= seen.bytes <= 9 << 20  # a part's costs, as whole numbers of 8 bytes


def test_no_boxes() -> None:
    case = random_case(1) | dict(gt_boxes=torch.zeros(0, 4), gt_labels=torch.zeros(0, dtype=torch.int64))
    assert assign(**case).tolist() == [-1] * len(case["priors"])


def test_boxes_far_outside_the_picture_get_nothing() -> None:
    case = random_case(1) | dict(gt_boxes=torch.tensor([[5000.0, 5000, 5050, 5050]]))
    assert (assign(**case) == -1).all()


def test_every_box_in_the_picture_gets_a_prior_or_shares_one() -> None:
    """A box so small that no cell's centre lies in it is learned by a cell near it."""
    case = random_case(1) | dict(gt_boxes=torch.tensor([[16.5, 17.0, 18.5, 19.0]]))
    owner = assign(**case)
    assert (owner == 0).sum() == 1
    assert places(case["priors"][owner == 0][0].tolist(), [16.5, 17.0, 18.5, 19.0]) == (False, True)


def test_box_without_a_size() -> None:
    case = random_case(1) | dict(gt_boxes=torch.tensor([[20.0, 20.0, 20.0, 20.0]]))
    assert (assign(**case) >= 0).sum() == 1


def perfect(case: dict[str, Tensor]) -> dict[str, Tensor]:
    return case | dict(boxes=case["gt_boxes"][:1].expand(len(case["priors"]), 4).clone())


def test_good_predictions_earn_ten_priors_and_bad_ones_one() -> None:
    case = random_case(1) | dict(gt_boxes=torch.tensor([[20.0, 10.0, 70.0, 60.0]]))
    assert (assign(**perfect(case)) == 0).sum() == 10
    case["boxes"] = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand_as(case["boxes"])
    assert (assign(**case) == 0).sum() == 1


def test_equal_costs_go_to_the_first_priors() -> None:
    """All predictions are the same: of the cells inside and near, the first ten in order are taken."""
    box = [20.0, 10.0, 70.0, 60.0]
    case = perfect(random_case(1) | dict(gt_boxes=torch.tensor([box])))
    case |= dict(cls=torch.zeros_like(case["cls"]), obj=torch.zeros_like(case["obj"]))
    both = [p for p, prior in enumerate(case["priors"].tolist()) if all(places(prior, box))]
    assert (assign(**case) == 0).nonzero()[:, 0].tolist() == both[:10]


def test_two_equal_boxes_share_no_prior() -> None:
    """What both take goes to the first."""
    case = random_case(1)
    alone = assign(**case)
    doubled = case | dict(gt_boxes=case["gt_boxes"].repeat(2, 1), gt_labels=case["gt_labels"].repeat(2))
    assert torch.equal(assign(**doubled), alone)


def test_a_contested_prior_goes_where_it_costs_least() -> None:
    """Two boxes want one prior, whose prediction fits the second of them."""
    near, other = [20.0, 20.0, 44.0, 44.0], [24.0, 24.0, 48.0, 48.0]
    case = random_case(1) | dict(gt_boxes=torch.tensor([near, other]), gt_labels=torch.zeros(2, dtype=torch.int64))
    case["boxes"] = torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(len(case["priors"]), 1)
    wanted = [all(places(p, near)) and all(places(p, other)) for p in case["priors"].tolist()].index(True)
    case["boxes"][wanted] = torch.tensor([23.0, 23.0, 47.0, 47.0])
    case["obj"] = torch.full_like(case["obj"], -5)
    case["obj"][wanted] = 5
    assert assign(**case)[wanted] == 1


def test_classes_matter() -> None:
    """Of two boxes in one place a prior takes the one whose class it believes in."""
    box = [20.0, 10.0, 70.0, 60.0]
    case = perfect(random_case(1, classes=2) | dict(gt_boxes=torch.tensor([box, box]), gt_labels=torch.tensor([0, 1])))
    case["cls"] = torch.tensor([-4.0, 4.0]).repeat(len(case["priors"]), 1)
    case["obj"] = torch.full_like(case["obj"], 5)
    owner = assign(**case)
    assert set(owner.tolist()) == {-1, 1}


def test_same_input_same_result() -> None:
    case = random_case(20)
    first = assign(**case)
    for _ in range(3):
        assert torch.equal(assign(**case), first)


def test_costs_below_zero_keep_their_order() -> None:
    """A perfect overlap costs a little less than nothing."""
    costs = torch.tensor([[0.5, -1e-7, 0.0, -3e-7, -0.25, 0.5]])
    assert module._cheapest(costs, 6).tolist() == [[4, 3, 1, 2, 0, 5]]


def test_infinite_and_missing_costs_come_last() -> None:
    costs = torch.tensor([[math.nan, math.inf, 2.0, 1e5, 1.0]])
    assert module._cheapest(costs, 5).tolist() == [[4, 2, 3, 1, 0]]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_broken_predictions_do_not_crash(value: float) -> None:
    case = random_case(5)
    for name in ("boxes", "cls", "obj"):
        broken = case | {name: torch.full_like(case[name], value)}
        assert assign(**broken).shape == case["obj"].shape


def test_certain_predictions_cost_no_more_than_a_hundred() -> None:
    """The logarithm of zero is cut, as in the binary cross entropy of torch."""
    costs = module._class_costs(torch.tensor([[200.0], [-200.0]]), torch.tensor([200.0, -200.0]))
    torch.testing.assert_close(costs, torch.tensor([[0.0], [100.0]]))
    scores = torch.rand(7, 3)
    target = torch.eye(3)[1].expand(7, 3)
    entropy = torch.nn.functional.binary_cross_entropy(scores.sqrt(), target, reduction="none").sum(1)
    certain = torch.full((7,), 50.0)
    torch.testing.assert_close(module._class_costs(scores.logit(), certain)[:, 1], entropy, rtol=1e-4, atol=1e-5)


def test_no_gradient_and_fp64() -> None:
    case = random_case(6)
    wide = {name: x.double().requires_grad_() if x.is_floating_point() else x for name, x in case.items()}
    owner = assign(**wide)
    assert not owner.requires_grad
    assert owner.dtype == torch.int64
    assert torch.equal(owner, assign(**case))


def test_overlap_of_boxes() -> None:
    a, b = random_boxes(20), random_boxes(30)
    expected = torch.tensor([[overlap(x, y) for y in b.tolist()] for x in a.tolist()])
    torch.testing.assert_close(iou(a[:, None], b), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(iou(a, a), torch.ones(20), rtol=0, atol=0)
    point = torch.tensor([3.0, 3.0, 3.0, 3.0])
    assert iou(point, point) == 0
