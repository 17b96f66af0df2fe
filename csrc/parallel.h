// Work on units, spread over torch's threads.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace svm {

// Waking the other threads costs several microseconds; below this much work one thread is faster.
constexpr double kSerialOperations = 1e5;

// Each thread works through its own contiguous share first, so that a unit's memory stays near one core from frame to
// frame, and then helps the others: units differ in padding and in frames held, and cores in what else they do.
template <class Work>
void for_units(int64_t units, double operations_a_unit, const Work& work) {
  constexpr int64_t kMaxThreads = 128;
  constexpr int64_t kPieces = 32;  // that a share is taken in
  const int64_t threads = std::min<int64_t>({units, torch::stable::get_num_threads(), kMaxThreads});
  if (threads < 2 || static_cast<double>(units) * operations_a_unit < kSerialOperations) {
    if (units > 0) work(int64_t{0}, units);
    return;
  }
  struct alignas(64) Share {
    std::atomic<int64_t> next;
    int64_t end;
  };
  Share shares[kMaxThreads];
  for (int64_t i = 0; i < threads; ++i) {
    shares[i].next.store(units * i / threads, std::memory_order_relaxed);
    shares[i].end = units * (i + 1) / threads;
  }
  const int64_t piece = std::max<int64_t>(1, units / (threads * kPieces));
  torch::stable::parallel_for(0, threads, 1, [&](int64_t first, int64_t) {
    for (int64_t i = 0; i < threads; ++i) {
      Share& share = shares[(first + i) % threads];
      for (;;) {
        const int64_t begin = share.next.fetch_add(piece, std::memory_order_relaxed);
        if (begin >= share.end) break;
        work(begin, std::min(begin + piece, share.end));
      }
    }
  });
}

}  // namespace svm
