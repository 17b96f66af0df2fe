// How many multiply-adds a core does when nothing else is asked of it: the ceiling that the benchmarks quote shares of.
#pragma once

#include <cstdint>

namespace svm::cpu::SVM_ISA {

constexpr int kChains = 10;  // covers the latency of the multiply-add (4 to 5 cycles) on two units

template <class Format>
inline double run_multiply_adds(int64_t rounds) {
  // Read through volatile, so that the compiler cannot know the values.
  volatile float start = 0.5f;
  const Vec factor = broadcast(start), addend = broadcast(start);
  Vec sum[kChains];
#pragma GCC unroll 16
  for (int i = 0; i < kChains; ++i) sum[i] = broadcast(start);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) sum[i] = multiply_add<Format>(factor, addend, sum[i]);
  }
  Vec total = sum[0];
#pragma GCC unroll 16
  for (int i = 1; i < kChains; ++i) total = add(total, sum[i]);
  start = reduce_add(total);
  return 2.0 * kWidth * (Format::kDot ? 2 : 1) * kChains * static_cast<double>(rounds);
}

}  // namespace svm::cpu::SVM_ISA
