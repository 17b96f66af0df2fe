"""Who is timed when, and how often."""

from __future__ import annotations

import gc
import time

import pytest

from svm_ext.bench.case import Contender
from svm_ext.bench.measure import Plan, Timing, cpu_clock, interleave, joins, rounds_for

PLAN = Plan(seconds=1.0, least=3, most=20)


@pytest.mark.parametrize(
    ("ms", "rounds"),
    [(1e-4, 20), (1, 20), (100, 10), (500, 3), (900, 3), (1500, 1), (60_000, 1)],
    ids=["tiny", "most", "fits", "least", "nearly", "long", "endless"],
)
def test_rounds(ms, rounds):
    assert rounds_for(PLAN, ms) == rounds


@pytest.mark.parametrize(("rounds", "most"), [(1, 1), (1, 7), (3, 7), (5, 7), (7, 7), (4, 50)])
def test_turns_are_spread_evenly(rounds, most):
    turns = [turn for turn in range(most) if joins(turn, rounds, most)]
    assert len(turns) == rounds
    gaps = [b - a for a, b in zip(turns, turns[1:], strict=False)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def contest(rounds: dict[str, int], probe=None):
    """Run contenders that note when they were prepared and run, by a clock that returns a running number."""
    log: list[str] = []
    contenders = [
        Contender(name, lambda name=name: log.append(name), prepare=lambda name=name: log.append(f"prepare {name}"))
        for name in rounds
    ]
    number = iter(range(1000))

    def clock(run):
        run()
        return float(next(number))

    timings, probed = interleave(contenders, rounds, probe, clock)
    return log, timings, probed


def test_contenders_take_turns_and_begin_in_turn():
    log, timings, _ = contest({"a": 3, "b": 3, "c": 3})
    assert [entry for entry in log if " " not in entry] == list("abcbcacab")
    assert {len(timing.times) for timing in timings.values()} == {3}


def test_a_slow_contender_is_timed_all_along():
    log, timings, _ = contest({"fast": 6, "slow": 2})
    runs = [entry for entry in log if " " not in entry]
    assert [len(timings[name].times) for name in ("fast", "slow")] == [6, 2]
    assert runs.index("slow") < len(runs) / 2 < len(runs) - runs[::-1].index("slow")


def test_every_run_is_prepared():
    log, _, _ = contest({"a": 2, "b": 2})
    assert log[::2] == [f"prepare {name}" for name in log[1::2]]


def test_the_probe_speaks_every_turn():
    answers = iter([3.0, 5.0])
    _, _, probed = contest({"a": 2, "b": 1}, probe=lambda: next(answers))
    assert probed == [3.0, 5.0]


def test_the_collector_rests_and_comes_back():
    during = []
    interleave([Contender("a", lambda: during.append(gc.isenabled()))], {"a": 2})
    assert during == [False, False]
    assert gc.isenabled()


def test_the_collector_comes_back_after_an_error():
    def fail() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        interleave([Contender("a", fail)], {"a": 1})
    assert gc.isenabled()


def test_the_clock_counts_milliseconds():
    assert 10 <= cpu_clock(lambda: time.sleep(0.01)) < 1000


def test_median_and_best():
    timing = Timing((4.0, 1.0, 9.0))
    assert (timing.ms, timing.best_ms) == (4.0, 1.0)
