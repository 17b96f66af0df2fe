"""Every parameter lands in one group with the rate and decay that it should have; the schedule has no jump."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from svm_ext.train.optimizer import Schedule, parameter_groups

# Names as in a detector, and what each gets: (factor on the rate, decayed) plainly, and in the released recipe.
CASES = {
    "backbone.positional_embedding": ((0.1, False), (0.1, True)),
    "backbone.conv1.weight": ((0.1, True), (0.1, True)),
    "backbone.ln_post.weight": ((0.1, False), (0.1, True)),
    "backbone.ln_post_out1.weight": ((1.0, False), (1.0, True)),
    "backbone.transformer.resblocks.0.attn.in_proj_weight": ((0.1, True), (0.1, True)),
    "backbone.transformer.resblocks.0.attn.in_proj_bias": ((0.1, False), (0.1, True)),
    "backbone.transformer.resblocks.0.attn.in_proj_weight_t": ((1.0, True), (0.1, True)),
    "backbone.transformer.resblocks.0.attn.in_proj_bias_t": ((1.0, False), (0.1, True)),
    "backbone.transformer.resblocks.0.attn.out_proj_t.weight": ((1.0, True), (0.1, True)),
    "backbone.transformer.resblocks.0.attn.alpha": ((1.0, False), (0.1, True)),
    "backbone.transformer.resblocks.2.residual_block.conv1.weight": ((1.0, True), (1.0, True)),
    "backbone.transformer.resblocks.2.residual_block.norm1.weight": ((1.0, False), (1.0, True)),
    "backbone.fpn_adaptor.fpn_adaptor_0.0.weight": ((1.0, True), (1.0, True)),
    "backbone.fpn_adaptor.fpn_adaptor_0.0.bias": ((1.0, False), (1.0, True)),
    "neck.reduce_layers.0.conv.weight": ((1.0, True), (1.0, True)),
    "neck.reduce_layers.0.bn.weight": ((1.0, False), (1.0, False)),
    "bbox_head.multi_level_conv_cls.0.bias": ((1.0, False), (1.0, False)),
}


class Named(nn.Module):
    """Parameters under the names of CASES; what ends in a vector's name has one dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.table = {}
        for name in CASES:
            vector = name.endswith(("bias", "bias_t", "alpha")) or ".ln_" in name or "norm" in name or ".bn." in name
            self.table[name] = nn.Parameter(torch.zeros(2) if vector else torch.zeros(2, 2))

    def named_parameters(self, *args, **kwargs):
        return iter(self.table.items())


@pytest.mark.parametrize("like_reference", [False, True])
def test_every_parameter_has_its_rate_and_decay(like_reference: bool) -> None:
    model = Named()
    groups = parameter_groups(model, 2.0, 0.05, 0.1, like_reference)
    found = {
        id(member): (group["lr"] / 2.0, group["weight_decay"] == 0.05) for group in groups for member in group["params"]
    }
    assert len(found) == sum(len(group["params"]) for group in groups) == len(CASES)
    for name, expected in CASES.items():
        assert found[id(model.table[name])] == expected[like_reference], name


def test_groups_are_few_and_frozen_parameters_are_left_out() -> None:
    model = Named()
    model.table["backbone.conv1.weight"].requires_grad_(False)
    groups = parameter_groups(model, 1.0, 0.05, 0.1)
    assert len(groups) == 4
    assert sum(len(group["params"]) for group in groups) == len(CASES) - 1


def test_from_scratch_everything_learns_at_one_rate() -> None:
    assert {group["lr"] for group in parameter_groups(Named(), 3e-4, 0.05, 1.0)} == {3e-4}


def test_the_schedule_of_the_released_recipe() -> None:
    """Ten epochs of 100 clips with two frames: one epoch of warm-up, a tail of half an epoch."""
    schedule = Schedule(total=2000, warmup=200, tail=100)
    assert schedule.factor(0) == pytest.approx((1 / 200) ** 2)
    assert schedule.factor(99) == pytest.approx(0.25)
    assert schedule.factor(199) == schedule.factor(200) == 1.0
    assert schedule.factor(1050) == pytest.approx((1 + 0.05) / 2)  # half of the cosine
    assert schedule.factor(1899) == pytest.approx(0.05, abs=1e-5)
    assert {schedule.factor(i) for i in range(1900, 2000)} == {0.05}


def test_the_schedule_never_jumps_and_never_rises_after_the_warm_up() -> None:
    schedule = Schedule(total=500, warmup=50, tail=25)
    factors = [schedule.factor(i) for i in range(500)]
    assert max(abs(a - b) for a, b in zip(factors, factors[1:], strict=False)) < 0.05
    assert all(a >= b for a, b in zip(factors[50:], factors[51:], strict=False))


@pytest.mark.parametrize(("warmup", "tail"), [(0, 0), (1, 0), (0, 10), (10, 0), (5, 5)])
def test_short_schedules_have_no_hole(warmup: int, tail: int) -> None:
    schedule = Schedule(total=10, warmup=warmup, tail=tail)
    assert all(0 < schedule.factor(i) <= 1 for i in range(10))


def test_a_schedule_keeps_the_ratio_between_groups() -> None:
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW(
        [{"params": [a], "lr": 1.0, "initial_lr": 1.0}, {"params": [b], "lr": 0.1, "initial_lr": 0.1}]
    )
    schedule = Schedule(total=100, warmup=10, tail=5)
    for iteration in (0, 5, 50, 99):
        largest = schedule.apply(optimizer, iteration)
        rates = [group["lr"] for group in optimizer.param_groups]
        assert largest == rates[0] == pytest.approx(10 * rates[1]) == pytest.approx(schedule.factor(iteration))
