"""The averaged weights follow the formula, running statistics and counters included, and resume exactly."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from svm_ext.train.ema import WeightAverage


def small_model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def test_the_share_starts_near_one_and_ends_at_its_least() -> None:
    average = WeightAverage(small_model())
    assert average.share(0) == pytest.approx(1e-4 + (1 - 1e-4) * math.exp(-1 / 2000))
    assert average.share(10**6) == pytest.approx(1e-4)


def test_it_follows_parameters_and_statistics_by_the_formula() -> None:
    model = small_model()
    average = WeightAverage(model, least=0.1, horizon=3.0)
    expected = {name: value.double().clone() for name, value in model.state_dict().items()}
    for iteration in range(7):
        model(torch.randn(2, 3, 4, 4))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        average.update(model)
        share = 0.1 + 0.9 * math.exp(-(1 + iteration) / 3.0)
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                expected[name] = (1 - share) * expected[name] + share * value.double()
    for name, value in average.model.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)
    assert average.model[1].num_batches_tracked == 7


def test_it_never_touches_the_model_and_needs_no_gradient() -> None:
    model = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    average = WeightAverage(model)
    average.update(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in average.model.parameters())
    assert not average.model.training
    assert model.training


def test_it_goes_on_where_it_stopped() -> None:
    model = small_model()
    one = WeightAverage(model, horizon=5.0)
    for _ in range(3):
        one.update(small_model())
    other = WeightAverage(small_model(), horizon=5.0)
    other.load_state_dict(one.state_dict())
    for average in (one, other):
        average.update(model)
    assert all(
        torch.equal(a, b)
        for a, b in zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    )
