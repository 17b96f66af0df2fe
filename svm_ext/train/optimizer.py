"""What the optimizer is told: parameter groups, and the learning rate of every iteration."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import nn

# Part of a parameter's name -> factor on the learning rate. The first that is found in a name counts, as in the
# reference; there it also decides alone, so that norms and biases of the backbone are decayed with the rest.
REFERENCE_FACTORS = (
    ("residual_block", 1.0),
    ("backbone.fpn_adaptor", 1.0),
    ("backbone.ln_post_", 1.0),
    ("backbone", 0.1),
)
# Parts of the backbone that no pretrained image model has, besides what stands outside of the backbone.
FRESH = ("residual_block", "fpn_adaptor", "ln_post_out", "in_proj_weight_t", "in_proj_bias_t", "out_proj_t", "alpha")


def parameter_groups(
    model: nn.Module, learning_rate: float, weight_decay: float, backbone_factor: float, like_reference: bool = False
) -> list[dict[str, object]]:
    """Sort a model's parameters into groups of one learning rate and one weight decay.

    Norms, biases, alpha and the position table are not decayed. `backbone_factor` slows down what pretrained
    weights have filled: 0.1 after loading CLIP, 1 from scratch. `like_reference` repeats the released recipe
    instead, which also slows down and decays the temporal branch and everything else in the backbone.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rule = _reference_rule if like_reference else _plain_rule
        factor, decays = rule(name, parameter, backbone_factor)
        groups[learning_rate * factor, weight_decay if decays else 0.0].append(parameter)
    return [
        {"params": members, "lr": rate, "initial_lr": rate, "weight_decay": decay}
        for (rate, decay), members in groups.items()
    ]


def _plain_rule(name: str, parameter: nn.Parameter, backbone_factor: float) -> tuple[float, bool]:
    pretrained = "backbone" in name and not any(part in name for part in FRESH)
    return backbone_factor if pretrained else 1.0, _is_weight(name, parameter)


def _reference_rule(name: str, parameter: nn.Parameter, _: float) -> tuple[float, bool]:
    for part, factor in REFERENCE_FACTORS:
        if part in name:
            return factor, True
    return 1.0, _is_weight(name, parameter)


def _is_weight(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim > 1 and "positional_embedding" not in name


@dataclass(frozen=True)
class Schedule:
    """Square warm-up, cosine, and a flat tail, counted in optimizer iterations."""

    total: int
    warmup: int
    tail: int
    floor: float = 0.05  # the tail's share of the full learning rate

    def factor(self, iteration: int) -> float:
        """The share of the full learning rate at an iteration, which is counted from 0."""
        if iteration < self.warmup:
            return ((iteration + 1) / self.warmup) ** 2
        if iteration >= self.total - self.tail:
            return self.floor
        gone = (iteration - self.warmup) / (self.total - self.tail - self.warmup)
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * gone)) / 2

    def apply(self, optimizer: torch.optim.Optimizer, iteration: int) -> float:
        """Set the learning rate of every group and return the largest."""
        factor = self.factor(iteration)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        return max(group["lr"] for group in optimizer.param_groups)
