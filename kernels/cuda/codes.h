// The way of an fp8 pool's lines: their bytes come into a stage as they lie, with the exponents of their frame, and the
// warp that owns a line makes numbers of it, in a tile as the planes read it. All of it in bf16, which has room for
// every exponent and holds every number exactly.
#pragma once

#include <cuda_runtime.h>

#include "cuda/lines.h"
#include "cuda/ptx/scale.h"
#include "cuda/work.h"

namespace svm::cuda {

constexpr int kPieceCodes = 16;  // of one copy

// Where the parts of a stage lie: lines of keys, lines of values, and a pair of exponents a line.
__device__ inline int code_bytes(int lines, int side, int dim) { return lines * side * dim; }

// Loads a warp's line of keys and values of one frame: zeros for the columns that are not to be had. A line without a
// frame is all zeros.
template <int kDim>
__device__ void copy_codes(const AttendArgs& args, const Work& work, int frame, bool exists, char* stage, int side) {
  constexpr int kPieces = kDim / kPieceCodes;
  const int lane = ptx::anew(static_cast<int>(threadIdx.x) % kWarp);
  const int warp = ptx::anew(static_cast<int>(threadIdx.x) / kWarp);
  const int values = code_bytes(args.lines, side, kDim);
  const uint32_t start = ptx::shared_address(stage), line = start + warp * side * kDim;
  const int there = exists ? work.real_columns * kPieces : 0;
  const auto copy = [&](const FramesView& view, int64_t from, uint32_t target) {
    const uint8_t* codes = static_cast<const uint8_t*>(view.data) + (exists ? from + frame * view.stride_frame : 0);
#pragma unroll 1
    for (int piece = lane; piece < side * kPieces; piece += kWarp) {
      ptx::copy_async(target + piece * kPieceCodes, codes + piece * kPieceCodes, piece < there);
    }
  };
  copy(args.k, work.k_line, line);
  copy(args.v, work.v_line, line + values);
  if (lane == 0) {
    const SlotExponents* exponents = slot_exponents(cursor_of(args, work)) + frame;
    const uint32_t target = start + 2 * values + warp * static_cast<int>(sizeof(SlotExponents));
    ptx::copy_async_pair(target, exponents, exists);
  }
}

// The same power of two in both halves, or NaN.
__device__ inline uint32_t twice(float unit) { return ptx::pack<__nv_bfloat16>(unit, unit); }

// Two codes, each in the upper byte of its half, as numbers.
__device__ inline uint32_t numbers_of(uint32_t codes, uint32_t units) {
  // A sign at its place, the rest where bf16 has the lower bits of its exponent: too small by 2^120.
  const uint32_t small = (codes & 0x80008000u) | (codes & 0x7f007f00u) >> 4;
  return ptx::scale(ptx::scale(small, 0x7b807b80u), units);
}

// Makes numbers of a line of codes, a chunk at a time: registers are short.
template <int kDim>
__device__ void decode_line(const char* codes, uint32_t units, char* tile, int first, int side) {
  using Layout = TokenLayout<kDim>;
  const int lane = ptx::anew(static_cast<int>(threadIdx.x) % kWarp);
#pragma unroll 1
  for (int at = lane; at < side * Layout::kChunks; at += kWarp) {
    const uint32_t* eight = reinterpret_cast<const uint32_t*>(codes + at * kChunkNumbers);
    Chunk numbers;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      numbers.pairs[i] = numbers_of(__byte_perm(eight[i / 2], 0, i % 2 == 0 ? 0x1404 : 0x3424), units);
    }
    *reinterpret_cast<Chunk*>(tile + Layout::place(first + at / Layout::kChunks, at % Layout::kChunks)) = numbers;
  }
}

// A warp's line of both tensors; it has landed for this very warp.
template <int kDim>
__device__ void decode_codes(const AttendArgs& args, const char* stage, char* tile, int side) {
  const int warp = ptx::anew(static_cast<int>(threadIdx.x) / kWarp);
  if (warp >= args.lines) return;
  const int values = code_bytes(args.lines, side, kDim);
  const SlotExponents exponents = reinterpret_cast<const SlotExponents*>(stage + 2 * values)[warp];
#pragma unroll 1
  for (int tensor = 0; tensor < 2; ++tensor) {
    const uint32_t units = twice(unit_of(tensor == 0 ? exponents.k : exponents.v));
    decode_line<kDim>(stage + tensor * values + warp * side * kDim, units,
                      tile + tensor * tile_bytes(args.lines, side, kDim), warp * pitch(side), side);
  }
}

}  // namespace svm::cuda
