// Where things of one unit lie: its indices, its part of the pool, its tokens in a caller's tensor.
#pragma once

#include "cpu/generic/numbers.h"
#include "svm/params.h"

namespace svm::cpu::generic {

// A unit's number taken apart, ((row * W) + window) * H + head.
struct Unit {
  Unit(int64_t number, int64_t windows, int64_t heads)
      : row(number / heads / windows), window(number / heads % windows), head(number % heads) {}

  int64_t row, window, head;
};

// The part of a window that is no padding.
struct Picture {
  Picture(const int32_t* real, int64_t window, int64_t side)
      : rows(real ? real[2 * window] : side), columns(real ? real[2 * window + 1] : side) {}

  bool has(int64_t r, int64_t c) const { return r < rows && c < columns; }

  int64_t rows, columns;
};

// One unit of the pool. A token is (row r, frame t, column c); d is a channel of it.
struct UnitPool {
  UnitPool(const PoolView& pool, const Unit& unit, const int64_t* streams)
      : side(pool.side), frames(pool.frames), dim(pool.dim), group(pool.dtype == Dtype::kBFloat16 ? 2 : 1) {
    stream = streams ? streams[unit.row] : unit.row;
    const int64_t index = (stream * pool.windows + unit.window) * pool.heads + unit.head;
    start = index * side * frames * side * dim;
    cursor = pool.cursor + index;
  }

  // k [row, frame, d / g, column, d % g]
  int64_t key(int64_t r, int64_t t, int64_t c, int64_t d) const {
    return start + (((r * frames + t) * (dim / group) + d / group) * side + c) * group + d % group;
  }
  // v [row, frame, column, d]
  int64_t value(int64_t r, int64_t t, int64_t c, int64_t d) const {
    return start + ((r * frames + t) * side + c) * dim + d;
  }

  int64_t side, frames, dim, group, stream, start;
  RingCursor* cursor;
};

// The tokens of one frame of one unit in a caller's tensor.
struct UnitTokens {
  UnitTokens(const TokenView& view, int64_t windows, const Unit& unit)
      : data(view.data), dtype(view.dtype), stride_token(view.stride_token), stride_dim(view.stride_dim) {
    start = (unit.row * windows + unit.window) * view.stride_window + unit.head * view.stride_head;
  }
  UnitTokens(const ClipView& view, int64_t frame, const Unit& unit)
      : data(view.data), dtype(view.dtype), stride_token(view.stride_token), stride_dim(view.stride_dim) {
    start = unit.row * view.stride_batch + frame * view.stride_frame + unit.window * view.stride_window +
            unit.head * view.stride_head;
  }

  template <class Number>
  void read(int64_t token, int64_t dim, Number* to) const {
    for (int64_t d = 0; d < dim; ++d) to[d] = load<Number>(data, dtype, start + token * stride_token + d * stride_dim);
  }
  template <class Number>
  void write(int64_t token, int64_t dim, const Number* from) const {
    for (int64_t d = 0; d < dim; ++d) store(data, dtype, start + token * stride_token + d * stride_dim, from[d]);
  }

  void* data;
  Dtype dtype;
  int64_t start, stride_token, stride_dim;
};

}  // namespace svm::cpu::generic
