"""Timing: the contenders take turns, so that whatever else the machine does hits all of them alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from .case import Contender


@dataclass(frozen=True)
class Plan:
    """How long to measure."""

    seconds: float  # for each contender of a row, about
    least: int  # rounds
    most: int


FULL = Plan(seconds=2.0, least=5, most=50)
QUICK = Plan(seconds=0.15, least=3, most=20)


@dataclass(frozen=True)
class Timing:
    """Milliseconds of a contender's rounds."""

    times: tuple[float, ...]

    @property
    def ms(self) -> float:
        """The median."""
        return statistics.median(self.times)

    @property
    def best_ms(self) -> float:
        """The shortest."""
        return min(self.times)


Clock = Callable[[Callable[[], Any]], float]


def cpu_clock(run: Callable[[], Any]) -> float:
    """Return the milliseconds of one call, its result thrown away after the clock has stopped."""
    start = time.perf_counter()
    result = run()
    taken = time.perf_counter() - start
    del result
    return taken * 1e3


_HEAD_START = 4_000_000  # clocks of the GPU, about two milliseconds


def cuda_clock(run: Callable[[], Any]) -> float:
    """Return the milliseconds that the GPU took for one call.

    The GPU sleeps at first, while Python launches: otherwise it would wait for the first kernel on the clock.
    """
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    torch.cuda._sleep(_HEAD_START)
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end)


def rounds_for(plan: Plan, ms: float) -> int:
    """Return how often to time what takes `ms` milliseconds; what alone takes longer than the plan is timed
    once."""
    seconds = max(ms, 1e-3) / 1e3
    least = plan.least if seconds < plan.seconds else 1
    return min(max(int(plan.seconds / seconds), least), plan.most)


def joins(turn: int, rounds: int, most: int) -> bool:
    """Return whether a contender of `rounds` rounds takes part in this turn out of `most`: its turns are spread
    evenly."""
    return turn * rounds // most != (turn + 1) * rounds // most


def interleave(
    contenders: Sequence[Contender],
    rounds: Mapping[str, int],
    probe: Callable[[], float] | None = None,
    clock: Clock = cpu_clock,
) -> tuple[dict[str, Timing], list[float]]:
    """Time contenders in turns, each as often as `rounds` says; return timings, and what the probe said at every
    turn."""
    most = max(rounds.values())
    times: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    probed: list[float] = []
    with _no_collection():
        for turn in range(most):
            if probe is not None:
                probed.append(probe())
            # Another one begins each turn: who follows whom decides what lies in the caches.
            for i in range(len(contenders)):
                contender = contenders[(turn + i) % len(contenders)]
                if joins(turn, rounds[contender.name], most):
                    contender.prepare()
                    times[contender.name].append(clock(contender.run))
    return {name: Timing(tuple(taken)) for name, taken in times.items()}, probed


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python's collector from running in the middle of a measurement."""
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
