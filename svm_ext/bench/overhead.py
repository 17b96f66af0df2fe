"""What a call costs before it computes anything: the ops on tensors of a few numbers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .. import ops
from ..ops import _check
from . import inputs
from .case import Shape

_TINY = Shape(units=1, frames=1, side=1, dim=2)  # one token: what is computed with it hardly counts


@dataclass(frozen=True)
class Overhead:
    """Microseconds of a call, median of many batches: of the op in `torch.ops.svm_ext`, and of the public
    function, which also chooses the back end and looks after autograd and autocast."""

    op: str
    op_us: float
    public_us: float | None  # None for a backward, which autograd calls


Call = Callable[[], Any]


def measure(calls: int = 200, batches: int = 40) -> list[Overhead]:
    """Measure all ops; they take turns, a batch of calls each."""
    pairs = _calls()
    there = {(name, i): call for name, pair in pairs.items() for i, call in enumerate(pair) if call is not None}
    taken: dict[tuple[str, int], list[float]] = {key: [] for key in there}
    for batch in range(batches + 1):
        for (name, which), call in there.items():
            us = _microseconds(call, calls, bare=which == 0)
            if batch:  # the first one warms up
                taken[name, which].append(us)
    median = {key: statistics.median(times) for key, times in taken.items()}
    return [Overhead(name, median[name, 0], median.get((name, 1))) for name in pairs]


def _microseconds(call: Call, calls: int, *, bare: bool) -> float:
    """Time a batch; bare: without autograd's layer, which is Python and which the public functions pass by where
    they can."""
    with torch.inference_mode(bare):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        return (time.perf_counter() - start) / calls * 1e6


def _calls() -> dict[str, tuple[Call, Call | None]]:
    """Return for each op a call of the op itself and one of its public function."""
    return _frame_calls() | _clip_calls() | _box_calls()


def _frame_calls() -> dict[str, tuple[Call, Call | None]]:
    raw, memory = torch.ops.svm_ext, inputs.memory(_TINY)
    q, k, v = inputs.frame(_TINY)
    scale, merge, nothing = _TINY.dim**-0.5, _check.EVICTIONS["merge"], (None, None, None, None)
    append = (*memory.pools, k, v, memory.step)
    attend = (q, *memory.pools, *nothing, scale)
    saved = raw.memory_attend.default(*attend, True)
    step = (*memory.pools, q, k, v, memory.step)
    return {
        "memory_append_": (
            lambda: raw.memory_append_.default(*append, None, None, merge),
            lambda: ops.memory_append_(*append),
        ),
        "memory_attend": (
            lambda: raw.memory_attend.default(*attend, False),
            lambda: ops.memory_attend(q, *memory.pools),
        ),
        "memory_attend_backward": (
            lambda: raw.memory_attend_backward.default(q, *attend[:-1], *saved, scale),
            None,
        ),
        "stream_step_": (
            lambda: raw.stream_step_.default(*step, *nothing, scale, merge),
            lambda: ops.stream_step_(*step),
        ),
    }


def _clip_calls() -> dict[str, tuple[Call, Call | None]]:
    raw = torch.ops.svm_ext
    q, k, v = (x.detach() for x in inputs.clip(_TINY))
    nothing, options = (None, None, None), (_TINY.dim**-0.5, 1, _check.EVICTIONS["clear"])
    saved = raw.clip_attend.default(q, k, v, *nothing, *options, True)
    return {
        "clip_attend": (
            lambda: raw.clip_attend.default(q, k, v, *nothing, *options, False),
            lambda: ops.clip_attend(q, k, v, memory_frames=1),
        ),
        "clip_attend_backward": (
            lambda: raw.clip_attend_backward.default(q, q, k, v, *nothing, *saved, *options),
            None,
        ),
    }


def _box_calls() -> dict[str, tuple[Call, Call | None]]:
    boxes, scores, groups = torch.rand(4, 4), torch.rand(4), torch.zeros(4, dtype=torch.int64)
    raw = torch.ops.svm_ext
    return {
        "nms_mask": (
            lambda: raw.nms_mask.default(boxes, scores, groups, 0.7),
            lambda: ops.nms_mask(boxes, scores, groups),
        )
    }
