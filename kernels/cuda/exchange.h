// How results leave a block: exchanged between warps through shared memory, or as shares that another kernel adds.
#pragma once

#include <cuda_runtime.h>

#include "cuda/feed.h"
#include "cuda/plane.h"

namespace svm::cuda {

// What lies in shared memory before the tiles.
template <int kWarps, int kDim>
struct alignas(kTileAlign) AttendNotes {
  Feed feeds[kWarps];
  alignas(16) float pads[2][kDim];  // key and value of padded tokens
  // By warp and query level and weight of warps that share a row; in a backward by token the deltas of both planes.
  float numbers[2][kWarps * kKeys];
};

struct alignas(8) Pair {
  float low, high;
};

// Calls body(token, i) for the queries g and g + 8 of a lane that are among the first `count`, i being 0 or 1: the sums
// of such a query are sums[j][2 i] and its neighbour. Query q is token first + q * step.
template <typename Body>
__device__ void for_queries(int first, int step, int count, const Body& body) {
  const int first_query = ptx::anew(lane_id()) / 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int query = first_query + 8 * i;
    if (query < count) body(first + query * step, i);
  }
}

// Leaves sums in the exchange.
template <int kDim>
__device__ void put_sums(float* exchange, const float (&sums)[kDim / 8][4], int first, int step, int count) {
  for_queries(first, step, count, [&](int token, int i) {
    const int place = exchange_first(token, lane_id() % 4 * 2, kDim);
#pragma unroll
    for (int j = 0; j < kDim / 8; ++j) {
      *reinterpret_cast<Pair*>(exchange + exchange_from(place, j)) = {sums[j][2 * i], sums[j][2 * i + 1]};
    }
  });
}

// Adds to what lies there.
template <int kDim>
__device__ void add_sums(float* exchange, const float (&sums)[kDim / 8][4], int first, int step, int count) {
  for_queries(first, step, count, [&](int token, int i) {
    const int place = exchange_first(token, lane_id() % 4 * 2, kDim);
#pragma unroll
    for (int j = 0; j < kDim / 8; ++j) {
      Pair& pair = *reinterpret_cast<Pair*>(exchange + exchange_from(place, j));
      pair = {pair.low + sums[j][2 * i], pair.high + sums[j][2 * i + 1]};
    }
  });
}

// Leaves them in global memory, token after token.
template <int kDim>
__device__ void share_sums(float* target, const float (&sums)[kDim / 8][4], int first, int step, int count) {
  for_queries(first, step, count, [&](int token, int i) {
    float* place = target + int64_t{token} * kDim + lane_id() % 4 * 2;
#pragma unroll
    for (int j = 0; j < kDim / 8; ++j) {
      *reinterpret_cast<Pair*>(place + 8 * j) = {sums[j][2 * i], sums[j][2 * i + 1]};
    }
  });
}

// One number a query.
__device__ inline void share_lse(float* target, Two lse, int first, int step, int count, float unit) {
  if (lane_id() % 4 != 0) return;
  const int query = lane_id() / 4;
  if (query < count) target[first + query * step] = lse.low * unit;
  if (query + 8 < count) target[first + (query + 8) * step] = lse.high * unit;
}

// Key and value of padded tokens of one head, by the first kDim threads.
template <int kDim>
__device__ void read_pads(const Padding& padding, int head, float (&pads)[2][kDim]) {
  const int dim = static_cast<int>(threadIdx.x);
  if (dim >= kDim) return;
  pads[0][dim] = read_number(padding.k, padding.dtype, head * padding.stride_k_head + dim);
  pads[1][dim] = read_number(padding.v, padding.dtype, head * padding.stride_v_head + dim);
}

// Stores eight numbers at `offset` of a view.
template <typename Element>
__device__ void store_chunk(const FramesView& view, int64_t offset, const float (&numbers)[kChunkNumbers]) {
  if (view.whole) {
    Chunk chunk;
#pragma unroll
    for (int i = 0; i < 4; ++i) chunk.pairs[i] = ptx::pack<Element>(numbers[2 * i], numbers[2 * i + 1]);
    *reinterpret_cast<Chunk*>(static_cast<Element*>(view.data) + offset) = chunk;
    return;
  }
#pragma unroll
  for (int i = 0; i < kChunkNumbers; ++i) write_number(view.data, view.dtype, offset + i * view.stride_dim, numbers[i]);
}

// Stores all tokens of a unit from the exchange; zeros beyond the picture. All threads of the block.
template <typename Element, int kDim>
__device__ void store_tokens(const FramesView& view, const Work& work, const float* exchange, int side) {
  constexpr int kChunks = kDim / kChunkNumbers;
  const int64_t unit = line_offset(view, work, work.batch, work.frame, 0);
  for (int i = ptx::anew(static_cast<int>(threadIdx.x)); i < side * side * kChunks; i += static_cast<int>(blockDim.x)) {
    const int token = i / kChunks, chunk = i % kChunks;
    const int row = token / side, column = token % side;
    float numbers[kChunkNumbers] = {};
    if (work.in_picture(row, column)) {
      const float* place = exchange + exchange_from(exchange_first(row * pitch(side) + column, 0, kDim), chunk);
#pragma unroll
      for (int j = 0; j < kChunkNumbers; ++j) numbers[j] = place[j];
    }
    const int64_t at = unit + row * view.stride_row + column * view.stride_column + chunk * 8 * view.stride_dim;
    store_chunk<Element>(view, at, numbers);
  }
}

// -inf for the tokens beyond the picture, in both planes. All threads of the block.
__device__ inline void store_lse_beyond(float* lse, const Work& work, int side) {
  for (int token = ptx::anew(static_cast<int>(threadIdx.x)); token < side * side;
       token += static_cast<int>(blockDim.x)) {
    if (work.in_picture(token / side, token % side)) continue;
    lse[token] = lse[side * side + token] = kNone;
  }
}

// The row plane of the rows whose keys several warps had: each has left its sums in the exchange as the line of its
// own, and its level and weight beside it. All threads of the block.
template <int kWarps, int kDim>
__device__ void join_rows(const AttendArgs& args, const Work& work, const AttendNotes<kWarps, kDim>& notes,
                          const float* exchange, int side) {
  constexpr int kPairs = kDim / 2;
  const int64_t unit = work.unit * side * side;
  const int numbers = (work.row_end - work.row_begin) * work.real_columns * kPairs;
  for (int i = ptx::anew(static_cast<int>(threadIdx.x)); i < numbers; i += static_cast<int>(blockDim.x)) {
    const int dim = i % kPairs * 2;
    const int query = i / kPairs % work.real_columns, row = i / kPairs / work.real_columns;
    const int first = row * args.group;
    float level = kNone;
    for (int warp = first; warp < first + args.group; ++warp) {
      level = fmaxf(level, notes.numbers[0][warp * kKeys + query]);
    }
    const float safe = level == kNone ? 0.f : level;
    float weight = 0.f;
    Pair sum = {0.f, 0.f};
    for (int warp = first; warp < first + args.group; ++warp) {
      const float fade = ptx::exp2(notes.numbers[0][warp * kKeys + query] - safe);
      const int place = exchange_first(warp * pitch(side) + query, dim % kChunkNumbers, kDim);
      const Pair part = *reinterpret_cast<const Pair*>(exchange + exchange_from(place, dim / kChunkNumbers));
      weight += fade * notes.numbers[1][warp * kKeys + query];
      sum = {sum.low + fade * part.low, sum.high + fade * part.high};
    }
    const float share = weight == 0.f ? 0.f : 1.f / weight;
    const int64_t token = unit + (work.row_begin + row) * side + query;
    *reinterpret_cast<Pair*>(args.shares.row + token * kDim + dim) = {sum.low * share, sum.high * share};
    if (dim == 0) args.shares.row_lse[token] = weight == 0.f ? kNone : level + log2f(weight);
  }
}

// The same of plain sums.
template <int kDim>
__device__ void add_rows(const AttendArgs& args, const Work& work, const float* exchange, int side) {
  constexpr int kPairs = kDim / 2;
  const int numbers = (work.row_end - work.row_begin) * work.real_columns * kPairs;
  const int64_t unit = work.unit * side * side;
  for (int i = ptx::anew(static_cast<int>(threadIdx.x)); i < numbers; i += static_cast<int>(blockDim.x)) {
    const int dim = i % kPairs * 2;
    const int query = i / kPairs % work.real_columns, row = i / kPairs / work.real_columns;
    Pair sum = {0.f, 0.f};
    for (int warp = row * args.group; warp < (row + 1) * args.group; ++warp) {
      const int place = exchange_first(warp * pitch(side) + query, dim % kChunkNumbers, kDim);
      const Pair part = *reinterpret_cast<const Pair*>(exchange + exchange_from(place, dim / kChunkNumbers));
      sum = {sum.low + part.low, sum.high + part.high};
    }
    const int64_t token = unit + (work.row_begin + row) * side + query;
    *reinterpret_cast<Pair*>(args.shares.row + token * kDim + dim) = sum;
  }
}

}  // namespace svm::cuda
