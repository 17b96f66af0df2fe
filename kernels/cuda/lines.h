// Moves lines of tokens between global and shared memory. This is the one piece that knows how data gets in: a loader
// by bulk tensor copies would take its place, and bring its own arrival in place of the wait.
//
// Whoever owns a line (a warp) loads it, changes it and stores it; others only read it, after the barrier that follows
// the owner's wait.
#pragma once

#include <cuda_runtime.h>

#include "cuda/attend_args.h"
#include "cuda/heuristics.h"
#include "cuda/numbers.h"
#include "cuda/ptx/anew.h"
#include "cuda/ptx/async_copy.h"
#include "cuda/ptx/convert.h"
#include "cuda/ptx/shared.h"
#include "cuda/tile.h"

namespace svm::cuda {

struct alignas(16) Chunk {
  uint32_t pairs[4];
};

// A warp's way through the chunks of a line: a lane keeps to one chunk, of every kStep-th token. Calls body(column,
// chunk).
template <int kDim, typename Body>
__device__ void for_chunks(int side, const Body& body) {
  constexpr int kChunks = TokenLayout<kDim>::kChunks, kStep = kWarp / kChunks;
  const int lane = ptx::anew(static_cast<int>(threadIdx.x) % kWarp);
  const int chunk = lane % kChunks, first = lane / kChunks;
  if (first >= kStep) return;  // of 12 chunks a token two tokens are 24 lanes
#pragma unroll
  for (int column = 0; column < side; column += kStep) {
    if (column + first < side) body(column + first, chunk);
  }
}

// One line of tokens in global memory, of which `columns` are to be had.
struct Line {
  const void* data;
  Dtype dtype;
  bool whole;
  int32_t columns;
  int64_t offset, stride_column, stride_dim;
};

// Loads a line that lies in the kernel's type to the place `first` of a tile, with zeros for the columns that are not
// to be had, which are not read.
template <typename Element, int kDim>
__device__ void copy_line(uint32_t tile, int first, const Element* line, int64_t stride_column, int columns, int side) {
  for_chunks<kDim>(side, [&](int column, int chunk) {
    const Element* from = line + column * stride_column + chunk * kChunkNumbers;
    ptx::copy_async(tile + TokenLayout<kDim>::place(first + column, chunk), from, column < columns);
  });
}

// A chunk of any type and stride.
template <typename Element>
__device__ Chunk gather(const Line& line, int64_t at) {
  Chunk chunk;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float low = read_number(line.data, line.dtype, at + 2 * i * line.stride_dim);
    const float high = read_number(line.data, line.dtype, at + (2 * i + 1) * line.stride_dim);
    chunk.pairs[i] = ptx::pack<Element>(low, high);
  }
  return chunk;
}

// The same of any line.
template <typename Element, int kDim>
__device__ void load_line(char* tile, int first, const Line& line, int side) {
  using Layout = TokenLayout<kDim>;
  if (line.whole) {
    const Element* tokens = static_cast<const Element*>(line.data) + line.offset;
    copy_line<Element, kDim>(ptx::shared_address(tile), first, tokens, line.stride_column, line.columns, side);
    return;
  }
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x) % kWarp; i < side * Layout::kChunks; i += kWarp) {
    const int column = i / Layout::kChunks, chunk = i % Layout::kChunks;
    Chunk taken = {};
    if (column < line.columns) {
      taken =
          gather<Element>(line, line.offset + column * line.stride_column + chunk * kChunkNumbers * line.stride_dim);
    }
    *reinterpret_cast<Chunk*>(tile + Layout::place(first + column, chunk)) = taken;
  }
}

// Stores a line of a tile to the pool, the picture's columns only.
template <typename Element, int kDim>
__device__ void store_line(const char* tile, int first, Element* target, int64_t stride_column, int columns, int side) {
  for_chunks<kDim>(side, [&](int column, int chunk) {
    if (column >= columns) return;
    *reinterpret_cast<Chunk*>(target + column * stride_column + chunk * kChunkNumbers) =
        *reinterpret_cast<const Chunk*>(tile + TokenLayout<kDim>::place(first + column, chunk));
  });
}

// Averages the line at place `from` of one tile into that at place `to` of another, in fp32, rounded once.
template <typename Element, int kDim>
__device__ void merge_line(char* into, int to, const char* oldest, int from, int side) {
  using Layout = TokenLayout<kDim>;
  for_chunks<kDim>(side, [&](int column, int chunk) {
    Chunk& merged = *reinterpret_cast<Chunk*>(into + Layout::place(to + column, chunk));
    const Chunk& other = *reinterpret_cast<const Chunk*>(oldest + Layout::place(from + column, chunk));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const Two a = unpack<Element>(merged.pairs[i]);
      const Two b = unpack<Element>(other.pairs[i]);
      merged.pairs[i] = ptx::pack<Element>(0.5f * (a.low + b.low), 0.5f * (a.high + b.high));
    }
  });
}

// Copies a tile within shared memory, with some bits flipped. All threads of the block.
__device__ inline void keep(const char* tile, char* kept, int bytes, uint32_t flips) {
  for (int i = ptx::anew(static_cast<int>(threadIdx.x)); i < bytes / kChunkBytes; i += static_cast<int>(blockDim.x)) {
    Chunk chunk = reinterpret_cast<const Chunk*>(tile)[i];
#pragma unroll
    for (uint32_t& pair : chunk.pairs) pair ^= flips;
    reinterpret_cast<Chunk*>(kept)[i] = chunk;
  }
}

}  // namespace svm::cuda
