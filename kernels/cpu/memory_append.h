// One frame's keys and values of one unit go into their ring slot, in the order in which an attend reads them.
//
// What an append costs is memory, so that each loop asks for what the next image row will need, a line or two a round:
// its tokens lie as far apart as the projection's whole output, its places in the ring a whole ring further on, where
// no hardware prefetcher looks.
#pragma once

#include <cstdint>

#include "cpu/scratch.h"
#include "cpu/tile.h"
#include "cpu/tokens.h"
#include "cpu/unit.h"
#include "svm/params.h"

namespace svm::cpu::SVM_ISA {

// Columns [column, columns) of image row `row` of a tensor's unit.
struct RowTokens {
  TokenRows tokens;
  UnitShape shape;
  int row;

  void read(int column, float* to) const { read_token(tokens, row * shape.side + column, shape.dim, to); }
  void read(int column, uint16_t* to) const { read_token_bf16(tokens, row * shape.side + column, shape.dim, to); }
  // The token below, if there is one.
  [[gnu::always_inline]] void fetch_next(int column) const {
    if (row + 1 < shape.rows) fetch_token(tokens, (row + 1) * shape.side + column, shape.dim);
  }
};

// into = (into + from) / 2 over `count` elements, a multiple of 16; sums in fp32, one rounding. What lies `ahead` of
// both is asked for.
template <class T>
inline void average_into(T* into, const T* from, int64_t count, int64_t ahead) {
  const Vec half = broadcast(0.5f);
  for (int64_t i = 0; i < count; i += kLine) {
    prefetch(into + i + ahead);
    prefetch(from + i + ahead);
    for (int64_t j = i; j < i + kLine; j += kWidth) store(into + j, mul(add(load(into + j), load(from + j)), half));
  }
}

// Values of an image row: [column][dim], as they come.
template <class T>
inline void store_value_row(const RowTokens& v, T* to, int64_t ahead) {
  const int dim = v.shape.dim;
  for (int c = 0; c < v.shape.columns; ++c, to += dim) {
    v.fetch_next(c);
    fetch(to + ahead, dim);
    v.read(c, to);
  }
}

// Keys of an image row, transposed to [dim][column] or, in bf16, to [dim / 2][column] pairs. `room` holds side * dim
// numbers.
template <class T>
inline void store_key_row(const RowTokens& k, T* room, T* to, int64_t ahead) {
  const int dim = k.shape.dim, side = k.shape.side, columns = k.shape.columns;
  for (int c = 0; c < columns; ++c) {
    k.fetch_next(c);
    fetch(to + ahead + c * dim, dim);
    k.read(c, room + c * dim);
  }
  const int words = dim * static_cast<int>(sizeof(T)) / 4;
  const float* from = reinterpret_cast<const float*>(room);
  for (int d = 0; d < words; d += kLine)
    transpose16(from + d, words, columns, kLine, reinterpret_cast<float*>(to) + static_cast<int64_t>(d) * side, side,
                columns);
}

// T is the type of a stored number.
template <class T>
inline void append_unit(const AppendParams& p, UnitIndex at) {
  const UnitShape s = unit_shape(p.pool.side, p.pool.dim, p.real, at.window);
  const PoolUnit stored = pool_unit(p.pool, p.streams, at);
  const int64_t stream = p.streams == nullptr ? at.batch : p.streams[at.batch];
  const AppendPlan plan = plan_append(*stored.cursor, p.step[stream], p.pool.frames, p.evict);

  const int64_t frame = p.pool.dim * p.pool.side;  // elements of one image row of one frame
  const int64_t window = at.batch * p.pool.windows + at.window;
  const TokenRows k = rows_of(p.k, window, at.head), v = rows_of(p.v, window, at.head);
  Scratch& scratch = thread_scratch<0>();
  scratch.begin(Scratch::room<T>(frame));
  T* room = scratch.take<T>(frame);
  const int64_t ahead = stored.row_elements;  // beyond a unit's last row lies the next unit
  for (int h = 0; h < s.rows; ++h) {
    T* k_row = static_cast<T*>(stored.k) + h * stored.row_elements;
    T* v_row = static_cast<T*>(stored.v) + h * stored.row_elements;
    if (plan.merge_slot >= 0) {
      average_into(k_row + plan.merge_slot * frame, k_row + plan.slot * frame, frame, ahead);
      average_into(v_row + plan.merge_slot * frame, v_row + plan.slot * frame, frame, ahead);
    }
    store_key_row(RowTokens{k, s, h}, room, k_row + plan.slot * frame, ahead);
    store_value_row(RowTokens{v, s, h}, v_row + plan.slot * frame, ahead);
  }
  *stored.cursor = plan.after;
}

inline void memory_append(const AppendParams& p, int64_t begin, int64_t end) {
  for (int64_t unit = begin; unit < end; ++unit) {
    const UnitIndex at = unit_index(unit, p.pool.windows, p.pool.heads);
    if (p.pool.dtype == Dtype::kFloat32) {
      append_unit<float>(p, at);
    } else {
      append_unit<uint16_t>(p, at);
    }
  }
}

}  // namespace svm::cpu::SVM_ISA
