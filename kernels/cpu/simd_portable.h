// Four floats a register, written with the compiler's vector extension: runs on every machine (SSE2 or NEON come out of
// it).
#pragma once

#include <cstdint>
#include <cstring>

namespace svm::cpu::SVM_ISA {

constexpr int kWidth = 4;
constexpr int kScoreQueries = 2;  // 2 queries x 1 frame x 4 registers = 8 accumulators of 16 registers
constexpr int kScoreFrames = 1;
constexpr int kGatherQueries = 2;  // 2 queries x 4 vectors
constexpr int kGatherVectors = 4;

typedef float Vec __attribute__((vector_size(16)));
typedef int32_t Bits __attribute__((vector_size(16)));
using LaneMask = int;  // how many lanes are real

inline Vec zero() { return Vec{0, 0, 0, 0}; }
inline Vec broadcast(float x) { return Vec{x, x, x, x}; }
inline Vec load(const float* p) {
  Vec a;
  std::memcpy(&a, p, sizeof a);
  return a;
}
inline void store(float* p, Vec a) { std::memcpy(p, &a, sizeof a); }
inline Vec add(Vec a, Vec b) { return a + b; }
inline Vec sub(Vec a, Vec b) { return a - b; }
inline Vec mul(Vec a, Vec b) { return a * b; }
inline Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
inline Vec max(Vec a, Vec b) { return a > b ? a : b; }

inline LaneMask first_lanes(int n) { return n < 0 ? 0 : n > 4 ? 4 : n; }
inline Vec load(LaneMask m, const float* p) {
  if (m == 4) return load(p);
  Vec a = zero();
  for (int i = 0; i < m; ++i) a[i] = p[i];
  return a;
}
inline void store(LaneMask m, float* p, Vec a) {
  if (m == 4) return store(p, a);
  for (int i = 0; i < m; ++i) p[i] = a[i];
}
inline Vec select(LaneMask m, Vec a, Vec otherwise) {
  const Bits lane = {0, 1, 2, 3};
  return lane < Bits{m, m, m, m} ? a : otherwise;
}
// Into the L2 cache. Whoever calls it must be inlined as well: a function that only fetches has no effect in the
// compiler's eyes, and calls of it are dropped.
[[gnu::always_inline]] inline void prefetch(const void* p) { __builtin_prefetch(p, 0, 2); }

inline float reduce_add(Vec a) { return (a[0] + a[1]) + (a[2] + a[3]); }
inline float reduce_max(Vec a) {
  const float low = a[0] > a[1] ? a[0] : a[1], high = a[2] > a[3] ? a[2] : a[3];
  return low > high ? low : high;
}

inline Vec load_pairs(LaneMask m, const uint32_t* p) { return load(m, reinterpret_cast<const float*>(p)); }
inline Vec even_of_pairs(Vec pairs) { return (Vec)((Bits)pairs << 16); }
inline Vec odd_of_pairs(Vec pairs) {
  const int32_t high = static_cast<int32_t>(0xffff0000u);
  return (Vec)((Bits)pairs & Bits{high, high, high, high});
}
inline Vec load(const uint16_t* bf16) { return (Vec)(Bits{bf16[0], bf16[1], bf16[2], bf16[3]} << 16); }
// Round to nearest even; NaN stays NaN (quiet).
inline void store(uint16_t* bf16, Vec a) {
  for (int i = 0; i < kWidth; ++i) {
    uint32_t bits;
    const float x = a[i];
    std::memcpy(&bits, &x, sizeof bits);
    bf16[i] = x != x ? 0x7fc0 : static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
  }
}

// The last bits of a shifted number become an exponent: see exp2.h.
inline Vec power_of_two(Vec shifted) { return (Vec)((Bits)shifted << 23); }

// Rows and columns of a block of up to 16 x 16 change places: `rows` x `columns` are read, missing ones count as zero;
// `columns` rows of `lanes` elements are written. Moves 32-bit elements, whatever they hold.
inline void transpose16(const float* from, int64_t from_stride, int rows, int columns, float* to, int64_t to_stride,
                        int lanes) {
  for (int c = 0; c < columns; ++c)
    for (int r = 0; r < lanes; ++r) {
      uint32_t element = 0;
      if (r < rows) std::memcpy(&element, from + r * from_stride + c, sizeof element);
      std::memcpy(to + c * to_stride + r, &element, sizeof element);
    }
}

}  // namespace svm::cpu::SVM_ISA
