"""The average of the weights over the training, which is what gets evaluated and shipped."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn


class WeightAverage:
    """Follows a model: parameters and running statistics alike, fast at first and slowly later.

    The share of the newest weights is `least + (1 - least) * exp(-(1 + iteration) / horizon)`.
    """

    def __init__(self, model: nn.Module, least: float = 1e-4, horizon: float = 2000.0) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.least, self.horizon = least, horizon
        self.iteration = 0

    def share(self, iteration: int) -> float:
        """How much of the newest weights goes into the average at an iteration."""
        return self.least + (1 - self.least) * math.exp(-(1 + iteration) / self.horizon)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take one step towards the model."""
        share = self.share(self.iteration)
        new = model.state_dict()
        followed, targets = [], []
        for name, kept in self.model.state_dict().items():
            if kept.is_floating_point():
                followed.append(kept)
                targets.append(new[name].detach())
            else:
                kept.copy_(new[name])
        torch._foreach_lerp_(followed, targets, share)
        self.iteration += 1

    def state_dict(self) -> dict[str, object]:
        """What a resumed training needs."""
        return {"model": self.model.state_dict(), "iteration": self.iteration}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go on where `state_dict` was taken."""
        self.model.load_state_dict(state["model"])
        self.iteration = state["iteration"]
