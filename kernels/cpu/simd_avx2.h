// Eight floats a register: AVX2 with FMA.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace svm::cpu::SVM_ISA {

constexpr int kWidth = 8;
constexpr int kScoreQueries = 3;  // 3 queries x 2 frames x 2 registers = 12 accumulators of 16 registers
constexpr int kScoreFrames = 2;
constexpr int kGatherQueries = 3;  // 3 queries x 4 vectors
constexpr int kGatherVectors = 4;

using Vec = __m256;
using LaneMask = __m256i;

inline Vec zero() { return _mm256_setzero_ps(); }
inline Vec broadcast(float x) { return _mm256_set1_ps(x); }
inline Vec load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, Vec a) { _mm256_storeu_ps(p, a); }
inline Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
inline Vec sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
inline Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
inline Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }

inline LaneMask first_lanes(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0));
}
inline Vec load(LaneMask m, const float* p) { return _mm256_maskload_ps(p, m); }
inline void store(LaneMask m, float* p, Vec a) { _mm256_maskstore_ps(p, m, a); }
inline Vec select(LaneMask m, Vec a, Vec otherwise) { return _mm256_blendv_ps(otherwise, a, _mm256_castsi256_ps(m)); }
// Into the L2 cache. Whoever calls it must be inlined as well: a function that only fetches has no effect in the
// compiler's eyes, and calls of it are dropped.
[[gnu::always_inline]] inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1); }

inline float reduce_add(Vec a) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}
inline float reduce_max(Vec a) {
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  half = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

inline Vec load_pairs(LaneMask m, const uint32_t* p) {
  return _mm256_castsi256_ps(_mm256_maskload_epi32(reinterpret_cast<const int*>(p), m));
}
inline Vec even_of_pairs(Vec pairs) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(pairs), 16)); }
inline Vec odd_of_pairs(Vec pairs) {
  return _mm256_and_ps(pairs, _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(0xffff0000))));
}
inline Vec load(const uint16_t* bf16) {
  const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bf16));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}
// Round to nearest even; NaN stays NaN (quiet).
inline void store(uint16_t* bf16, Vec a) {
  const __m256i bits = _mm256_castps_si256(a);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, odd), _mm256_set1_epi32(0x7fff)), 16);
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
  rounded = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc0), nan);
  const __m128i packed = _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(bf16), packed);
}

// The last bits of a shifted number become an exponent: see exp2.h.
inline Vec power_of_two(Vec shifted) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(shifted), 23));
}

// Rows and columns of a block of up to 16 x 16 change places: `rows` x `columns` are read, missing ones count as zero;
// `columns` rows of `lanes` elements are written. Moves 32-bit elements, whatever they hold.
inline void transpose16(const float* from, int64_t from_stride, int rows, int columns, float* to, int64_t to_stride,
                        int lanes) {
  for (int left = 0; left < lanes; left += 8) {
    const LaneMask written = first_lanes(lanes - left);
    for (int top = 0; top < columns; top += 8) {
      const LaneMask read = first_lanes(columns - top);
      __m256 r[8], t[8];
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i)
        r[i] = left + i < rows ? _mm256_maskload_ps(from + (left + i) * from_stride + top, read) : zero();
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
      }
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        r[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
        r[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
        r[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
        r[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
      }
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const Vec low = _mm256_permute2f128_ps(r[i], r[4 + i], 0x20),
                  high = _mm256_permute2f128_ps(r[i], r[4 + i], 0x31);
        if (top + i < columns) store(written, to + (top + i) * to_stride + left, low);
        if (top + 4 + i < columns) store(written, to + (top + 4 + i) * to_stride + left, high);
      }
    }
  }
}

}  // namespace svm::cpu::SVM_ISA
