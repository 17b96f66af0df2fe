"""A row is measured only after all of its contenders gave the right result.

Some units are computed by the reference in fp64; on them every contender must be about as near to the truth as plain
torch in its own type is. On all units the contenders must agree with each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .case import Case, Contender

_SAMPLED = 4  # rows of a case, its first and last among them
_FACTOR = 3  # how much further from the truth than plain torch in the same type: a check, not a test of last bits
_ROUNDING = 16  # last bits of the largest number that are left to the order of sums


class WrongResultError(ValueError):
    """A contender computed something else; nothing is measured."""


@dataclass(frozen=True)
class Limits:
    """What the contenders are held to."""

    rows: Tensor  # the sampled ones
    truth: Tensor  # in fp64
    allowed: float


def limits(case: Case) -> Limits:
    """Compute the sampled rows by the reference; to be called before a contender changes the memory."""
    last = case.count - 1
    rows = torch.tensor(sorted({round(i * last / max(1, _SAMPLED - 1)) for i in range(_SAMPLED)}))
    if case.op == "nms":
        rows = torch.arange(case.count)  # a mask is cheap, and one box says nothing of the others
    truth, plain = case.expected(rows)
    rounding = _ROUNDING * torch.finfo(case.dtype).eps * truth.abs().max().item()
    allowed = _FACTOR * (plain.double() - truth).abs().max().item() + rounding
    return Limits(rows, truth, allowed)


def check(case: Case, call: Callable[[Contender], Any]) -> float:
    """Check all contenders, run by `call`; return our largest error on the sampled rows, or raise one line."""
    held = limits(case)
    all_of_ours, our_error = None, 0.0
    for contender in case.contenders:
        found = call(contender)
        if contender.seen is None:
            continue
        seen = contender.seen(found)
        error = _distance(seen[held.rows].double(), held.truth)
        _require(contender.name, error, held.allowed, "the reference")
        if all_of_ours is None:
            all_of_ours, our_error = seen, error
        else:
            _require(contender.name, _distance(seen, all_of_ours), 2 * held.allowed, case.ours.name)
    return our_error


def _distance(a: Tensor, b: Tensor) -> float:
    """Return the largest difference; NaN is infinitely far from everything."""
    if a.shape != b.shape:
        raise WrongResultError(f"expected a result of shape {list(b.shape)}, got {list(a.shape)}")
    error = (a - b).abs().max().item()
    return math.inf if math.isnan(error) else error


def _require(name: str, error: float, allowed: float, other: str) -> None:
    if error > allowed:
        raise WrongResultError(f"{name}: {error:.2g} away from {other}, allowed {allowed:.2g}; it is not measured")
