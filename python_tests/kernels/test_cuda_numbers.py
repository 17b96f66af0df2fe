"""The CUDA kernels' plain arithmetic, run by the CPU over all of its range: how work is cut, where tokens lie in shared
memory, in which order frames are read."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What shared memory is too short for, so that it is left to the kernel of any sizes:
# (whether the pool is of fp8, shared memory, query tiles: 2 in a backward, head dim) -> smallest window side.
H100, A100, ADA = 232448, 166912, 101376
LEFT_TO_ANY = {
    (0, H100, 2, 128): 15,
    (0, A100, 1, 128): 14, (0, A100, 2, 96): 14, (0, A100, 2, 128): 12,
    (0, ADA, 1, 64): 16, (0, ADA, 1, 96): 13, (0, ADA, 1, 128): 11,
    (0, ADA, 2, 64): 14, (0, ADA, 2, 96): 11, (0, ADA, 2, 128): 10,
    (1, H100, 1, 128): 15, (1, H100, 2, 96): 16, (1, H100, 2, 128): 14,
    (1, A100, 1, 96): 14, (1, A100, 1, 128): 12, (1, A100, 2, 64): 16, (1, A100, 2, 96): 13, (1, A100, 2, 128): 11,
    (1, ADA, 1, 64): 14, (1, ADA, 1, 96): 11, (1, ADA, 1, 128): 10,
    (1, ADA, 2, 64): 12, (1, ADA, 2, 96): 10, (1, ADA, 2, 128): 8,
}  # fmt: skip
START = """
#include <cstdio>
#include <cstdlib>
#include <set>
#include "cuda/heuristics.h"
#include "cuda/pass.h"
using namespace svm;
using namespace svm::cuda;
#define HOLDS(condition) if (!(condition)) std::printf("%s", #condition), std::printf(WHERE), std::exit(1)
long checked = 0;
"""

# Whatever is asked for: all rows are someone's, tiles have a line for no more warps than there are, two stages fit, and
# the queries pass through one.
PLANS = """
#define WHERE ": %ld units, %d x %d, dim %d, %d query tiles, %ld processors, %ld bytes", units, side, side, dim, \\
              query_tiles, processors, shared
int main() {
  for (long shared : {232448L, 166912L, 101376L})
  for (long processors : {1L, 36L, 84L, 108L, 132L, 142L})
  for (int dim : {32, 64, 96, 128})
  for (int query_tiles : {1, 2})
  for (bool coded : {false, true})
  for (int side = 1; side <= 16; ++side)
  for (long units = 1; units < 400; units += units < 150 ? 1 : 83) {
    const int planes = attend_both_planes(dim) ? 1 : 2;
    const AttendPlan plan = attend_plan(units, side, dim, planes, query_tiles, processors, shared, coded);
    ++checked;
    if (!plan.exists) { std::printf("none %d %ld %d %d %d\\n", coded, shared, query_tiles, dim, side); continue; }
    const int warps = attend_warps(side == 14 && dim == 64 ? 14 : 0);
    HOLDS(plan.splits * plan.rows >= side && (plan.splits - 1) * plan.rows < side);
    HOLDS(plan.group >= 1 && plan.lines == plan.rows * plan.group && plan.lines <= warps && plan.lines <= kKeys);
    HOLDS(plan.splits > 1 || (plan.rows == side && plan.group == 1));
    HOLDS(plan.stages >= 2 && plan.stages <= kMostStages);
    const long keys = 2 * tile_bytes(plan.lines, side, dim), queries = tile_bytes(side, side, dim);
    const long codes = 2L * plan.lines * side * dim + 8 * plan.lines, numbers = plan.decoded * plan.decoded_bytes;
    HOLDS(plan.stage_bytes >= (coded ? codes : keys) && plan.stage_bytes >= queries && plan.stage_bytes % 64 == 0);
    HOLDS(coded ? plan.decoded_bytes == keys && (plan.decoded == 1 || plan.decoded == 2) : numbers == 0);
    HOLDS(plan.shared_bytes == kNotesBytes + plan.stages * plan.stage_bytes + query_tiles * queries + numbers);
    HOLDS(plan.shared_bytes <= shared);
    // Where one block is enough for a unit and the machine is full without splits, there are none.
    HOLDS(3 * units * planes <= processors || plan.splits <= 2);
    HOLDS(plan.splits <= 2 || units * planes * plan.splits <= processors);
  }
  std::printf("checked %ld\\n", checked);
}
"""

# Every chunk has a place of its own, ldmatrix and the exchange meet no conflict, and the way by constants leads there.
LAYOUT = """
#define WHERE ": side %d, dim %d", side, kDim
template <int kDim>
void check(int side) {
  using Layout = TokenLayout<kDim>;
  const int places = side * pitch(side);
  HOLDS(pitch(side) % 2 == 1 && pitch(side) >= side);
  std::set<int> bytes, numbers;
  for (int token = 0; token < places; ++token) {
    for (int chunk = 0; chunk < Layout::kChunks; ++chunk) {
      const int place = Layout::place(token, chunk);
      HOLDS(place % kChunkBytes == 0 && place / Layout::kBytes == token && bytes.insert(place).second);
      HOLDS(static_cast<int>(Layout::step_from(Layout::place(token, chunk % 2), chunk / 2)) == place);
      // A tile may begin at any multiple of 64 bytes.
      const int later = 64 + Layout::place(token, chunk % 2);
      HOLDS(kDim % 64 == 0 || static_cast<int>(Layout::step_from(later, chunk / 2)) == 64 + place);
    }
    for (int piece = 0; piece < kDim / 8; ++piece) {
      for (int two = 0; two < 8; two += 2) {
        const int at = exchange_from(exchange_first(token, two, kDim), piece);
        HOLDS(at / kDim == token && at % 2 == 0 && numbers.insert(at).second);
      }
    }
  }
  HOLDS(tile_checks::both_planes_are_free<kDim>(side));
  HOLDS(static_cast<long>(numbers.size()) * 2 == places * kDim);
  HOLDS(4L * places * kDim == 2 * tile_bytes(side, side, kDim));
  ++checked;
}
int main() {
  for (int side = 1; side <= 16; ++side) check<32>(side), check<64>(side), check<96>(side), check<128>(side);
  for (int lane = 0; lane < 32; ++lane) {
    if (key_of_lane(lane) > 15 || value_of_lane(lane) > 15) return 1;
  }
  std::printf("checked %ld\\n", checked);
}
"""

# Every frame is attended once, and a merge finds its two frames, at every cursor, also when a frame comes twice.
PASSES = """
#define WHERE ": capacity %ld, count %ld, evict %d, %d frames a tile", capacity, count, static_cast<int>(evict), group
void check(long capacity, long count, Evict evict, int group) {
  HOLDS(pass_checks::is_whole(count, capacity, evict, group));
  const RingCursor cursor = {count, count - 1};
  const Pass again = pass_with(plan_append(cursor, count - 1, capacity, evict), capacity);  // the same frame once more
  if (count > 0) {
    std::multiset<int> seen;
    for (int at = 0; at < tiles(again, group) * group; ++at) {
      const Place place = place_of(again, at, group);
      if (is_attended(place)) seen.insert(place.frame);
      HOLDS((place.origin == Origin::kNew) == (at == 0) && place.origin != Origin::kMerged);
    }
    HOLDS(static_cast<long>(seen.size()) == held_frames(count, capacity));
    HOLDS(seen.size() == std::set<int>(seen.begin(), seen.end()).size() && *seen.rbegin() < capacity);
  }
  const Pass alone = pass_over(0, held_frames(count, capacity));
  HOLDS(places(alone, group) == held_frames(count, capacity));
  ++checked;
}
int main() {
  for (long capacity = 1; capacity <= 33; capacity += capacity < 9 ? 1 : 8)
  for (long count = 0; count <= 3 * capacity; ++count)
  for (int evict = 0; evict < 3; ++evict)
  for (int group = 1; group <= 16; ++group) check(capacity, count, static_cast<Evict>(evict), group);
  std::printf("checked %ld\\n", checked);
}
"""


def run(program: str, folder: Path) -> list[str]:
    """What the program printed; it ends with 1 at the first thing that does not hold."""
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    (folder / "program.cpp").write_text(START + program)
    flags = [
        "-std=c++17",
        "-O1",
        "-fsanitize=undefined",
        "-fno-sanitize-recover=all",
    ]
    include = [f"-I{ROOT / 'kernels'}", f"-I{ROOT / 'kernels/include'}"]
    subprocess.run([compiler, *flags, *include, "program.cpp", "-o", "program"], check=True, cwd=folder)
    done = subprocess.run([str(folder / "program")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout.splitlines()[-1] + done.stderr
    return done.stdout.splitlines()


def test_work_is_cut_without_a_gap(tmp_path: Path) -> None:
    *without, last = run(PLANS, tmp_path)
    assert int(last.split()[1]) > 300_000
    found: dict[tuple[int, ...], list[int]] = {}
    for *case, side in sorted([*map(int, line.split()[1:])] for line in set(without)):
        found.setdefault(tuple(case), []).append(side)
    assert found == {case: list(range(first, 17)) for case, first in LEFT_TO_ANY.items()}


def test_every_token_has_its_place_in_shared_memory(tmp_path: Path) -> None:
    assert run(LAYOUT, tmp_path) == ["checked 64"]


def test_every_frame_is_read_once(tmp_path: Path) -> None:
    assert int(run(PASSES, tmp_path)[-1].split()[1]) > 10_000
