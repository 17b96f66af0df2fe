// One warp's part of one plane: the softmax attention of the 16 queries of a line (rows of a column, or columns of a
// row; 14 take 16 places) over 16 keys at a time.
//
// Registers, with g = lane / 4 and t = lane % 4: a lane holds of the logits [16 queries, 16 keys] those of the queries
// g and g + 8 and the keys 2t, 2t + 1, 2t + 8, 2t + 9, as two fragments of mma sums; and of sums [16 queries, D] those
// of the same queries and the dims 8 j + 2t, 8 j + 2t + 1. The logits' fragments are, converted, the first factor of
// the product with the values, so that nothing passes through memory between the two products.
//
// A key that is not there is told as what the logits' sums start with: 0 or -inf. What lies in its place is finite,
// zeros or another key's value, for 0 * NaN would not be 0.
#pragma once

#include <cuda_runtime.h>

#include "cuda/heuristics.h"
#include "cuda/numbers.h"
#include "cuda/ptx/convert.h"
#include "cuda/ptx/exp2.h"
#include "cuda/ptx/ldmatrix.h"
#include "cuda/ptx/mma.h"
#include "cuda/tile.h"

namespace svm::cuda {

constexpr uint32_t kAllLanes = 0xffffffffu;

// Sums start again only when a logit exceeds the level by this much (in powers of two): the level need not be the
// maximum, only near enough for 2^(logit - level) to keep its digits and to stay within fp16.
constexpr float kSlack = 8.f;

__device__ inline int lane_id() { return static_cast<int>(threadIdx.x) % kWarp; }

// Over the four lanes that share two queries.
__device__ inline float max_of_four(float x) {
  x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, 1));
  return fmaxf(x, __shfl_xor_sync(kAllLanes, x, 2));
}

__device__ inline float sum_of_four(float x) {
  x += __shfl_xor_sync(kAllLanes, x, 1);
  return x + __shfl_xor_sync(kAllLanes, x, 2);
}

// Places in shared memory that a lane names to ldmatrix, less the tile's start: tokens as columns of the second factor
// (see mma.h), and as its rows. The first factor's quarters are the same four matrices as those of rows, in their
// order: queries are named like values.
struct KeyPlaces {
  uint32_t as_columns, as_rows;
};

// Where the 16 tokens lie that begin with `first`, `step` places apart; beyond `last` the last one stands in.
template <int kDim>
__device__ KeyPlaces key_places(int first, int step, int last) {
  using Layout = TokenLayout<kDim>;
  const int lane = lane_id();
  const int key = min(key_of_lane(lane), last), value = min(value_of_lane(lane), last);
  return {static_cast<uint32_t>(Layout::place(first + key * step, key_chunk_of_lane(lane))),
          static_cast<uint32_t>(Layout::place(first + value * step, value_chunk_of_lane(lane)))};
}

// What the logits start with, of the keys that a lane holds, where bit i of `keys` says whether key i is there.
__device__ inline void start_logits(float (&logits)[2][4], uint32_t keys) {
  const uint32_t mine = keys >> (lane_id() % 4 * 2);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      logits[half][i] = logits[half][i + 2] = (mine >> (8 * half + i) & 1) != 0 ? 0.f : kNone;
    }
  }
}

// products [16 queries, 16 keys] += queries keys^T, both named by their places.
template <typename Element, int kDim>
__device__ void multiply_keys(float (&products)[2][4], uint32_t queries, uint32_t keys) {
#pragma unroll
  for (int step = 0; step < kDim / 16; ++step) {
    uint32_t a[4], b[4];
    ptx::load_matrices(a, TokenLayout<kDim>::step_from(queries, step));
    ptx::load_matrices(b, TokenLayout<kDim>::step_from(keys, step));
    ptx::multiply<Element>(products[0], a, b[0], b[1]);
    ptx::multiply<Element>(products[1], a, b[2], b[3]);
  }
}

// sums [16 queries, D] += weights [16 queries, 16 keys] values.
template <typename Element, int kDim>
__device__ void multiply_values(float (&sums)[kDim / 8][4], const float (&weights)[2][4], uint32_t values) {
  uint32_t a[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) a[i] = ptx::pack<Element>(weights[i / 2][i % 2 * 2], weights[i / 2][i % 2 * 2 + 1]);
#pragma unroll
  for (int step = 0; step < kDim / 16; ++step) {
    uint32_t b[4];
    ptx::load_transposed(b, TokenLayout<kDim>::step_from(values, step));
    ptx::multiply<Element>(sums[2 * step], a, b[0], b[1]);
    ptx::multiply<Element>(sums[2 * step + 1], a, b[2], b[3]);
  }
}

// The softmax of 16 queries so far. `weight` is a lane's own part of the sum; `level` is the same in the four lanes of
// a query.
template <int kDim>
struct Softmax {
  float sums[kDim / 8][4];
  float level[2], weight[2];

  __device__ void start() {
#pragma unroll
    for (auto& fragment : sums) fragment[0] = fragment[1] = fragment[2] = fragment[3] = 0.f;
    level[0] = level[1] = kNone;
    weight[0] = weight[1] = 0.f;
  }

  // Starts with one key of this logit, the same in the four lanes of a query, and this value [D].
  __device__ void start_with(Two logit, const float* value) {
    const int dim = lane_id() % 4 * 2;
    level[0] = logit.low;
    level[1] = logit.high;
    weight[0] = weight[1] = dim == 0 ? 1.f : 0.f;
#pragma unroll
    for (int i = 0; i < kDim / 8; ++i) {
      sums[i][0] = sums[i][2] = value[8 * i + dim];
      sums[i][1] = sums[i][3] = value[8 * i + dim + 1];
    }
  }

  // Puts the level where these logits are.
  __device__ void raise(const float (&highest)[2]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float raised = fmaxf(level[i], max_of_four(highest[i]));
      const float fade = ptx::exp2(level[i] - raised);
      level[i] = raised;
      weight[i] *= fade;
#pragma unroll
      for (auto& fragment : sums) {
        fragment[2 * i] *= fade;
        fragment[2 * i + 1] *= fade;
      }
    }
  }

  // Takes 16 keys, at least one of them there. `scale` is not negative.
  template <typename Element>
  __device__ void take(uint32_t queries, uint32_t keys, uint32_t values, uint32_t there, float scale) {
    float logits[2][4];
    start_logits(logits, there);
    multiply_keys<Element, kDim>(logits, queries, keys);
    float highest[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      highest[i] =
          scale * fmaxf(fmaxf(logits[0][2 * i], logits[0][2 * i + 1]), fmaxf(logits[1][2 * i], logits[1][2 * i + 1]));
    }
    const bool far = highest[0] > level[0] + kSlack || highest[1] > level[1] + kSlack;
    if (__any_sync(kAllLanes, far)) raise(highest);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        logits[half][i] = ptx::exp2(fmaf(logits[half][i], scale, -level[i / 2]));
        weight[i / 2] += logits[half][i];
      }
    }
    multiply_values<Element, kDim>(sums, logits, values);
  }

  // Leaves the result in `sums`, 0 where there was no key; returns the log-sum-exps in powers of two.
  __device__ Two finish() {
    float lse[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float total = sum_of_four(weight[i]);
      const float share = total == 0.f ? 0.f : 1.f / total;
      lse[i] = total == 0.f ? kNone : level[i] + log2f(total);
#pragma unroll
      for (auto& fragment : sums) {
        fragment[2 * i] *= share;
        fragment[2 * i + 1] *= share;
      }
    }
    return {lse[0], lse[1]};
  }
};

// The queries' products with one key [D] in fp32, in all four lanes of a query.
template <typename Element, int kDim>
__device__ Two products_with(uint32_t queries, const float* key) {
  const int dim = lane_id() % 4 * 2;
  Two sum = {0.f, 0.f};
  for (int step = 0; step < kDim / 16; ++step) {
    uint32_t a[4];
    ptx::load_matrices(a, TokenLayout<kDim>::step_from(queries, step));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const Two q = unpack<Element>(a[i]);
      const float* pair = key + 16 * step + i / 2 * 8 + dim;
      const float product = q.low * pair[0] + q.high * pair[1];
      (i % 2 == 0 ? sum.low : sum.high) += product;
    }
  }
  return {sum_of_four(sum.low), sum_of_four(sum.high)};
}

}  // namespace svm::cuda
