// The gradient of memory_attend with respect to the queries; keys and values in memory are detached by definition.
//
// The weights are computed again from the saved log-sum-exp: P = exp(S - lse), dP = dout . v, dS = P (dP - D) with
// D = dout . (the plane's output), dq = scale * sum of dS k. Scores run over stored keys, dP over values turned to
// [dim][column], the last sum over keys turned to [column][dim]: the same two inner loops as the forward.
#pragma once

#include <cstdint>

#include "cpu/memory_attend.h"

namespace svm::cpu::SVM_ISA {

// Sixteen frames of turned keys and values of one image row are 120 kB; fewer would load and store the gradients more
// often.
constexpr int kBackwardFrames = 16;

// Keys and values of one image row, turned and in fp32.
struct TurnedRow {
  const float* keys;    // [frame][column][dim]
  const float* values;  // [frame][dim][16]
  int64_t key_frame, value_frame;
};

struct BackwardScratch {
  float* token;         // [side][dim]
  float* row_douts;     // [token][dim]
  float* column_douts;  // [row][dim][16], then kQueryPad
  float* dq;            // [token][dim]
  float* lse[2];        // [side][16] of the column and the row plane, base 2
  float* product[2];    // [side][16] D of the two planes
  float* scores;        // [frame][query][16]
  float* grads;         // [frame][query][16]

  static size_t room(const UnitShape& s) {
    const int64_t n = s.side, dim = s.dim;
    return Scratch::room<float>(n * dim) + 2 * Scratch::room<float>(n * n * dim) +
           Scratch::room<float>(n * (dim * kLine + kQueryPad)) + 4 * Scratch::room<float>(n * kLine) +
           2 * Scratch::room<float>(kBackwardFrames * n * kLine);
  }
  void take_from(Scratch& scratch, const UnitShape& s) {
    const int64_t n = s.side, dim = s.dim;
    token = scratch.take<float>(n * dim);
    row_douts = scratch.take<float>(n * n * dim);
    column_douts = scratch.take<float>(n * (dim * kLine + kQueryPad));
    dq = scratch.take<float>(n * n * dim);
    for (int plane = 0; plane < 2; ++plane) {
      lse[plane] = scratch.take<float>(n * kLine);
      product[plane] = scratch.take<float>(n * kLine);
    }
    scores = scratch.take<float>(kBackwardFrames * n * kLine);
    grads = scratch.take<float>(kBackwardFrames * n * kLine);
  }
};

struct BackwardTensors {
  TokenRows dout, q, out, out_column, dq;
  const float* lse;  // [2][side * side]
};

inline float dot_of(const float* a, const float* b, int dim) {
  Vec sum = zero();
  for (int d = 0; d < dim; d += kWidth) sum = fma(load(a + d), load(b + d), sum);
  return reduce_add(sum);
}

// D and lse of image row r, and the gradient that its virtual keys give. `token` holds the row's queries, base-2
// scaled.
inline void begin_backward_row(const BackwardScratch& b, const BackwardTensors& t, const UnitShape& s, int r,
                               int frames, const PaddedToken& padded) {
  alignas(64) float out[kMaxDim], column[kMaxDim];
  for (int plane = 0; plane < 2; ++plane)
    for (int c = 0; c < kLine; ++c) b.lse[plane][r * kLine + c] = b.product[plane][r * kLine + c] = 0.0f;
  for (int c = 0; c < s.columns; ++c) {
    const int at = r * s.side + c, line = r * kLine + c;
    const float* dout = b.row_douts + static_cast<int64_t>(at) * s.dim;
    float* dq = b.dq + static_cast<int64_t>(at) * s.dim;
    read_token(t.out, at, s.dim, out);
    read_token(t.out_column, at, s.dim, column);
    b.product[0][line] = dot_of(dout, column, s.dim);
    for (int d = 0; d < s.dim; d += kWidth) store(out + d, sub(load(out + d), load(column + d)));
    b.product[1][line] = dot_of(dout, out, s.dim);
    for (int d = 0; d < s.dim; d += kWidth) store(dq + d, zero());
    for (int plane = 0; plane < 2; ++plane) {
      b.lse[plane][line] = t.lse[plane * s.tokens() + at] * kLog2e;
      const int missing = s.side - (plane == 0 ? s.rows : s.columns);
      if (padded.k == nullptr || missing == 0) continue;
      const float logit =
          dot_of(b.token + c * s.dim, padded.k, s.dim) + __builtin_log2f(static_cast<float>(missing) * frames);
      const float weight = __builtin_exp2f(logit - b.lse[plane][line]);
      const Vec by = broadcast(weight * (dot_of(dout, padded.v, s.dim) - b.product[plane][line]));
      for (int d = 0; d < s.dim; d += kWidth) store(dq + d, fma(load(padded.k + d), by, load(dq + d)));
    }
  }
}

// Row plane: scores[frame][c][16 keys] become dS in place.
inline void row_score_gradient(const BackwardScratch& b, const UnitShape& s, int r, int frames) {
  const LineMask lanes = first_of_line(s.columns);
  for (int t = 0; t < frames; ++t) {
    for (int c = 0; c < s.columns; ++c) {
      const Vec lse = broadcast(b.lse[1][r * kLine + c]), product = broadcast(b.product[1][r * kLine + c]);
      float* score = b.scores + (t * s.columns + c) * kLine;
      const float* grad = b.grads + (t * s.columns + c) * kLine;
      for (int i = 0; i < kLineVecs; ++i) {
        const Vec weight = exp2(sub(load(score + i * kWidth), lse));
        const Vec ds = mul(weight, sub(load(grad + i * kWidth), product));
        store(score + i * kWidth, select(lanes.part[i], ds, zero()));
      }
    }
  }
}

// Column plane: scores[frame][r][16 columns] become dS in place.
inline void column_score_gradient(const BackwardScratch& b, const UnitShape& s, int frames) {
  for (int t = 0; t < frames; ++t) {
    for (int i = 0; i < s.rows * kLine; i += kWidth) {
      float* score = b.scores + t * s.rows * kLine + i;
      const Vec weight = exp2(sub(load(score), load(b.lse[0] + i)));
      store(score, mul(weight, sub(load(b.grads + t * s.rows * kLine + i), load(b.product[0] + i))));
    }
  }
}

// `turn_row(h, first, frames)` gives image row h's turned keys and values of some frames.
template <class Format, class TurnRow>
inline void attend_backward_unit(const UnitMemory<Format>& memory, const UnitShape& s, const PaddedToken& padded,
                                 double scale, const BackwardTensors& tensors, const AttendScratch<Format>& a,
                                 const BackwardScratch& b, const TurnRow& turn_row) {
  const int steps = s.dim / Format::kDims, per_token = steps * Format::kQueriesPerKey;
  for (int r = 0; r < s.rows; ++r) {
    pack_query_row<Float32>(tensors.dout, s, r, 1.0f, b.token, b.row_douts, b.column_douts);
    pack_query_row<Format>(tensors.q, s, r, static_cast<float>(scale) * kLog2e, b.token, a.row_queries,
                           a.column_queries);
    begin_backward_row(b, tensors, s, r, memory.frames, padded);
  }

  ScoreOperands<Format> keys;
  keys.frame_stride = memory.k_frame;
  keys.step_stride = s.side;
  keys.steps = steps;
  keys.lanes = first_of_line(s.columns);
  ScoreOperands<Float32> values;
  values.step_stride = kLine;
  values.steps = s.dim;
  values.lanes = keys.lanes;
  GatherOperands<Float32> sum;
  sum.query_stride = kLine;
  sum.pair_stride = 0;
  Ahead ahead = nothing_ahead(memory.k);
  for (int first = 0; first < memory.frames; first += kBackwardFrames) {
    const int frames = memory.frames - first < kBackwardFrames ? memory.frames - first : kBackwardFrames;
    for (int h = 0; h < s.rows; ++h) {
      const TurnedRow turned = turn_row(h, first, frames);
      keys.keys = memory.k + h * memory.k_row + first * memory.k_frame;
      values.keys = turned.values;
      values.frame_stride = turned.value_frame;

      keys.queries = a.row_queries + static_cast<int64_t>(h) * s.side * per_token;
      keys.query_stride = per_token;
      values.queries = b.row_douts + static_cast<int64_t>(h) * s.side * s.dim;
      values.query_stride = s.dim;
      scores<Format, false>(keys, s.columns, frames, {b.scores, s.columns * kLine, kLine}, ahead);
      scores<Float32, false>(values, s.columns, frames, {b.grads, s.columns * kLine, kLine}, ahead);
      row_score_gradient(b, s, h, frames);
      sum.weights = b.scores;
      sum.outer = frames;
      sum.weight_outer = s.columns * kLine;
      sum.value_outer = turned.key_frame;
      sum.inner = s.columns;
      sum.weight_inner = 1;
      sum.value_inner = s.dim;
      sum.values = turned.keys;
      gather(sum, s.columns, s.dim, b.dq + static_cast<int64_t>(h) * s.side * s.dim, s.dim, ahead);

      keys.queries = a.column_queries;
      keys.query_stride = per_token * kLine + kQueryPad;
      values.queries = b.column_douts;
      values.query_stride = s.dim * kLine + kQueryPad;
      scores<Format, true>(keys, s.rows, frames, {b.scores, s.rows * kLine, kLine}, ahead);
      scores<Float32, true>(values, s.rows, frames, {b.grads, s.rows * kLine, kLine}, ahead);
      column_score_gradient(b, s, frames);
      sum.outer = 1;
      sum.inner = frames;
      sum.weight_inner = s.rows * kLine;
      sum.value_inner = turned.key_frame;
      for (int c = 0; c < s.columns; ++c) {
        sum.weights = b.scores + c;
        sum.values = turned.keys + c * s.dim;
        gather(sum, s.rows, s.dim, b.dq + static_cast<int64_t>(c) * s.dim, static_cast<int64_t>(s.side) * s.dim, ahead);
      }
    }
  }

  const Vec by = broadcast(static_cast<float>(scale));
  for (int at = 0; at < s.tokens(); ++at) {
    if (at / s.side >= s.rows || at % s.side >= s.columns) {
      write_zero_token(tensors.dq, at, s.dim);
      continue;
    }
    float* dq = b.dq + static_cast<int64_t>(at) * s.dim;
    for (int d = 0; d < s.dim; d += kWidth) store(dq + d, mul(load(dq + d), by));
    write_token(tensors.dq, at, s.dim, dq);
  }
}

// One image row of one frame: stored keys back to [column][dim], stored values to [dim][16].
inline void turn_keys(const float* k, const UnitShape& s, float* to) {
  for (int d = 0; d < s.dim; d += kLine)
    transpose16(k + static_cast<int64_t>(d) * s.side, s.side, kLine, s.columns, to + d, s.dim, kLine);
}
inline void turn_keys(const uint32_t* k, const UnitShape& s, float* to) {
  alignas(64) float pairs[kLine * kLine];
  for (int d = 0; d < s.dim / 2; d += kLine) {
    transpose16(reinterpret_cast<const float*>(k) + static_cast<int64_t>(d) * s.side, s.side, kLine, s.columns, pairs,
                kLine, kLine);
    for (int c = 0; c < s.columns; ++c) {
      const uint16_t* from = reinterpret_cast<const uint16_t*>(pairs + c * kLine);
      for (int i = 0; i < 2 * kLine; i += kWidth) store(to + c * s.dim + 2 * d + i, load(from + i));
    }
  }
}
template <class Value>
inline void turn_values(const Value* v, const UnitShape& s, float* tokens, float* to) {
  for (int c = 0; c < s.columns; ++c)
    for (int d = 0; d < s.dim; d += kWidth) store(tokens + c * s.dim + d, load(v + c * s.dim + d));
  for (int d = 0; d < s.dim; d += kLine)
    transpose16(tokens + d, s.dim, s.columns, kLine, to + static_cast<int64_t>(d) * kLine, kLine, kLine);
}

inline void zero_dq(const UnitShape& s, const TokenRows& dq) {
  for (int at = 0; at < s.tokens(); ++at) write_zero_token(dq, at, s.dim);
}

template <class Format>
inline void memory_attend_backward_unit(const AttendBackwardParams& p, int64_t unit) {
  const UnitIndex at = unit_index(unit, p.pool.windows, p.pool.heads);
  const UnitShape s = unit_shape(p.pool.side, p.pool.dim, p.padding.real, at.window);
  const PoolUnit stored = pool_unit(p.pool, p.streams, at);
  const UnitMemory<Format> memory =
      unit_memory<Format>(p.pool, stored, held_frames(stored.cursor->count, p.pool.frames));
  const int64_t window = at.batch * p.pool.windows + at.window;
  const BackwardTensors tensors{
      rows_of(p.dout, window, at.head), rows_of(p.q, window, at.head),
      rows_of(p.out, window, at.head),  rows_of(p.out_column, window, at.head),
      rows_of(p.dq, window, at.head),   static_cast<const float*>(p.lse) + unit * 2 * s.tokens()};
  if (memory.frames == 0 || s.rows == 0 || s.columns == 0) return zero_dq(s, tensors.dq);

  const int64_t turned_keys = static_cast<int64_t>(s.side) * s.dim, turned_values = static_cast<int64_t>(s.dim) * kLine;
  const AttendScratch<Format> a = AttendScratch<Format>::make(thread_scratch<0>(), s, 1);
  Scratch& scratch = thread_scratch<1>();
  scratch.begin(BackwardScratch::room(s) + Scratch::room<float>(kBackwardFrames * turned_keys) +
                Scratch::room<float>(kBackwardFrames * turned_values));
  BackwardScratch b;
  b.take_from(scratch, s);
  float* keys = scratch.take<float>(kBackwardFrames * turned_keys);
  float* values = scratch.take<float>(kBackwardFrames * turned_values);
  const auto turn_row = [&](int h, int first, int frames) {
    for (int t = 0; t < frames; ++t) {
      turn_keys(memory.k + h * memory.k_row + (first + t) * memory.k_frame, s, keys + t * turned_keys);
      turn_values(memory.v + h * memory.v_row + (first + t) * memory.v_frame, s, b.token, values + t * turned_values);
    }
    return TurnedRow{keys, values, turned_keys, turned_values};
  };
  alignas(64) float bias[2 * kMaxDim];
  attend_backward_unit(memory, s, padded_token(p.padding, at.head, s.dim, bias), p.scale, tensors, a, b, turn_row);
}

template <class Bf16Format>
inline void memory_attend_backward(const AttendBackwardParams& p, int64_t begin, int64_t end) {
  for (int64_t unit = begin; unit < end; ++unit) {
    if (p.pool.dtype == Dtype::kFloat32) {
      memory_attend_backward_unit<Float32>(p, unit);
    } else {
      memory_attend_backward_unit<Bf16Format>(p, unit);
    }
  }
}

}  // namespace svm::cpu::SVM_ISA
