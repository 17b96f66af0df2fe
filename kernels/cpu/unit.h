// One unit (one stream's window and head) as the kernels see it.
#pragma once

#include <cstdint>

#include "svm/params.h"

namespace svm::cpu::SVM_ISA {

struct UnitShape {
  int side, dim;
  int rows, columns;  // the real part of the window
  int tokens() const { return side * side; }
};

// The keys and values that a unit attends to: `frames` frames, from the first one on. Strides in stored elements.
template <class Format>
struct UnitMemory {
  const typename Format::Key* k;    // [row][frame][dim / kDims][column]
  const typename Format::Value* v;  // [row][frame][column][dim]
  int64_t k_row, k_frame;
  int64_t v_row, v_frame;
  int frames;
};

// The key and value that all padded tokens of a unit have, in fp32; k == nullptr where there are none.
struct PaddedToken {
  const float* k;
  const float* v;
};

struct UnitIndex {
  int64_t batch, window, head;
};
inline UnitIndex unit_index(int64_t unit, int64_t windows, int64_t heads) {
  return {unit / (windows * heads), unit / heads % windows, unit % heads};
}

inline UnitShape unit_shape(int64_t side, int64_t dim, const int32_t* real, int64_t window) {
  UnitShape shape{static_cast<int>(side), static_cast<int>(dim), static_cast<int>(side), static_cast<int>(side)};
  if (real != nullptr) {
    shape.rows = real[2 * window];
    shape.columns = real[2 * window + 1];
  }
  return shape;
}

// The unit's own numbers within a pool: which stream row it is, where its keys and values begin.
struct PoolUnit {
  RingCursor* cursor;
  void* k;
  void* v;
  int64_t row_elements;  // of K and of V alike: frames * dim * side
};
inline PoolUnit pool_unit(const PoolView& pool, const int64_t* streams, UnitIndex at) {
  const int64_t stream = streams == nullptr ? at.batch : streams[at.batch];
  const int64_t unit = (stream * pool.windows + at.window) * pool.heads + at.head;
  const int64_t row = pool.frames * pool.dim * pool.side;
  const int64_t offset = unit * pool.side * row * (pool.dtype == Dtype::kFloat32 ? 4 : 2);
  return {pool.cursor + unit, static_cast<char*>(pool.k) + offset, static_cast<char*>(pool.v) + offset, row};
}

template <class Format>
inline UnitMemory<Format> unit_memory(const PoolView& pool, const PoolUnit& unit, int64_t held) {
  UnitMemory<Format> memory;
  memory.k = static_cast<const typename Format::Key*>(unit.k);
  memory.v = static_cast<const typename Format::Value*>(unit.v);
  memory.k_row = unit.row_elements / Format::kDims;
  memory.k_frame = pool.dim * pool.side / Format::kDims;
  memory.v_row = unit.row_elements;
  memory.v_frame = pool.dim * pool.side;
  memory.frames = static_cast<int>(held);
  return memory;
}

}  // namespace svm::cpu::SVM_ISA
