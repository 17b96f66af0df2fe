// One frame's keys and values of one unit go into their ring slot, in the order in which an attend reads them.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "cpu/scratch.h"
#include "cpu/tile.h"
#include "cpu/tokens.h"
#include "cpu/unit.h"
#include "svm/params.h"

namespace svm::cpu::SVM_ISA {

// Values of image row h: [column][dim], as they come.
inline void store_value_row(const TokenRows& v, const UnitShape& s, int h, float* to) {
  for (int c = 0; c < s.columns; ++c) read_token(v, h * s.side + c, s.dim, to + c * s.dim);
}
inline void store_value_row(const TokenRows& v, const UnitShape& s, int h, uint16_t* to) {
  for (int c = 0; c < s.columns; ++c) read_token_bf16(v, h * s.side + c, s.dim, to + c * s.dim);
}

// Keys of image row h, transposed to [dim][column] or, in bf16, to [dim / 2][column] pairs. `tokens` holds side * dim
// floats.
inline void store_key_row(const TokenRows& k, const UnitShape& s, int h, float* tokens, float* to) {
  for (int c = 0; c < s.columns; ++c) read_token(k, h * s.side + c, s.dim, tokens + c * s.dim);
  for (int d = 0; d < s.dim; d += kLine)
    transpose16(tokens + d, s.dim, s.columns, kLine, to + static_cast<int64_t>(d) * s.side, s.side, s.columns);
}
inline void store_key_row(const TokenRows& k, const UnitShape& s, int h, float* tokens, uint32_t* to) {
  for (int c = 0; c < s.columns; ++c)
    read_token_bf16(k, h * s.side + c, s.dim, reinterpret_cast<uint16_t*>(tokens + c * s.dim / 2));
  for (int d = 0; d < s.dim / 2; d += kLine)
    transpose16(tokens + d, s.dim / 2, s.columns, kLine,
                reinterpret_cast<float*>(to) + static_cast<int64_t>(d) * s.side, s.side, s.columns);
}

// into = (into + from) / 2 over `count` elements, a multiple of 16; sums in fp32, one rounding.
template <class T>
inline void average_into(T* into, const T* from, int64_t count) {
  const Vec half = broadcast(0.5f);
  for (int64_t i = 0; i < count; i += kWidth) store(into + i, mul(add(load(into + i), load(from + i)), half));
}

// A slot's image rows lie a whole ring apart, where no hardware prefetcher looks: the next one is asked for while this
// one is written.
template <class T>
inline void fetch_for_writing(const T* p, int64_t count) {
  const char* at = reinterpret_cast<const char*>(p);
  for (int64_t i = 0; i < count * static_cast<int64_t>(sizeof(T)); i += 64) __builtin_prefetch(at + i, 1);
}

// The tokens of an image row lie as far apart as the projection's whole output, each in a page of its own.
inline void fetch_tokens(const TokenRows& rows, const UnitShape& s, int h) {
  if (rows.stride_dim != 1) return;
  const int64_t size = size_of(rows.dtype);
  for (int c = 0; c < s.columns; ++c) {
    const char* token = static_cast<const char*>(rows.data) + (h * s.side + c) * rows.stride_token * size;
    for (int64_t i = 0; i < s.dim * size; i += 64) __builtin_prefetch(token + i);
  }
}

// Format only names the stored types here.
template <class Format>
inline void append_unit(const AppendParams& p, UnitIndex at) {
  const UnitShape s = unit_shape(p.pool.side, p.pool.dim, p.real, at.window);
  const PoolUnit stored = pool_unit(p.pool, p.streams, at);
  const int64_t stream = p.streams == nullptr ? at.batch : p.streams[at.batch];
  const AppendPlan plan = plan_append(*stored.cursor, p.step[stream], p.pool.frames, p.evict);

  using Key = typename Format::Key;
  using Value = typename Format::Value;
  const int64_t frame = p.pool.dim * p.pool.side;  // elements of one image row of one frame
  const int64_t window = at.batch * p.pool.windows + at.window;
  const TokenRows k = rows_of(p.k, window, at.head), v = rows_of(p.v, window, at.head);
  Scratch& scratch = thread_scratch<0>();
  scratch.begin(Scratch::room<float>(s.side * s.dim));
  float* tokens = scratch.take<float>(s.side * s.dim);
  for (int h = 0; h < s.rows; ++h) {
    Value* k_row = static_cast<Value*>(stored.k) + h * stored.row_elements;
    Value* v_row = static_cast<Value*>(stored.v) + h * stored.row_elements;
    if (h + 1 < s.rows) {
      fetch_tokens(k, s, h + 1);
      fetch_tokens(v, s, h + 1);
      for (const Value* next : {k_row + stored.row_elements, v_row + stored.row_elements}) {
        fetch_for_writing(next + plan.slot * frame, frame);
        if (plan.merge_slot >= 0) fetch_for_writing(next + plan.merge_slot * frame, frame);
      }
    }
    if (plan.merge_slot >= 0) {
      average_into(k_row + plan.merge_slot * frame, k_row + plan.slot * frame, frame);
      average_into(v_row + plan.merge_slot * frame, v_row + plan.slot * frame, frame);
    }
    store_key_row(k, s, h, tokens, reinterpret_cast<Key*>(k_row + plan.slot * frame));
    store_value_row(v, s, h, v_row + plan.slot * frame);
  }
  *stored.cursor = plan.after;
}

template <class Bf16Format>
inline void memory_append(const AppendParams& p, int64_t begin, int64_t end) {
  for (int64_t unit = begin; unit < end; ++unit) {
    const UnitIndex at = unit_index(unit, p.pool.windows, p.pool.heads);
    if (p.pool.dtype == Dtype::kFloat32) {
      append_unit<Float32>(p, at);
    } else {
      append_unit<Bf16Format>(p, at);
    }
  }
}

}  // namespace svm::cpu::SVM_ISA
