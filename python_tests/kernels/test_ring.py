"""The ring's arithmetic, which the CPU and the CUDA kernels share, against lists; and which frames a clip sees."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MERGE, FIFO, CLEAR = 0, 1, 2  # svm/ring.h
FIRST_STEP = 2**40  # steps are no 32-bit numbers
CAPACITIES = range(1, 7)

# Every frame is appended twice, as under activation checkpointing. The plans are constant expressions, too.
PROGRAM = """
#include <cstdio>
#include "svm/params.h"
#include "svm/ring.h"
using namespace svm;
static_assert(plan_append({0, -1}, 5, 2, Evict::kMerge).slot == 0);
static_assert(held_frames(9, 4) == 4 && held_frames(3, 4) == 3);

void rings(long capacity, int evict, long first_step) {
  RingCursor cursor = {0, -1};
  for (long push = 0; push < 3 * capacity + 1; ++push) {
    for (int again = 0; again < 2; ++again) {
      const AppendPlan plan = plan_append(cursor, first_step + push, capacity, static_cast<Evict>(evict));
      cursor = plan.after;
      std::printf("ring %ld %d %ld %ld %ld %ld %ld\\n", capacity, evict, (long)plan.slot, (long)plan.merge_slot,
                  (long)cursor.count, (long)cursor.mark, (long)held_frames(cursor.count, capacity));
    }
  }
}

int main() {
  for (long capacity = 1; capacity < 7; ++capacity) {
    for (int evict = 0; evict < 3; ++evict) rings(capacity, evict, FIRST_STEP);
    for (long t = 0; t < 3 * capacity; ++t) {
      std::printf("clip %ld %ld %ld %ld\\n", capacity, t, (long)first_frame(t, capacity, Evict::kFifo),
                  (long)first_frame(t, capacity, Evict::kClear));
    }
  }
}
"""


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[list[int]]]:
    """What the C++ program printed, by the words that a line begins with."""
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    folder = tmp_path_factory.mktemp("ring")
    source, program = folder / "ring.cpp", folder / "ring"
    source.write_text(PROGRAM)
    flags = ["-std=c++17", "-O1", "-Wall", "-Werror", "-fsanitize=undefined", "-fno-sanitize-recover=all"]
    include, first = f"-I{ROOT / 'kernels/include'}", f"-DFIRST_STEP={FIRST_STEP}L"
    subprocess.run([compiler, *flags, include, first, str(source), "-o", str(program)], check=True)
    printed = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout.splitlines()

    def beginning(*words: object) -> list[list[int]]:
        start = " ".join(map(str, words)) + " "
        found = [[int(n) for n in line[len(start) :].split()] for line in printed if line.startswith(start)]
        assert found
        return found

    return beginning


def remember(frames: list[dict[int, float]], frame: int, capacity: int, evict: int) -> None:
    """One frame into a list, oldest first; a slot is told as the shares of the frames that are in it."""
    if len(frames) == capacity:
        if evict == CLEAR:
            frames.clear()
        else:
            oldest = frames.pop(0)
            if evict == MERGE and frames:
                frames[0] = mean(frames[0], oldest)
    frames.append({frame: 1.0})


def mean(a: dict[int, float], b: dict[int, float]) -> dict[int, float]:
    return {frame: (a.get(frame, 0.0) + b.get(frame, 0.0)) / 2 for frame in a | b}


@pytest.mark.parametrize("evict", [MERGE, FIFO, CLEAR], ids=["merge", "fifo", "clear"])
@pytest.mark.parametrize("capacity", CAPACITIES)
def test_ring_equals_lists(lines, capacity, evict):
    """At every cursor from 0 to 3T the slots hold what a list would, also when every frame is appended twice."""
    plans = lines("ring", capacity, evict)
    assert len(plans) == 2 * (3 * capacity + 1)
    slots: list[dict[int, float]] = [{} for _ in range(capacity)]
    expected: list[dict[int, float]] = []
    for i, (slot, merge_slot, _, mark, held) in enumerate(plans):
        frame, again = divmod(i, 2)
        if merge_slot >= 0:
            slots[merge_slot] = mean(slots[merge_slot], slots[slot])
        slots[slot] = {frame: 1.0}
        if not again:
            remember(expected, frame, capacity, evict)
        assert mark == FIRST_STEP + frame
        assert held == len(expected)
        assert sorted(map(sorted, slots[:held])) == sorted(map(sorted, expected))  # the order does not matter
        assert all(shares in slots[:held] for shares in expected)


@pytest.mark.parametrize("evict", [MERGE, FIFO, CLEAR], ids=["merge", "fifo", "clear"])
@pytest.mark.parametrize("capacity", CAPACITIES)
def test_second_append_of_a_step_changes_nothing_else(lines, capacity, evict):
    """It goes to the slot of the first, merges nothing and leaves the cursor as it was."""
    plans = lines("ring", capacity, evict)
    for first, second in zip(plans[::2], plans[1::2], strict=True):
        assert second == [first[0], -1, *first[2:]]


@pytest.mark.parametrize("capacity", CAPACITIES)
def test_clip_sees_what_a_memory_would_hold(lines, capacity):
    for t, fifo, clear in lines("clip", capacity):
        for evict, first in ((FIFO, fifo), (CLEAR, clear)):
            frames: list[dict[int, float]] = []
            for frame in range(t + 1):
                remember(frames, frame, capacity, evict)
            assert [next(iter(shares)) for shares in frames] == list(range(first, t + 1))
