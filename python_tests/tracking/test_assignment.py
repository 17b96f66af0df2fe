"""The assignment against SciPy on the square problem of rows + columns, and against trying everything."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from svm_ext.tracking.byte_tracker import _native
from track_oracle import oracle

SHAPES = [(1, 1), (1, 7), (7, 1), (5, 5), (12, 8), (8, 12), (40, 40), (90, 60)]


def assign(costs: np.ndarray, limit: float) -> np.ndarray:
    return _native().assign(np.ascontiguousarray(costs, dtype=np.float64), limit)


def total(costs: np.ndarray, columns: np.ndarray, limit: float) -> float:
    """What an assignment costs, rows and columns that stay alone at half the limit each."""
    taken = [column for column in columns if column >= 0]
    assert len(set(taken)) == len(taken), "a column was given twice"
    paired = sum(costs[row, column] for row, column in enumerate(columns) if column >= 0)
    return paired + limit / 2 * (sum(costs.shape) - 2 * len(taken))


def square(costs: np.ndarray, limit: float) -> np.ndarray:
    """SciPy's answer."""
    optimize = oracle("scipy.optimize")
    rows, columns = costs.shape
    table = np.full((rows + columns,) * 2, limit / 2)
    table[rows:, columns:] = 0
    table[:rows, :columns] = costs
    chosen = optimize.linear_sum_assignment(table)[1][:rows]
    return np.where(chosen < columns, chosen, -1)


def every_way(rows: int, columns: int) -> list[np.ndarray]:
    """All assignments of a small problem."""
    choices = itertools.product(range(-1, columns), repeat=rows)
    return [np.array(way) for way in choices if len({c for c in way if c >= 0}) == sum(c >= 0 for c in way)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("limit", [0.05, 0.5, 0.9, 2.0])
def test_equals_scipy(shape, limit):
    rng = np.random.default_rng(sum(shape))
    for _ in range(10):
        costs = rng.random(shape)
        found = assign(costs, limit)
        assert np.array_equal(found, square(costs, limit))  # random costs have one best answer


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("share", [0.02, 0.1, 0.4])
def test_equals_scipy_where_few_pairs_are_possible(shape, share):
    rng = np.random.default_rng(sum(shape))
    for _ in range(10):
        costs = np.where(rng.random(shape) < share, rng.random(shape) * 0.9, rng.choice([0.95, 1.0, 1e6], shape))
        assert np.array_equal(assign(costs, 0.9), square(costs, 0.9))


@pytest.mark.parametrize("shape", [(4, 4), (6, 9), (30, 30), (60, 45)], ids=str)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_ties_cost_as_little_as_scipys(shape, steps):
    """Costs on a grid: many answers are best, all of them at one price."""
    rng = np.random.default_rng(steps)
    for _ in range(20):
        costs = rng.integers(0, steps + 1, shape) / steps
        for limit in (0.3, 0.5, 1.0, 1.2):
            price = total(costs, assign(costs, limit), limit)
            assert price == pytest.approx(total(costs, square(costs, limit), limit), abs=1e-9)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3), (3, 3), (4, 2)])
def test_no_other_way_is_cheaper(rows, columns):
    rng = np.random.default_rng(rows)
    ways = every_way(rows, columns)
    for _ in range(30):
        costs, limit = rng.random((rows, columns)) * rng.choice([1, 2]), rng.uniform(0.1, 1.5)
        best = min(total(costs, way, limit) for way in ways)
        assert total(costs, assign(costs, limit), limit) == pytest.approx(best, abs=1e-12)


def test_solving_first_and_dropping_afterwards_is_another_problem():
    costs = np.array([[0.2, 0.85], [0.3, 1.0]])
    assert assign(costs, 0.7).tolist() == [0, -1]  # without the limit: [1, 0], of which only the second pair would stay


def test_negative_costs():
    """A score above 1 can make a pair worth more than nothing costs."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        costs = rng.normal(0, 1, (9, 7))
        assert np.array_equal(assign(costs, 0.5), square(costs, 0.5))


def test_pairs_at_or_beyond_the_limit_are_never_made():
    assert assign(np.array([[0.5, 0.5]]), 0.5).tolist() == [-1]
    assert assign(np.array([[1e6, np.inf, np.nan]]), 0.9).tolist() == [-1]
    assert assign(np.array([[np.nan, 0.1], [0.2, np.nan]]), 0.9).tolist() == [1, 0]


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (4, 0)])
def test_nothing_to_pair(shape):
    assert assign(np.zeros(shape), 1.0).tolist() == [-1] * shape[0]


def test_equal_costs_give_equal_answers_every_time():
    costs = np.full((20, 20), 0.5)
    found = assign(costs, 0.9)
    assert sorted(found) == list(range(20))
    assert all(np.array_equal(found, assign(costs, 0.9)) for _ in range(5))


def test_long_chains():
    """Each new row pushes all before it one column on: the longest augmenting path there is."""
    count = 300
    costs = np.full((count, count + 1), 1.0)
    for row in range(count):
        costs[row, row] = 0.1
        costs[row, row + 1] = 0.2
    costs = np.concatenate([costs, np.where(np.arange(count + 1) == 0, 0.1, 1.0)[None]])  # wants the first column, too
    assert np.array_equal(assign(costs, 0.9), square(costs, 0.9))


def test_a_crowd_of_two_hundred_is_no_problem():
    """All overlap all, and each knows its own place best: a few milliseconds, not seconds."""
    rng = np.random.default_rng(0)
    place = rng.uniform(0, 30, (200, 2))
    moved = place + rng.normal(0, 1, place.shape)
    costs = np.linalg.norm(place[:, None] - moved[None], axis=-1) / 60
    times = []
    for _ in range(5):
        start = time.process_time()
        found = assign(costs, 0.9)
        times.append(time.process_time() - start)
    assert np.array_equal(found, square(costs, 0.9))
    assert min(times) < 0.1


def test_costs_must_be_a_matrix():
    with pytest.raises(ValueError, match=r"costs: expected shape \[rows, columns\]"):
        assign(np.zeros(3), 1.0)
