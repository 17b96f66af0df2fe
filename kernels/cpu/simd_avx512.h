// Sixteen floats a register: AVX-512 F/BW/VL/DQ, with the bf16 dot product where the unit is compiled for it.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace svm::cpu::SVM_ISA {

constexpr int kWidth = 16;        // floats in a Vec
constexpr int kScoreQueries = 7;  // 7 queries x 4 frames = 28 accumulators, 4 keys; the query may come from memory
constexpr int kScoreFrames = 4;
constexpr int kGatherQueries = 7;  // 7 queries x 4 vectors = 28 accumulators and 4 values; weights come from memory
constexpr int kGatherVectors = 4;

using Vec = __m512;
using LaneMask = __mmask16;  // which of a Vec's lanes are real

inline Vec zero() { return _mm512_setzero_ps(); }
inline Vec broadcast(float x) { return _mm512_set1_ps(x); }
inline Vec load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, Vec a) { _mm512_storeu_ps(p, a); }
inline Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
inline Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
inline Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
// The second operand where either is NaN: with the running maximum first, a NaN score is passed on.
inline Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }

inline LaneMask first_lanes(int n) { return static_cast<LaneMask>(n >= 16 ? 0xffffu : n <= 0 ? 0u : (1u << n) - 1u); }
inline Vec load(LaneMask m, const float* p) { return _mm512_maskz_loadu_ps(m, p); }
inline void store(LaneMask m, float* p, Vec a) { _mm512_mask_storeu_ps(p, m, a); }
inline Vec select(LaneMask m, Vec a, Vec otherwise) { return _mm512_mask_mov_ps(otherwise, m, a); }

// Into the L2 cache. Whoever calls it must be inlined as well: a function that only fetches has no effect in the
// compiler's eyes, and calls of it are dropped.
[[gnu::always_inline]] inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1); }

inline float reduce_add(Vec a) { return _mm512_reduce_add_ps(a); }
inline float reduce_max(Vec a) { return _mm512_reduce_max_ps(a); }

// A pair of bf16 in each 32-bit lane, widened: even holds the low half, odd the high half.
inline Vec load_pairs(LaneMask m, const uint32_t* p) { return _mm512_castsi512_ps(_mm512_maskz_loadu_epi32(m, p)); }
inline Vec even_of_pairs(Vec pairs) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(pairs), 16)); }
inline Vec odd_of_pairs(Vec pairs) {
  return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(pairs), _mm512_set1_epi32(0xffff0000)));
}

inline Vec load(const uint16_t* bf16) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bf16));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

// Round to nearest even; NaN stays NaN (quiet).
inline __m512i round_to_bf16_bits(Vec a) {
  const __m512i bits = _mm512_castps_si512(a);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded =
      _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7fff)), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
  return _mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7fc0));
}
inline void store(uint16_t* bf16, Vec a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(bf16), _mm512_cvtepi32_epi16(round_to_bf16_bits(a)));
}

// The last bits of a shifted number become an exponent: see exp2.h.
inline Vec power_of_two(Vec shifted) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(shifted), 23));
}

// Rows and columns of a block of up to 16 x 16 change places: `rows` x `columns` are read, missing ones count as zero;
// `columns` rows of `lanes` elements are written. Moves 32-bit elements, whatever they hold.
inline void transpose16(const float* from, int64_t from_stride, int rows, int columns, float* to, int64_t to_stride,
                        int lanes) {
  const LaneMask read = first_lanes(columns), written = first_lanes(lanes);
  __m512 r[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i] = i < rows ? _mm512_maskz_loadu_ps(read, from + i * from_stride) : zero();
  __m512 t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512d a = _mm512_castps_pd(t[4 * i]), b = _mm512_castps_pd(t[4 * i + 1]);
    const __m512d c = _mm512_castps_pd(t[4 * i + 2]), d = _mm512_castps_pd(t[4 * i + 3]);
    r[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
    r[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
    r[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
    r[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_f32x4(r[i], r[4 + i], 0x88);
    t[4 + i] = _mm512_shuffle_f32x4(r[i], r[4 + i], 0xdd);
    t[8 + i] = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0x88);
    t[12 + i] = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0xdd);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_f32x4(t[i], t[8 + i], 0x88);
    r[4 + i] = _mm512_shuffle_f32x4(t[4 + i], t[12 + i], 0x88);
    r[8 + i] = _mm512_shuffle_f32x4(t[i], t[8 + i], 0xdd);
    r[12 + i] = _mm512_shuffle_f32x4(t[4 + i], t[12 + i], 0xdd);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    if (i < columns) _mm512_mask_storeu_ps(to + i * to_stride, written, r[i]);
  }
}

#if defined(__AVX512BF16__)
// c + a.low * b.low + a.high * b.high in every lane, a and b pairs of bf16.
inline Vec dot(Vec a, Vec b, Vec c) {
  return _mm512_dpbf16_ps(c, (__m512bh)_mm512_castps_si512(a), (__m512bh)_mm512_castps_si512(b));
}
// Lane i holds the pair (low[i], high[i]), rounded to bf16.
inline Vec make_pairs(Vec low, Vec high) {
  const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(high, low);  // low in the first half, high in the second
  const __m512i interleave = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22,
                                              6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_castsi512_ps(_mm512_permutexvar_epi16(interleave, both));
}
// The sixteen floats as eight pairs of neighbours.
inline void store_neighbour_pairs(uint32_t* p, Vec a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(a));
}
inline Vec broadcast_pair(const uint32_t* p) { return _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(*p))); }

// Two token rows of 32 bf16 each become two registers of pairs (first row low, second high). The lanes come out in
// the unpacking's own order: dims 0-3, 8-11, 16-19, 24-27 in the first register, the others in the second.
inline void load_row_pairs(const uint16_t* first, const uint16_t* second, Vec* low, Vec* high) {
  const __m512i a = _mm512_loadu_si512(first), b = _mm512_loadu_si512(second);
  *low = _mm512_castsi512_ps(_mm512_unpacklo_epi16(a, b));
  *high = _mm512_castsi512_ps(_mm512_unpackhi_epi16(a, b));
}
// The same in the order of dims: to[32] pairs.
inline void store_row_pairs(const uint16_t* first, const uint16_t* second, uint32_t* to) {
  const __m512i a = _mm512_loadu_si512(first), b = _mm512_loadu_si512(second);
  const __m512i interleave = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38,
                                              6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
  const __m512i later = _mm512_add_epi16(interleave, _mm512_set1_epi16(16));
  _mm512_storeu_si512(to, _mm512_permutex2var_epi16(a, interleave, b));
  _mm512_storeu_si512(to + 16, _mm512_permutex2var_epi16(a, later, b));
}
// Puts the two registers of load_row_pairs' order back into dims 0-15 and 16-31.
inline void restore_dim_order(Vec* low, Vec* high) {
  const __m512i first = _mm512_set_epi32(23, 22, 21, 20, 7, 6, 5, 4, 19, 18, 17, 16, 3, 2, 1, 0);
  const __m512i second = _mm512_set_epi32(31, 30, 29, 28, 15, 14, 13, 12, 27, 26, 25, 24, 11, 10, 9, 8);
  const Vec a = *low, b = *high;
  *low = _mm512_permutex2var_ps(a, first, b);
  *high = _mm512_permutex2var_ps(a, second, b);
}
inline void pair_dim_order(Vec* low, Vec* high) {
  const __m512i first = _mm512_set_epi32(27, 26, 25, 24, 19, 18, 17, 16, 11, 10, 9, 8, 3, 2, 1, 0);
  const __m512i second = _mm512_set_epi32(31, 30, 29, 28, 23, 22, 21, 20, 15, 14, 13, 12, 7, 6, 5, 4);
  const Vec a = *low, b = *high;
  *low = _mm512_permutex2var_ps(a, first, b);
  *high = _mm512_permutex2var_ps(a, second, b);
}
#endif

}  // namespace svm::cpu::SVM_ISA
