// All frames of a clip at once: the unit's keys and values are packed once, as the pool would hold them, and every
// frame attends to its own stretch of them.
#pragma once

#include <cstdint>

#include "cpu/memory_append.h"
#include "cpu/memory_attend.h"
#include "cpu/memory_attend_backward.h"

namespace svm::cpu::SVM_ISA {

// The whole clip of one unit in the order of a pool: k [row][frame][dim / kDims][column], v [row][frame][column][dim].
template <class Format>
struct PackedClip {
  typename Format::Key* k;
  typename Format::Value* v;
  int64_t frame, row;  // elements of one image row of one frame, of one image row of all frames

  static size_t room(const ClipShape& c) {
    const int64_t elements = c.side * c.side * c.clip_frames * c.dim;
    return Scratch::room<typename Format::Value>(elements + kLine) + Scratch::room<typename Format::Value>(elements);
  }

  static PackedClip pack(const ClipShape& c, const UnitShape& s, const ClipView& k, const ClipView& v, UnitIndex at,
                         Scratch& scratch) {
    using Value = typename Format::Value;
    PackedClip packed;
    packed.frame = c.dim * c.side;
    packed.row = packed.frame * c.clip_frames;
    Value* keys = scratch.take<Value>(packed.row * c.side + kLine);
    packed.k = reinterpret_cast<typename Format::Key*>(keys);
    packed.v = scratch.take<Value>(packed.row * c.side);
    float* tokens = scratch.take<float>(s.side * s.dim);
    for (int64_t t = 0; t < c.clip_frames; ++t) {
      const TokenRows from_k = rows_of(k, at.batch, t, at.window, at.head);
      const TokenRows from_v = rows_of(v, at.batch, t, at.window, at.head);
      for (int h = 0; h < s.rows; ++h) {
        const int64_t to = h * packed.row + t * packed.frame;
        store_key_row(from_k, s, h, tokens, reinterpret_cast<typename Format::Key*>(keys + to));
        store_value_row(from_v, s, h, packed.v + to);
      }
    }
    return packed;
  }

  // What frame t sees.
  UnitMemory<Format> seen_by(int64_t t, const ClipShape& c) const {
    const int64_t first = first_frame(t, c.memory_frames, c.evict);
    UnitMemory<Format> memory;
    memory.k_frame = frame / Format::kDims;
    memory.k_row = row / Format::kDims;
    memory.v_frame = frame;
    memory.v_row = row;
    memory.k = k + first * memory.k_frame;
    memory.v = v + first * memory.v_frame;
    memory.frames = static_cast<int>(t - first + 1);
    return memory;
  }
};

inline int64_t clip_lse_offset(const ClipShape& c, UnitIndex at, int64_t t) {
  return (((at.batch * c.clip_frames + t) * c.windows + at.window) * c.heads + at.head) * 2 * c.side * c.side;
}

template <class Format>
inline void clip_attend_unit(const ClipParams& p, int64_t unit) {
  const ClipShape& c = p.shape;
  const UnitIndex at = unit_index(unit, c.windows, c.heads);
  const UnitShape s = unit_shape(c.side, c.dim, p.padding.real, at.window);
  alignas(64) float bias[2 * kMaxDim];
  const PaddedToken padded = padded_token(p.padding, at.head, s.dim, bias);
  Scratch& scratch = thread_scratch<1>();
  scratch.begin(PackedClip<Format>::room(c) + Scratch::room<float>(s.side * s.dim));
  const auto packed = PackedClip<Format>::pack(c, s, p.k, p.v, at, scratch);
  for (int64_t t = 0; t < c.clip_frames; ++t) {
    float* lse = p.out_column.data == nullptr ? nullptr : static_cast<float*>(p.lse) + clip_lse_offset(c, at, t);
    attend_unit(packed.seen_by(t, c), s, padded, p.scale, rows_of(p.q, at.batch, t, at.window, at.head),
                rows_of(p.out, at.batch, t, at.window, at.head), rows_of(p.out_column, at.batch, t, at.window, at.head),
                lse);
  }
}

// Keys as [row][frame][column][dim] and values as [row][frame][dim][16], in fp32, for the whole clip of one unit.
struct TurnedClip {
  float* keys;
  float* values;
  int64_t key_frame, value_frame, frames;

  static size_t room(const ClipShape& c) {
    return Scratch::room<float>(c.side * c.clip_frames * c.side * c.dim) +
           Scratch::room<float>(c.side * c.clip_frames * c.dim * kLine);
  }
  static TurnedClip turn(const ClipShape& c, const UnitShape& s, const ClipView& k, const ClipView& v, UnitIndex at,
                         float* tokens, Scratch& scratch) {
    TurnedClip turned;
    turned.frames = c.clip_frames;
    turned.key_frame = c.side * c.dim;
    turned.value_frame = c.dim * kLine;
    turned.keys = scratch.take<float>(c.side * c.clip_frames * turned.key_frame);
    turned.values = scratch.take<float>(c.side * c.clip_frames * turned.value_frame);
    for (int64_t t = 0; t < c.clip_frames; ++t) {
      const TokenRows from_k = rows_of(k, at.batch, t, at.window, at.head);
      const TokenRows from_v = rows_of(v, at.batch, t, at.window, at.head);
      for (int h = 0; h < s.rows; ++h) {
        const int64_t index = h * c.clip_frames + t;
        store_value_row(from_k, s, h, turned.keys + index * turned.key_frame);
        store_value_row(from_v, s, h, tokens);
        for (int d = 0; d < s.dim; d += kLine)
          transpose16(tokens + d, s.dim, s.columns, kLine,
                      turned.values + index * turned.value_frame + static_cast<int64_t>(d) * kLine, kLine, kLine);
      }
    }
    return turned;
  }
  TurnedRow row(int h, int64_t first) const {
    const int64_t index = h * frames + first;
    return {keys + index * key_frame, values + index * value_frame, key_frame, value_frame};
  }
};

template <class Format>
inline void clip_attend_backward_unit(const ClipBackwardParams& p, int64_t unit) {
  const ClipShape& c = p.shape;
  const UnitIndex at = unit_index(unit, c.windows, c.heads);
  const UnitShape s = unit_shape(c.side, c.dim, p.padding.real, at.window);
  alignas(64) float bias[2 * kMaxDim];
  const PaddedToken padded = padded_token(p.padding, at.head, s.dim, bias);
  const AttendScratch<Format> a = AttendScratch<Format>::make(thread_scratch<0>(), s, 1);
  Scratch& scratch = thread_scratch<1>();
  scratch.begin(PackedClip<Format>::room(c) + Scratch::room<float>(s.side * s.dim) + TurnedClip::room(c) +
                BackwardScratch::room(s));
  BackwardScratch b;
  b.take_from(scratch, s);
  const auto packed = PackedClip<Format>::pack(c, s, p.k, p.v, at, scratch);
  const auto turned = TurnedClip::turn(c, s, p.k, p.v, at, b.token, scratch);
  for (int64_t t = 0; t < c.clip_frames; ++t) {
    const BackwardTensors tensors{
        rows_of(p.dout, at.batch, t, at.window, at.head), rows_of(p.q, at.batch, t, at.window, at.head),
        rows_of(p.out, at.batch, t, at.window, at.head),  rows_of(p.out_column, at.batch, t, at.window, at.head),
        rows_of(p.dq, at.batch, t, at.window, at.head),   static_cast<const float*>(p.lse) + clip_lse_offset(c, at, t)};
    if (s.rows == 0 || s.columns == 0) {
      zero_dq(s, tensors.dq);
      continue;
    }
    const int64_t seen_from = first_frame(t, c.memory_frames, c.evict);
    const auto turn_row = [&](int h, int first, int) { return turned.row(h, seen_from + first); };
    attend_backward_unit(packed.seen_by(t, c), s, padded, p.scale, tensors, a, b, turn_row);
  }
}

template <class Bf16Format>
inline void clip_attend(const ClipParams& p, int64_t begin, int64_t end) {
  for (int64_t unit = begin; unit < end; ++unit) {
    if (p.k.dtype == Dtype::kFloat32) {
      clip_attend_unit<Float32>(p, unit);
    } else {
      clip_attend_unit<Bf16Format>(p, unit);
    }
  }
}

template <class Bf16Format>
inline void clip_attend_backward(const ClipBackwardParams& p, int64_t begin, int64_t end) {
  for (int64_t unit = begin; unit < end; ++unit) {
    if (p.k.dtype == Dtype::kFloat32) {
      clip_attend_backward_unit<Float32>(p, unit);
    } else {
      clip_attend_backward_unit<Bf16Format>(p, unit);
    }
  }
}

}  // namespace svm::cpu::SVM_ISA
