// Inter-frame axial attention of one unit: every query (r, c) attends to column c and to row r of all remembered
// frames, in two separate softmaxes whose results are added.
//
// Row by row: the keys of image row h are adjacent over all frames, so the row plane of h is finished in one go, and
// the same keys, still in the cache, give the column plane its scores. The column plane's weights wait until all rows
// are done. Frames are taken in chunks, joined by the usual running maximum, so that the waiting scores stay in the L2
// cache at any capacity.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>

#include "cpu/scratch.h"
#include "cpu/tile.h"
#include "cpu/tokens.h"
#include "cpu/unit.h"
#include "svm/params.h"

namespace svm::cpu::SVM_ISA {

// Frames whose column scores wait together. Measured on 1 MB of L2: 8 load and store the sums too often, 32 spill the
// cache.
constexpr int kChunkFrames = 16;
// Query lines of neighbouring rows would lie 4 kB apart, all in one set of the L1 cache: one line more spreads them.
constexpr int kQueryPad = kLine;
constexpr float kLog2e = 1.44269504088896340736f;
constexpr float kLn2 = 0.69314718055994530942f;
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Softmax state and results of one plane: line r holds the queries (r, 0..15).
struct PlaneState {
  float* maximum;  // [side][16], in the base-2 domain
  float* sum;      // [side][16]
  float* out;      // [side * side][dim], not yet divided by sum
};

template <class Format>
struct AttendScratch {
  using Weight = typename Format::Query;
  typename Format::Query* row_queries;     // [token][dim / kDims * kQueriesPerKey]
  typename Format::Query* column_queries;  // [row][dim / kDims * kQueriesPerKey][16], then kQueryPad
  float* token;                            // [side][dim] fp32 queries of one image row
  PlaneState column, row;
  float* row_scores;       // [frame][column][16]
  float* column_scores;    // [row h][frame][query row][16]
  Weight* row_weights;     // with a dot format: pairs of neighbouring keys [frame][column][8]; else the scores' memory
  Weight* column_weights;  // [column][row h][frame][16 query rows]; with a dot format [column][row pair][frame][16]

  static AttendScratch make(Scratch& scratch, const UnitShape& s, int frames) {
    const int64_t n = s.side, dim = s.dim, chunk = frames < kChunkFrames ? frames : kChunkFrames;
    const int64_t per_token = dim / Format::kDims * Format::kQueriesPerKey;
    const int64_t key_rows = Format::kDot ? (n + 1) / 2 : n;
    scratch.begin(Scratch::room<Weight>(n * n * per_token) +
                  Scratch::room<Weight>(n * (per_token * kLine + kQueryPad)) + Scratch::room<float>(n * dim) +
                  4 * Scratch::room<float>(n * kLine) + 2 * Scratch::room<float>(n * n * dim) +
                  Scratch::room<float>(chunk * n * kLine) + Scratch::room<float>(n * chunk * n * kLine) +
                  Scratch::room<Weight>(n * key_rows * chunk * kLine) +
                  Scratch::room<Weight>(Format::kDot ? chunk * n * kLine / 2 : 0));
    AttendScratch a;
    a.row_queries = scratch.take<Weight>(n * n * per_token);
    a.column_queries = scratch.take<Weight>(n * (per_token * kLine + kQueryPad));
    a.token = scratch.take<float>(n * dim);
    for (PlaneState* plane : {&a.column, &a.row}) {
      plane->maximum = scratch.take<float>(n * kLine);
      plane->sum = scratch.take<float>(n * kLine);
      plane->out = scratch.take<float>(n * n * dim);
    }
    a.row_scores = scratch.take<float>(chunk * n * kLine);
    a.column_scores = scratch.take<float>(n * chunk * n * kLine);
    a.column_weights = scratch.take<Weight>(n * key_rows * chunk * kLine);
    if constexpr (Format::kDot) {
      a.row_weights = scratch.take<Weight>(chunk * n * kLine / 2);
    } else {
      a.row_weights = a.row_scores;
    }
    return a;
  }
};

// Tokens lie as far apart as the projection's whole output, where no hardware prefetcher looks: asks for those of image
// row r.
[[gnu::always_inline]] inline void fetch_token_row(const TokenRows& rows, const UnitShape& s, int r) {
  for (int c = 0; c < s.columns; ++c) fetch_token(rows, r * s.side + c, s.dim);
}

// Queries of image row r, times `factor`, into the two forms that the planes want. Lanes beyond the real columns are
// zero.
template <class Format>
inline void pack_query_row(const TokenRows& q, const UnitShape& s, int r, float factor, float* token,
                           typename Format::Query* row_queries, typename Format::Query* column_queries) {
  const int dim = s.dim;
  const Vec by = broadcast(factor);
  for (int c = 0; c < s.columns; ++c) {
    float* to = token + c * dim;
    read_token(q, r * s.side + c, dim, to);
    for (int d = 0; d < dim; d += kWidth) store(to + d, mul(load(to + d), by));
  }
  const int steps = dim / Format::kDims * Format::kQueriesPerKey;
  auto* rows = row_queries + static_cast<int64_t>(r) * s.side * steps;
  for (int c = 0; c < s.columns; ++c) {
    if constexpr (Format::kDot) {
#if defined(__AVX512BF16__)
      for (int d = 0; d < dim; d += kWidth) store_neighbour_pairs(rows + c * steps + d / 2, load(token + c * dim + d));
#endif
    } else {
      for (int d = 0; d < dim; d += kWidth) store(rows + c * steps + d, load(token + c * dim + d));
    }
  }
  auto* columns = reinterpret_cast<float*>(column_queries + static_cast<int64_t>(r) * (steps * kLine + kQueryPad));
  for (int step = 0; step < steps; step += kLine) {
    transpose16(reinterpret_cast<const float*>(rows) + step, steps, s.columns, kLine, columns + step * kLine, kLine,
                kLine);
  }
}

// Both planes of image row r begin with what the padded tokens contribute: one virtual key of weight padded * frames.
inline void begin_row(const UnitShape& s, int r, int frames, const PaddedToken& padded, const float* token,
                      const PlaneState& column, const PlaneState& row) {
  const int dim = s.dim;
  const PlaneState planes[2] = {column, row};
  const int missing[2] = {s.side - s.rows, s.side - s.columns};
  for (int plane = 0; plane < 2; ++plane) {
    float* maximum = planes[plane].maximum + r * kLine;
    float* sum = planes[plane].sum + r * kLine;
    float* out = planes[plane].out + static_cast<int64_t>(r) * s.side * dim;
    const bool virtual_key = padded.k != nullptr && missing[plane] > 0;
    const float weight = virtual_key ? __builtin_log2f(static_cast<float>(missing[plane]) * frames) : 0.0f;
    for (int c = 0; c < kLine; ++c) {
      maximum[c] = kMinusInfinity;
      sum[c] = 0.0f;
    }
    for (int c = 0; c < s.columns; ++c, out += dim) {
      Vec logit = zero();
      for (int d = 0; d < dim; d += kWidth) {
        if (virtual_key) logit = fma(load(token + c * dim + d), load(padded.k + d), logit);
        store(out + d, virtual_key ? load(padded.v + d) : zero());
      }
      if (virtual_key) {
        maximum[c] = reduce_add(logit) + weight;
        sum[c] = 1.0f;
      }
    }
  }
}

// Multiplies what a plane's image row has gathered so far by 2^(old maximum - new maximum).
inline void rescale_row(const PlaneState& plane, const float* factor, const UnitShape& s, int r) {
  for (int c = 0; c < s.columns; ++c) {
    if (factor[c] == 1.0f) continue;
    float* out = plane.out + (static_cast<int64_t>(r) * s.side + c) * s.dim;
    const Vec by = broadcast(factor[c]);
    for (int d = 0; d < s.dim; d += kWidth) store(out + d, mul(load(out + d), by));
  }
}

// New maximum of a line of queries: stores it, scales the sum, and says by how much earlier results shrink.
inline void renew_line(const PlaneState& plane, int r, const float* maximum, float* factor) {
  for (int i = 0; i < kLine; i += kWidth) {
    const Vec fresh = load(maximum + i);
    // Where nothing was seen before, the old maximum is minus infinity and the factor 0.
    const Vec shrink = exp2(sub(load(plane.maximum + r * kLine + i), fresh));
    store(factor + i, shrink);
    store(plane.sum + r * kLine + i, mul(load(plane.sum + r * kLine + i), shrink));
    store(plane.maximum + r * kLine + i, fresh);
  }
}

// Row plane of image row r: scores become weights, the state takes them in.
template <class Format>
inline void softmax_row(const AttendScratch<Format>& a, const UnitShape& s, int r, int frames) {
  const LineMask lanes = first_of_line(s.columns);
  const int64_t stride = static_cast<int64_t>(s.columns) * kLine;  // from frame to frame
  const Vec lowest = broadcast(kMinusInfinity);
  alignas(64) float maximum[kLine], factor[kLine];
  for (int i = 0; i < kLine; i += kWidth) store(maximum + i, load(a.row.maximum + r * kLine + i));
  for (int c = 0; c < s.columns; ++c) {
    Vec highest[kLineVecs];
    for (int i = 0; i < kLineVecs; ++i) highest[i] = lowest;
    const float* score = a.row_scores + c * kLine;
    for (int t = 0; t < frames; ++t, score += stride)
      for (int i = 0; i < kLineVecs; ++i)
        highest[i] = max(highest[i], select(lanes.part[i], load(score + i * kWidth), lowest));
    for (int i = 1; i < kLineVecs; ++i) highest[0] = max(highest[0], highest[i]);
    const float top = reduce_max(highest[0]);
    maximum[c] = maximum[c] > top ? maximum[c] : top;
  }
  renew_line(a.row, r, maximum, factor);
  rescale_row(a.row, factor, s, r);
  for (int c = 0; c < s.columns; ++c) {
    const Vec m = broadcast(maximum[c]);
    Vec total = zero();
    float* score = a.row_scores + c * kLine;
    for (int t = 0; t < frames; ++t, score += stride) {
      for (int i = 0; i < kLineVecs; ++i) {
        const Vec weight = select(lanes.part[i], exp2(sub(load(score + i * kWidth), m)), zero());
        total = add(total, weight);
        if constexpr (Format::kDot) {
#if defined(__AVX512BF16__)
          store_neighbour_pairs(a.row_weights + (t * stride + c * kLine + i * kWidth) / 2, weight);
#endif
        } else {
          store(score + i * kWidth, weight);
        }
      }
    }
    a.row.sum[r * kLine + c] += reduce_add(total);
  }
}

template <class Format>
inline void gather_row(const AttendScratch<Format>& a, const UnitMemory<Format>& memory, const UnitShape& s, int r,
                       int first, int frames, Ahead& ahead) {
  constexpr int kKeys = Format::kDot ? 2 : 1;  // keys in a weight
  GatherOperands<Format> in;
  in.weights = a.row_weights;
  in.query_stride = kLine / kKeys;
  in.values = memory.v + r * memory.v_row + first * memory.v_frame;
  in.pair_stride = s.dim;
  in.outer = frames;
  in.weight_outer = s.columns * kLine / kKeys;
  in.value_outer = memory.v_frame;
  in.inner = s.columns / kKeys;
  in.weight_inner = 1;
  in.value_inner = kKeys * s.dim;
  float* out = a.row.out + static_cast<int64_t>(r) * s.side * s.dim;
  gather(in, s.columns, s.dim, out, s.dim, ahead);
  if (Format::kDot && s.columns % 2 != 0) {  // the last key alone: its partner has weight 0 and must not be read
    in.weights += in.inner;
    in.values += in.inner * in.value_inner;
    in.inner = 1;
    in.pair_stride = 0;
    gather(in, s.columns, s.dim, out, s.dim, ahead);
  }
}

// Running maximum of the column plane over image row h's scores.
inline void raise_column_maximum(const float* scores, const UnitShape& s, int frames, float* maximum) {
  for (int r = 0; r < s.rows; ++r) {
    for (int i = 0; i < kLine; i += kWidth) {
      Vec highest = load(maximum + r * kLine + i);
      for (int t = 0; t < frames; ++t) highest = max(highest, load(scores + (t * s.rows + r) * kLine + i));
      store(maximum + r * kLine + i, highest);
    }
  }
}

// One frame's line of column scores becomes weights.
inline Vec column_weight(const float* score, Vec maximum, Vec* total) {
  const Vec weight = exp2(sub(load(score), maximum));
  *total = add(*total, weight);
  return weight;
}

// All column scores become weights, turned so that those of one column lie together: gathering reads them column by
// column. With a dot format the weights of two image rows share a pair.
template <class Format>
inline void softmax_column(const AttendScratch<Format>& a, const UnitShape& s, int frames) {
  constexpr int kKeys = Format::kDot ? 2 : 1;
  const int64_t row_stride = static_cast<int64_t>(frames) * s.rows * kLine;
  const int64_t column_stride = static_cast<int64_t>((s.rows + kKeys - 1) / kKeys) * frames * kLine;
  alignas(64) float lines[kLine * kLine];  // [query row][column]
  for (int h = 0; h < s.rows; h += kKeys) {
    for (int t = 0; t < frames; ++t) {
      const float* scores = a.column_scores + h * row_stride + t * s.rows * kLine;
      for (int i = 0; i < s.rows * kLine; i += kWidth) {
        const Vec maximum = load(a.column.maximum + i);
        Vec total = load(a.column.sum + i);
        Vec weight = column_weight(scores + i, maximum, &total);
        if constexpr (Format::kDot) {
#if defined(__AVX512BF16__)
          const bool paired = h + 1 < s.rows;
          weight = make_pairs(weight, paired ? column_weight(scores + row_stride + i, maximum, &total) : zero());
#endif
        }
        store(lines + i, weight);
        store(a.column.sum + i, total);
      }
      float* to = reinterpret_cast<float*>(a.column_weights) + (h / kKeys * frames + t) * kLine;
      transpose16(lines, kLine, s.rows, s.columns, to, column_stride, kLine);
    }
  }
}

template <class Format>
inline void gather_column(const AttendScratch<Format>& a, const UnitMemory<Format>& memory, const UnitShape& s,
                          int first, int frames) {
  constexpr int kKeys = Format::kDot ? 2 : 1;
  GatherOperands<Format> in;
  in.query_stride = 1;
  in.pair_stride = memory.v_row;
  in.inner = frames;
  in.weight_inner = kLine;
  in.value_inner = memory.v_frame;
  in.weight_outer = static_cast<int64_t>(frames) * kLine;
  in.value_outer = kKeys * memory.v_row;
  const int64_t column_stride = (s.rows + kKeys - 1) / kKeys * in.weight_outer;
  Ahead ahead = nothing_ahead(memory.v);
  for (int c = 0; c < s.columns; ++c) {
    in.outer = s.rows / kKeys;
    in.weights = a.column_weights + c * column_stride;
    in.values = memory.v + first * memory.v_frame + c * s.dim;
    float* out = a.column.out + static_cast<int64_t>(c) * s.dim;
    gather(in, s.rows, s.dim, out, static_cast<int64_t>(s.side) * s.dim, ahead);
    if (Format::kDot && s.rows % 2 != 0) {
      GatherOperands<Format> last = in;
      last.weights += in.outer * in.weight_outer;
      last.values += in.outer * in.value_outer;
      last.outer = 1;
      last.pair_stride = 0;
      gather(last, s.rows, s.dim, out, static_cast<int64_t>(s.side) * s.dim, ahead);
    }
  }
}

// Divides by the sums, adds the planes, writes out, out_column and lse; padded tokens get 0 and minus infinity.
inline void write_results(const UnitShape& s, const PlaneState& column, const PlaneState& row, const TokenRows& out,
                          const TokenRows& out_column, float* lse, float* token) {
  for (int r = 0; r < s.side; ++r) {
    if (r + 1 < s.rows) fetch_token_row(out, s, r + 1);
    if (r + 1 < s.rows && out_column) fetch_token_row(out_column, s, r + 1);
    for (int c = 0; c < s.side; ++c) {
      const int at = r * s.side + c;
      if (r >= s.rows || c >= s.columns) {
        write_zero_token(out, at, s.dim);
        if (out_column) write_zero_token(out_column, at, s.dim);
        if (lse != nullptr) lse[at] = lse[s.tokens() + at] = kMinusInfinity;
        continue;
      }
      const int line = r * kLine + c;
      const Vec column_share = broadcast(1.0f / column.sum[line]), row_share = broadcast(1.0f / row.sum[line]);
      const float* from_column = column.out + static_cast<int64_t>(at) * s.dim;
      const float* from_row = row.out + static_cast<int64_t>(at) * s.dim;
      if (out_column) {
        for (int d = 0; d < s.dim; d += kWidth) store(token + d, mul(load(from_column + d), column_share));
        write_token(out_column, at, s.dim, token);
      }
      for (int d = 0; d < s.dim; d += kWidth)
        store(token + d, fma(load(from_column + d), column_share, mul(load(from_row + d), row_share)));
      write_token(out, at, s.dim, token);
      if (lse != nullptr) {
        lse[at] = (column.maximum[line] + __builtin_log2f(column.sum[line])) * kLn2;
        lse[s.tokens() + at] = (row.maximum[line] + __builtin_log2f(row.sum[line])) * kLn2;
      }
    }
  }
}

// Nothing remembered (or no real token): every query gives 0.
inline void write_nothing(const UnitShape& s, const TokenRows& out, const TokenRows& out_column, float* lse) {
  for (int at = 0; at < s.tokens(); ++at) {
    write_zero_token(out, at, s.dim);
    if (out_column) write_zero_token(out_column, at, s.dim);
    if (lse != nullptr) lse[at] = lse[s.tokens() + at] = kMinusInfinity;
  }
}

template <class Format>
inline void attend_unit(const UnitMemory<Format>& memory, const UnitShape& s, const PaddedToken& padded, double scale,
                        const TokenRows& q, const TokenRows& out, const TokenRows& out_column, float* lse) {
  if (memory.frames == 0 || s.rows == 0 || s.columns == 0) return write_nothing(s, out, out_column, lse);
  const AttendScratch<Format> a = AttendScratch<Format>::make(thread_scratch<0>(), s, memory.frames);
  const int steps = s.dim / Format::kDims, per_token = steps * Format::kQueriesPerKey;
  for (int r = 0; r < s.rows; ++r) {
    if (r + 1 < s.rows) fetch_token_row(q, s, r + 1);
    pack_query_row<Format>(q, s, r, static_cast<float>(scale) * kLog2e, a.token, a.row_queries, a.column_queries);
    begin_row(s, r, memory.frames, padded, a.token, a.column, a.row);
  }

  alignas(64) float column_maximum[kLine * kLine];
  ScoreOperands<Format> keys;
  keys.frame_stride = memory.k_frame;
  keys.step_stride = s.side;
  keys.steps = steps;
  keys.lanes = first_of_line(s.columns);
  for (int first = 0; first < memory.frames; first += kChunkFrames) {
    const int frames = memory.frames - first < kChunkFrames ? memory.frames - first : kChunkFrames;
    for (int i = 0; i < s.rows * kLine; i += kWidth) store(column_maximum + i, load(a.column.maximum + i));
    for (int h = 0; h < s.rows; ++h) {
      keys.keys = memory.k + h * memory.k_row + first * memory.k_frame;
      keys.queries = a.row_queries + static_cast<int64_t>(h) * s.side * per_token;
      keys.query_stride = per_token;
      // What comes next: the following image row, the first one of the next chunk, or that of the next unit.
      const bool last = h + 1 == s.rows, done = last && first + frames == memory.frames;
      const int64_t next_row = done ? s.side : last ? 0 : h + 1;
      const int64_t next_first = done ? 0 : last ? first + frames : first;
      Ahead next_keys{reinterpret_cast<const char*>(memory.k + next_row * memory.k_row + next_first * memory.k_frame),
                      64};
      Ahead next_values{reinterpret_cast<const char*>(memory.v + next_row * memory.v_row + next_first * memory.v_frame),
                        128};
      scores<Format, false>(keys, s.columns, frames, {a.row_scores, s.columns * kLine, kLine}, next_keys);
      softmax_row(a, s, h, frames);
      gather_row(a, memory, s, h, first, frames, next_keys);

      keys.queries = a.column_queries;
      keys.query_stride = per_token * kLine + kQueryPad;
      float* column_scores = a.column_scores + static_cast<int64_t>(h) * frames * s.rows * kLine;
      scores<Format, true>(keys, s.rows, frames, {column_scores, s.rows * kLine, kLine}, next_values);
      raise_column_maximum(column_scores, s, frames, column_maximum);
    }
    for (int r = 0; r < s.rows; ++r) {
      alignas(64) float factor[kLine];
      renew_line(a.column, r, column_maximum + r * kLine, factor);
      rescale_row(a.column, factor, s, r);
    }
    softmax_column(a, s, frames);
    gather_column(a, memory, s, first, frames);
  }
  write_results(s, a.column, a.row, out, out_column, lse, a.token);
}

// The padded token of a unit's head, read into `storage` [2 * dim].
inline PaddedToken padded_token(const Padding& padding, int64_t head, int dim, float* storage) {
  if (padding.k == nullptr || padding.real == nullptr) return {nullptr, nullptr};
  read_bias(padding.k, padding.dtype, head * padding.stride_k_head, dim, storage);
  read_bias(padding.v, padding.dtype, head * padding.stride_v_head, dim, storage + dim);
  return {storage, storage + dim};
}

constexpr int kMaxDim = 256;  // the fast kernels take head dims up to here

template <class Format>
inline void memory_attend_unit(const AttendParams& p, int64_t unit) {
  const UnitIndex at = unit_index(unit, p.pool.windows, p.pool.heads);
  const UnitShape shape = unit_shape(p.pool.side, p.pool.dim, p.padding.real, at.window);
  const PoolUnit stored = pool_unit(p.pool, p.streams, at);
  const UnitMemory<Format> memory =
      unit_memory<Format>(p.pool, stored, held_frames(stored.cursor->count, p.pool.frames));
  alignas(64) float bias[2 * kMaxDim];
  const int64_t window = at.batch * p.pool.windows + at.window;
  float* lse = p.out_column.data == nullptr ? nullptr : static_cast<float*>(p.lse) + unit * 2 * shape.tokens();
  attend_unit(memory, shape, padded_token(p.padding, at.head, shape.dim, bias), p.scale, rows_of(p.q, window, at.head),
              rows_of(p.out, window, at.head), rows_of(p.out_column, window, at.head), lse);
}

template <class Bf16Format>
inline void memory_attend(const AttendParams& p, int64_t begin, int64_t end) {
  for (int64_t unit = begin; unit < end; ++unit) {
    if (p.pool.dtype == Dtype::kFloat32) {
      memory_attend_unit<Float32>(p, unit);
    } else {
      memory_attend_unit<Bf16Format>(p, unit);
    }
  }
}

}  // namespace svm::cpu::SVM_ISA
