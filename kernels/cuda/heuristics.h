// Every choice that depends on the size of the work, with its reason. Plain functions of numbers: checked where they
// stand.
#pragma once

#include <cstdint>

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

}  // namespace svm::cuda
