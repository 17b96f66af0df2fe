// The two inner loops of everything: scores (queries x keys) and gather (weights x values). A *line* is 16 floats: the
// keys of one frame in the row plane, the columns of one image row in the column plane.
#pragma once

#include <cstdint>

#include "cpu/exp2.h"

namespace svm::cpu::SVM_ISA {

constexpr int kLine = 16;
constexpr int kLineVecs = kLine / kWidth;

// Which lanes of a line are real.
struct LineMask {
  LaneMask part[kLineVecs];
};
inline LineMask first_of_line(int n) {
  LineMask m;
  for (int i = 0; i < kLineVecs; ++i) m.part[i] = first_lanes(n - i * kWidth);
  return m;
}

// How keys and values are stored and which arithmetic takes them.
//   Key    what one lane of a stored key line is; kDims dims sit in it
//   Query  what a query is packed to, kQueriesPerKey of them meet one key lane
struct Float32 {
  using Key = float;
  using Value = float;
  using Query = float;
  static constexpr int kDims = 1;
  static constexpr int kQueriesPerKey = 1;
  static constexpr bool kDot = false;
  static constexpr bool kPairsOnLoad = false;
  static Vec load_key(LaneMask m, const float* p) { return load(m, p); }
  static Vec key_part(Vec key, int) { return key; }
};
// bf16 widened to fp32 in registers.
struct Bf16Wide {
  using Key = uint32_t;
  using Value = uint16_t;
  using Query = float;
  static constexpr int kDims = 2;
  static constexpr int kQueriesPerKey = 2;
  static constexpr bool kDot = false;
  static constexpr bool kPairsOnLoad = false;
  static Vec load_key(LaneMask m, const uint32_t* p) { return load_pairs(m, p); }
  static Vec key_part(Vec key, int part) { return part == 0 ? even_of_pairs(key) : odd_of_pairs(key); }
};
#if defined(__AVX512BF16__)
// bf16 pairs straight into the dot product; queries and weights are rounded to bf16, sums stay fp32.
struct Bf16Dot {
  using Key = uint32_t;
  using Value = uint16_t;
  using Query = uint32_t;
  static constexpr int kDims = 2;
  static constexpr int kQueriesPerKey = 1;
  static constexpr bool kDot = true;
  static constexpr bool kPairsOnLoad = true;
  static Vec load_key(LaneMask m, const uint32_t* p) { return load_pairs(m, p); }
  static Vec key_part(Vec key, int) { return key; }
};
// The same with values that lie as pairs of neighbouring keys already.
struct Bf16Paired : Bf16Dot {
  using Value = uint32_t;
  static constexpr bool kPairsOnLoad = false;
};
#endif

template <class Format>
inline Vec multiply_add(Vec a, Vec b, Vec c) {
#if defined(__AVX512BF16__)
  if constexpr (Format::kDot) return dot(a, b, c);
#endif
  return fma(a, b, c);
}
inline Vec broadcast_query(const float* p) { return broadcast(*p); }
inline Vec load_query(const float* p) { return load(p); }
inline Vec load_value(const float* p) { return load(p); }
inline Vec load_value(const uint16_t* p) { return load(p); }
#if defined(__AVX512BF16__)
inline Vec broadcast_query(const uint32_t* p) { return broadcast_pair(p); }
inline Vec load_query(const uint32_t* p) { return load_pairs(first_lanes(16), p); }
inline Vec load_value(const uint32_t* p) { return load_query(p); }
#endif

// Memory that will be read soon: the inner loops fetch it into the L2 cache along the way, a line or two a round, so
// that the memory works evenly while the multipliers do. The hardware's own prefetcher stops at page ends, which are
// everywhere here.
struct Ahead {
  const char* at;
  int64_t step;  // bytes a round, at most two cache lines; 0 fetches nothing new

  void fetch() {
    prefetch(at);
    prefetch(at + step / 2);
    at += step;
  }
};
inline Ahead nothing_ahead(const void* harmless) { return {static_cast<const char*>(harmless), 0}; }

// Where `scores` finds its operands. Queries: [query][step] scalars (row plane) or [query][step][16] lines (column
// plane).
template <class Format>
struct ScoreOperands {
  const typename Format::Query* queries;
  int64_t query_stride;
  const typename Format::Key* keys;  // [frame][step][columns]
  int64_t frame_stride, step_stride;
  int steps;  // D / Format::kDims
  LineMask lanes;
};

// Where `scores` puts the line of a frame and a query.
struct ScoreResults {
  float* at;
  int64_t frame_stride, query_stride;
  float* line(int64_t frame, int64_t query) const { return at + frame * frame_stride + query * query_stride; }
};

// out[frame][query][16] = sum over dims of query * key, for Q queries and F frames held in registers; added to what is
// there if `accumulate`.
template <class Format, bool kLanesAreQueries, int Q, int F>
inline void scores_tile(const ScoreOperands<Format>& in, const ScoreResults& out, bool accumulate, Ahead& ahead) {
  Vec sum[F][Q][kLineVecs];
#pragma GCC unroll 32
  for (int f = 0; f < F; ++f)
#pragma GCC unroll 32
    for (int q = 0; q < Q; ++q)
#pragma GCC unroll 4
      for (int i = 0; i < kLineVecs; ++i) sum[f][q][i] = accumulate ? load(out.line(f, q) + i * kWidth) : zero();

  const typename Format::Key* key = in.keys;
  const typename Format::Query* query = in.queries;
  constexpr int kQueryStep = kLanesAreQueries ? kLine : 1;
  for (int step = 0; step < in.steps; ++step) {
    Vec stored[F][kLineVecs];
#pragma GCC unroll 4
    for (int f = 0; f < F; ++f)
#pragma GCC unroll 4
      for (int i = 0; i < kLineVecs; ++i)
        stored[f][i] = Format::load_key(in.lanes.part[i], key + f * in.frame_stride + i * kWidth);
#pragma GCC unroll 2
    for (int part = 0; part < Format::kQueriesPerKey; ++part) {
      Vec keys[F][kLineVecs];
#pragma GCC unroll 4
      for (int f = 0; f < F; ++f)
#pragma GCC unroll 4
        for (int i = 0; i < kLineVecs; ++i) keys[f][i] = Format::key_part(stored[f][i], part);
#pragma GCC unroll 32
      for (int q = 0; q < Q; ++q) {
        const typename Format::Query* one = query + q * in.query_stride + part * kQueryStep;
#pragma GCC unroll 4
        for (int i = 0; i < kLineVecs; ++i) {
          const Vec v = kLanesAreQueries ? load_query(one + i * kWidth) : broadcast_query(one);
#pragma GCC unroll 4
          for (int f = 0; f < F; ++f) sum[f][q][i] = multiply_add<Format>(keys[f][i], v, sum[f][q][i]);
        }
      }
    }
    ahead.fetch();
    key += in.step_stride;
    query += kQueryStep * Format::kQueriesPerKey;
  }
#pragma GCC unroll 32
  for (int f = 0; f < F; ++f)
#pragma GCC unroll 32
    for (int q = 0; q < Q; ++q)
#pragma GCC unroll 4
      for (int i = 0; i < kLineVecs; ++i) store(out.line(f, q) + i * kWidth, sum[f][q][i]);
}

// Calls tile<Q>() for the Q in 1..kMost that equals q.
template <int kMost, class Tile>
inline void with_count(int q, Tile& tile) {
  if constexpr (kMost > 0) {
    if (q == kMost) return tile.template operator()<kMost>();
    with_count<kMost - 1>(q, tile);
  }
}

// One group of at most kScoreQueries queries over all frames.
template <class Format, bool kLanesAreQueries>
struct ScoresGroup {
  ScoreOperands<Format> at;
  ScoreResults out;
  int frames;
  bool accumulate;
  Ahead& ahead;

  template <int Q, int F>
  void frames_in_tiles_of() {
    for (; frames >= F; frames -= F) {
      scores_tile<Format, kLanesAreQueries, Q, F>(at, out, accumulate, ahead);
      at.keys += F * at.frame_stride;
      out.at = out.line(F, 0);
    }
  }
  template <int Q>
  __attribute__((noinline)) void operator()() {
    frames_in_tiles_of<Q, kScoreFrames>();
    if constexpr (kScoreFrames > 2) frames_in_tiles_of<Q, 2>();
    if constexpr (kScoreFrames > 1) frames_in_tiles_of<Q, 1>();
  }
};

// Query lines of a group that are walked in one go: 7 x 64 lines are 28 kB, which just stay in the L1 cache from frame
// to frame.
constexpr int kQuerySteps = 64;

// The lines of any number of queries and frames.
template <class Format, bool kLanesAreQueries>
inline void scores(const ScoreOperands<Format>& in, int queries, int frames, const ScoreResults& out, Ahead& ahead) {
  const int block = kLanesAreQueries ? kQuerySteps / Format::kQueriesPerKey : in.steps;
  const int groups = (queries + kScoreQueries - 1) / kScoreQueries;
  int done = 0;
  for (int group = 0; group < groups; ++group) {
    const int q = (queries + groups - 1 - group) / groups;
    for (int step = 0; step < in.steps; step += block) {
      ScoreOperands<Format> part = in;
      part.steps = in.steps - step < block ? in.steps - step : block;
      part.keys += step * in.step_stride;
      part.queries += done * in.query_stride + step * Format::kQueriesPerKey * (kLanesAreQueries ? kLine : 1);
      ScoresGroup<Format, kLanesAreQueries> tiles{
          part, {out.line(0, done), out.frame_stride, out.query_stride}, frames, step > 0, ahead};
      with_count<kScoreQueries>(q, tiles);
    }
    done += q;
  }
}

// Where `gather` finds its operands: keys in two nested loops, with the strides of weights and values for each.
// With a dot format a key is a pair: its second value row lies `pair_stride` behind the first, unless they are paired
// already.
template <class Format>
struct GatherOperands {
  using Weight = typename Format::Query;
  const Weight* weights;
  int64_t query_stride;
  const typename Format::Value* values;
  int64_t pair_stride;
  int outer, inner;
  int64_t weight_outer, weight_inner;
  int64_t value_outer, value_inner;
};

template <class Format, int V>
inline void load_values(const typename Format::Value* p, [[maybe_unused]] int64_t pair_stride, Vec* value) {
#if defined(__AVX512BF16__)
  if constexpr (Format::kPairsOnLoad) {
#pragma GCC unroll 4
    for (int i = 0; i < V; i += 2)
      load_row_pairs(p + i * kWidth, p + pair_stride + i * kWidth, &value[i], &value[i + 1]);
    return;
  }
#endif
#pragma GCC unroll 8
  for (int i = 0; i < V; ++i) value[i] = load_value(p + i * kWidth);
}

// sums[query][V vectors] += sum over keys of weight * value.
template <class Format, int Q, int V>
inline void gather_tile(const GatherOperands<Format>& in, float* sums, int64_t sum_stride, Ahead& ahead) {
  Vec sum[Q][V];
#pragma GCC unroll 32
  for (int q = 0; q < Q; ++q)
#pragma GCC unroll 8
    for (int i = 0; i < V; ++i) sum[q][i] = load(sums + q * sum_stride + i * kWidth);
  if constexpr (Format::kPairsOnLoad) {
#if defined(__AVX512BF16__)
#pragma GCC unroll 32
    for (int q = 0; q < Q; ++q)
#pragma GCC unroll 8
      for (int i = 0; i < V; i += 2) pair_dim_order(&sum[q][i], &sum[q][i + 1]);
#endif
  }
  for (int outer = 0; outer < in.outer; ++outer) {
    const auto* weight = in.weights + outer * in.weight_outer;
    const auto* value_row = in.values + outer * in.value_outer;
    for (int inner = 0; inner < in.inner; ++inner) {
      ahead.fetch();
      Vec value[V];
      load_values<Format, V>(value_row, in.pair_stride, value);
#pragma GCC unroll 32
      for (int q = 0; q < Q; ++q) {
        const Vec w = broadcast_query(weight + q * in.query_stride);
#pragma GCC unroll 8
        for (int i = 0; i < V; ++i) sum[q][i] = multiply_add<Format>(value[i], w, sum[q][i]);
      }
      weight += in.weight_inner;
      value_row += in.value_inner;
    }
  }
  if constexpr (Format::kPairsOnLoad) {
#if defined(__AVX512BF16__)
#pragma GCC unroll 32
    for (int q = 0; q < Q; ++q)
#pragma GCC unroll 8
      for (int i = 0; i < V; i += 2) restore_dim_order(&sum[q][i], &sum[q][i + 1]);
#endif
  }
#pragma GCC unroll 32
  for (int q = 0; q < Q; ++q)
#pragma GCC unroll 8
    for (int i = 0; i < V; ++i) store(sums + q * sum_stride + i * kWidth, sum[q][i]);
}

template <class Format>
struct GatherTile {
  const GatherOperands<Format>& in;
  float* sums;
  int64_t sum_stride;
  int dims;
  Ahead& ahead;
  template <int Q>
  __attribute__((noinline)) void operator()() {
    GatherOperands<Format> at = in;
    int done = 0;
    for (; done + kGatherVectors * kWidth <= dims; done += kGatherVectors * kWidth) {
      at.values = in.values + done;
      gather_tile<Format, Q, kGatherVectors>(at, sums + done, sum_stride, ahead);
    }
    constexpr int kRest = kGatherVectors >= 4 ? 2 : 1;
    for (; done < dims; done += kRest * kWidth) {
      at.values = in.values + done;
      gather_tile<Format, Q, kRest>(at, sums + done, sum_stride, ahead);
    }
  }
};

// sums[query][dims] += sum over keys of weight * value, for any number of queries and dims (a multiple of 32).
template <class Format>
inline void gather(GatherOperands<Format> in, int queries, int dims, float* sums, int64_t sum_stride, Ahead& ahead) {
  if (in.outer == 0 || in.inner == 0) return;
  const int groups = (queries + kGatherQueries - 1) / kGatherQueries;
  for (int group = 0; group < groups; ++group) {
    const int q = (queries + groups - 1 - group) / groups;
    GatherTile<Format> tile{in, sums, sum_stride, dims, ahead};
    with_count<kGatherQueries>(q, tile);
    in.weights += q * in.query_stride;
    sums += q * sum_stride;
  }
}

}  // namespace svm::cpu::SVM_ISA
