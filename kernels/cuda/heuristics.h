// Every choice that depends on the size of the work, with its reason. Plain functions of numbers: checked where they
// stand.
#pragma once

#include <cstdint>

#include "cuda/tile.h"
#include "svm/fp8.h"
#include "svm/ring.h"

namespace svm::cuda {

constexpr int kWarp = 32;
constexpr int kMaxThreads = 1024;

// memory_append: one block a unit, for the block then owns the unit's cursor and needs no word from another block.
//
// A unit of 14 x 14 tokens, 64 wide, bf16, is 25 kB of K and 25 kB of V to read and as much to write; a merge reads
// 100 kB and writes 50 kB more. To keep HBM busy a multiprocessor needs about 25 kB under way (25 GB/s x 1 us): 1024
// threads with 16 bytes of K and 16 of V each have 32 kB, and more do not fit at 64 registers. Up to one unit a
// multiprocessor the block is that large, for nothing else would fill it. Beyond, two blocks of half the size share a
// multiprocessor, so that one loads while the other starts or ends. Either way threads are shed until all of them do
// the same number of rounds.
constexpr int append_threads(int64_t units, int64_t packs, int64_t processors) {
  const int64_t most = units <= processors ? kMaxThreads : kMaxThreads / 2;
  const int64_t rounds = (packs + most - 1) / most;
  const int64_t threads = (packs + rounds - 1) / rounds;
  return static_cast<int>((threads + kWarp - 1) / kWarp * kWarp);
}

static_assert(append_threads(12, 196 * 8, 132) == 800);   // one stream of one window: two rounds
static_assert(append_threads(672, 196 * 8, 132) == 416);  // 56 windows: four rounds of smaller blocks
static_assert(append_threads(1, 1, 132) == kWarp);

// ---- attention
// --------------------------------------------------------------------------------------------------------
//
// What a tile of one frame (14 lines of 14 tokens, 64 wide, 16 bits; 50 kB of K and V) costs a multiprocessor of an
// H100, 132 of which share 3.35 TB/s at 1.755 GHz: 25.4 GB/s, 3470 clocks a frame.
//   tensor cores   28 tasks (14 columns, 14 rows) x 16 products of m16n8k16: 448, about 710 clocks        20 %
//   shared reads   28 tasks x 12 ldmatrix.x4 of 512 bytes, free of conflicts: 1344 clocks                 39 %
//   shared writes  50 kB: 392 clocks                                                                      11 %
//   ex2            28 x 8 a lane: 448 clocks                                                              13 %
//   issue          about 120 instructions a task and 110 a warp for loading: 4900, 1225 clocks            35 %
// All of it fits under the memory's time, and in the last round, when fewer multiprocessors share the memory, each can
// draw twice its share before it is the limit. 28 FLOP a byte: nothing here is worth doing twice to save arithmetic,
// and nothing may read a byte twice.
//
// A warp for each column, and for each line of a tile: 14 or 16 warps of 128 registers, which is one block a
// multiprocessor. kSide 14: windows of 14 x 14 tokens; 0: any up to 16.
SVM_HOST_DEVICE constexpr int attend_warps(int kSide) { return kSide == 14 ? 14 : 16; }
SVM_HOST_DEVICE constexpr int attend_threads(int kSide) { return kWarp * attend_warps(kSide); }

// The sums of both planes are D numbers a lane; beyond 64 of them a block does one plane, and two blocks read each
// tile, side by side, the second from L2.
SVM_HOST_DEVICE constexpr bool attend_both_planes(int dim) { return dim <= 64; }

constexpr bool attend_has_kernel(int64_t side, int64_t dim) {
  return side >= 1 && side <= kKeys && (dim == 32 || dim == 64 || dim == 96 || dim == 128);
}

struct AttendPlan {
  int rows, splits;  // a split is some rows of a unit's keys
  int group, lines;  // frames and lines of a tile
  int stages;
  int64_t stage_bytes;
  int decoded;  // of fp8: tiles of numbers
  int64_t decoded_bytes;
  int64_t shared_bytes;
  bool exists;
};

constexpr int kMostStages = 4;
constexpr int64_t kNotesBytes = 10240;  // of shared memory that a block has for other things than tiles, at most

// What a stage takes; with fp8 codes and exponents. Queries pass through it too.
constexpr int64_t attend_stage_bytes(int lines, int side, int dim, bool coded) {
  const int64_t codes = int64_t{2} * lines * side * dim + kKeys * static_cast<int64_t>(sizeof(SlotExponents));
  const int64_t keys = coded ? codes : 2 * tile_bytes(lines, side, dim), queries = tile_bytes(side, side, dim);
  const int64_t bytes = keys > queries ? keys : queries;
  return coded ? (bytes + kTileAlign - 1) / kTileAlign * kTileAlign : bytes;
}

// Most lines of a tile of which two stages fit, and one of numbers where they hold codes, beside the tiles of queries.
constexpr int attend_most_lines(int side, int dim, int query_tiles, int64_t room, bool coded) {
  const int64_t left = room - query_tiles * tile_bytes(side, side, dim);
  for (int lines = side == 14 ? 14 : kKeys; lines > 0; --lines) {
    const int64_t decoded = coded ? 2 * tile_bytes(lines, side, dim) : 0;
    if (2 * attend_stage_bytes(lines, side, dim, coded) + decoded <= left) return lines;
  }
  return 0;
}

// `units` times `planes` blocks at least. `shared`: memory that a block may have. `query_tiles`: 1, in a backward
// 2.
//
// Rows of a split: all, where the units fill the machine. A third of the multiprocessors can draw the whole bandwidth
// (see above), so only below that units are split, into as many splits of whole rows as give every multiprocessor at
// most one: 12 units on 132 make 84 blocks of two rows. A split of rows finishes the row plane of those rows; what it
// leaves of the column plane, one unit's output in fp32, is as much as one frame, and a second kernel, which adds the
// shares, costs about two microseconds. Where shared memory is short splits are made for its sake.
//
// Frames of a tile: as many as fill it with the rows of the split, so that every warp has a line to do.
//
// Stages: as many as fit, four at most. Three, two of them under way, hold 107 kB; the memory needs 25 kB (25 GB/s x 1
// us) a multiprocessor. The rest bridges the ends of units.
//
// A pool of fp8 (`coded`) halves what the memory's time is: 1740 clocks a frame of the example above. Making numbers of
// the codes costs 392 pairs of every lane, six instructions each, and 100 moves of 16 bytes: 700 clocks of issue more,
// 1940 in all, so that about 1.8 of the 2 are left. Tiles of numbers lie beside the stages: two, so that nobody waits
// for anybody with a third barrier, where three stages fit as well; else, and in a backward, one.
constexpr AttendPlan attend_plan(int64_t units, int side, int dim, int planes, int query_tiles, int64_t processors,
                                 int64_t shared, bool coded = false) {
  const int64_t room = shared - kNotesBytes;
  const int most = attend_most_lines(side, dim, query_tiles, room, coded);
  AttendPlan plan = {};
  if (2 * most < side) return plan;  // the queries pass through a stage too
  int rows = side < most ? side : most;
  if (3 * units * planes <= processors) {
    while (rows > 1 && units * planes * ((side + rows - 2) / (rows - 1)) <= processors) --rows;
  }
  plan.splits = (side + rows - 1) / rows;
  plan.rows = (side + plan.splits - 1) / plan.splits;
  plan.group = plan.splits == 1 ? 1 : most / plan.rows;
  plan.lines = plan.rows * plan.group;
  plan.stage_bytes = attend_stage_bytes(plan.lines, side, dim, coded);
  plan.decoded_bytes = coded ? 2 * tile_bytes(plan.lines, side, dim) : 0;
  const int64_t queries = query_tiles * tile_bytes(side, side, dim);
  const int64_t beside_two = room - queries - 2 * plan.decoded_bytes;
  const bool turns = query_tiles == 1 && beside_two >= 3 * plan.stage_bytes;
  plan.decoded = !coded ? 0 : turns ? 2 : 1;
  const int64_t stages = (room - queries - plan.decoded * plan.decoded_bytes) / plan.stage_bytes;
  plan.stages = static_cast<int>(stages < kMostStages ? stages : kMostStages);
  plan.shared_bytes = kNotesBytes + queries + plan.stages * plan.stage_bytes + plan.decoded * plan.decoded_bytes;
  plan.exists = true;
  return plan;
}

namespace attend_checks {

constexpr int64_t kH100 = 232448, kA100 = 166912, kAda = 101376;

constexpr bool is(const AttendPlan& plan, int splits, int rows, int group, int stages) {
  return plan.exists && plan.splits == splits && plan.rows == rows && plan.group == group && plan.stages == stages;
}

static_assert(is(attend_plan(336, 14, 64, 1, 1, 132, kH100), 1, 14, 1, 3));
static_assert(is(attend_plan(336, 14, 64, 1, 1, 108, kA100), 1, 14, 1, 2));
static_assert(is(attend_plan(336, 14, 64, 1, 1, 128, kAda), 2, 7, 1, 2));
static_assert(is(attend_plan(12, 14, 64, 1, 1, 132, kH100), 7, 2, 7, 3));  // 84 blocks, two rows of seven frames a tile
static_assert(is(attend_plan(44, 14, 64, 1, 1, 132, kH100), 3, 5, 2, 4));  // 132 blocks
static_assert(is(attend_plan(45, 14, 64, 1, 1, 132, kH100), 1, 14, 1, 3));
static_assert(is(attend_plan(336, 14, 128, 2, 1, 132, kH100), 2, 7, 1, 3));
static_assert(is(attend_plan(336, 16, 128, 2, 1, 132, kH100), 2, 8, 1, 2));
static_assert(is(attend_plan(336, 14, 64, 1, 2, 132, kH100), 1, 14, 1, 3));  // a backward
static_assert(is(attend_plan(1, 16, 32, 1, 1, 132, kH100), 16, 1, 16, 4));

constexpr bool holds(const AttendPlan& plan, int splits, int stages, int decoded) {
  return plan.exists && plan.splits == splits && plan.stages == stages && plan.decoded == decoded;
}

static_assert(holds(attend_plan(336, 14, 64, 1, 1, 132, kH100, true), 1, 3, 2));
static_assert(holds(attend_plan(336, 14, 64, 1, 2, 132, kH100, true), 1, 4, 1));
static_assert(holds(attend_plan(336, 14, 64, 1, 1, 108, kA100, true), 1, 2, 1));
static_assert(holds(attend_plan(12, 14, 64, 1, 1, 132, kH100, true), 7, 3, 2));

}  // namespace attend_checks

// Where the shares of several blocks are added: a warp a token.
SVM_HOST_DEVICE constexpr int join_threads() { return 256; }
// nms: a warp a box to sort, 64 boxes of a group at a time to compare.
SVM_HOST_DEVICE constexpr int nms_threads() { return 256; }
// Any sizes, a warp a query: eight of one unit share its keys in L1. One block a
// multiprocessor must fit, for the widest heads take more than 128 registers.
SVM_HOST_DEVICE constexpr int any_threads() { return 256; }

}  // namespace svm::cuda
