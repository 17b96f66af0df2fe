// Any sizes: one warp a query, lanes along the head dim, in plain fp32. Reads through the caches, each key as often as
// a query wants it.
#pragma once

#include <cuda_runtime.h>

#include <type_traits>

#include "cuda/heuristics.h"
#include "cuda/numbers.h"
#include "cuda/plane.h"
#include "cuda/work.h"

namespace svm::cuda {

// A token's numbers, lane l having l, l + 32, ...
template <int kPerLane>
struct Spread {
  float part[kPerLane];

  template <typename Read>
  __device__ void fill(int dim, const Read& read) {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int at = lane_id() + kWarp * i;
      part[i] = at < dim ? read(at) : 0.f;
    }
  }

  __device__ float dot(const Spread& other) const {
    float sum = 0.f;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) sum += part[i] * other.part[i];
#pragma unroll
    for (int step = kWarp / 2; step > 0; step /= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
    return sum;
  }

  __device__ void add(float factor, const Spread& other) {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) part[i] += factor * other.part[i];
  }

  __device__ void multiply(float factor) {
#pragma unroll
    for (float& number : part) number *= factor;
  }
};

// One query and its place.
struct Query {
  Work work;
  int row, column;

  __device__ bool in_picture() const { return work.in_picture(row, column); }
  __device__ int64_t offset(const FramesView& view) const {
    return line_offset(view, work, work.batch, work.frame, row) + column * view.stride_column;
  }
  __device__ int64_t lse_place(const AttendArgs& args, int plane) const {
    const int64_t tokens = int64_t{args.side} * args.side;
    return (work.unit * 2 + plane) * tokens + int64_t{row} * args.side + column;
  }
  // Padded keys of a plane's line in all frames.
  __device__ int padded(const AttendArgs& args, int plane) const {
    return (args.side - (plane == 0 ? work.real_rows : work.real_columns)) * work.pass.frames;
  }
};

// The query of this warp, or false beyond the last.
__device__ inline bool query_of(const AttendArgs& args, Query& query) {
  const int64_t tokens = int64_t{args.side} * args.side;
  const int64_t warp = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kWarp;
  if (warp >= args.items * tokens) return false;
  const int token = static_cast<int>(warp % tokens);
  query.work = work_of(args, static_cast<uint32_t>(warp / tokens));
  query.row = token / args.side;
  query.column = token % args.side;
  return true;
}

template <int kPerLane>
__device__ Spread<kPerLane> read_token(const AttendArgs& args, const FramesView& view, const Query& query) {
  Spread<kPerLane> token;
  const int64_t offset = query.offset(view);
  token.fill(args.dim, [&](int at) { return read_number(view.data, view.dtype, offset + at * view.stride_dim); });
  return token;
}

template <int kPerLane>
__device__ void write_token(const AttendArgs& args, const FramesView& view, const Query& query,
                            const Spread<kPerLane>& token) {
  const int64_t offset = query.offset(view);
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int at = lane_id() + kWarp * i;
    if (at < args.dim) write_number(view.data, view.dtype, offset + at * view.stride_dim, token.part[i]);
  }
}

template <int kPerLane>
__device__ Spread<kPerLane> read_pad(const AttendArgs& args, const Query& query, bool value) {
  const Padding& padding = args.padding;
  const void* data = value ? padding.v : padding.k;
  const int64_t offset = query.work.head * (value ? padding.stride_v_head : padding.stride_k_head);
  Spread<kPerLane> pad;
  pad.fill(args.dim, [&](int at) { return read_number(data, padding.dtype, offset + at); });
  return pad;
}

// What the numbers of a stored frame are multiplied with.
template <typename Memory>
__device__ float frame_unit(const AttendArgs& args, const Work& work, int frame, bool value) {
  if constexpr (!std::is_same_v<Memory, Fp8>) {
    return 1.f;
  } else {
    const SlotExponents exponents = slot_exponents(cursor_of(args, work))[frame];
    return unit_of(value ? exponents.v : exponents.k);
  }
}

// Calls body(key, value) for every key that a query sees in a plane.
template <typename Memory, int kPerLane, typename Body>
__device__ void for_keys(const AttendArgs& args, const Query& query, int plane, const Body& body) {
  const Work& work = query.work;
  const int line = plane == 0 ? work.real_rows : work.real_columns;
  const auto read = [&](const FramesView& view, int frame, int at, bool value) {
    const float unit = frame_unit<Memory>(args, work, frame, value);
    const int row = plane == 0 ? at : query.row, column = plane == 0 ? query.column : at;
    const Memory* token = static_cast<const Memory*>(view.data) + line_offset(view, work, work.source, frame, row) +
                          column * view.stride_column;
    Spread<kPerLane> spread;
    spread.fill(args.dim, [&](int dim) { return unit * to_float(token[dim * view.stride_dim]); });
    return spread;
  };
  for (int frame = work.pass.first; frame < work.pass.first + work.pass.frames; ++frame) {
    for (int at = 0; at < line; ++at) body(read(args.k, frame, at, false), read(args.v, frame, at, true));
  }
}

// The softmax of one plane so far; every lane has level and weight.
template <int kPerLane>
struct AnySoftmax {
  Spread<kPerLane> sums = {};
  float level = kNone, weight = 0.f;

  // `logit` in powers of two.
  __device__ void take(float logit, const Spread<kPerLane>& value) {
    if (logit > level) {
      const float fade = exp2f(level - logit);
      level = logit;
      weight *= fade;
      sums.multiply(fade);
    }
    const float p = exp2f(logit - level);
    weight += p;
    sums.add(p, value);
  }

  __device__ float finish() {
    sums.multiply(weight == 0.f ? 0.f : 1.f / weight);
    return weight == 0.f ? kNone : level + log2f(weight);
  }
};

template <typename Memory, int kPerLane>
__global__ void __launch_bounds__(any_threads(), 1) attend_any_kernel(const __grid_constant__ AttendArgs args) {
  Query query;
  if (!query_of(args, query)) return;
  Spread<kPerLane> out = {}, out_column = {};
  float lse[2] = {kNone, kNone};
  if (query.in_picture()) {
    Spread<kPerLane> q = read_token<kPerLane>(args, args.q, query);
    q.multiply(args.negative ? -args.scale : args.scale);
#pragma unroll
    for (int plane = 0; plane < 2; ++plane) {
      AnySoftmax<kPerLane> softmax;
      const int padded = query.padded(args, plane);
      if (args.padding.k && padded > 0) {
        const float logit = q.dot(read_pad<kPerLane>(args, query, false)) + log2f(static_cast<float>(padded));
        softmax.take(logit, read_pad<kPerLane>(args, query, true));
      }
      for_keys<Memory, kPerLane>(args, query, plane, [&](const Spread<kPerLane>& key, const Spread<kPerLane>& value) {
        softmax.take(q.dot(key), value);
      });
      lse[plane] = softmax.finish() * kLn2;
      out.add(1.f, softmax.sums);
      if (plane == 0) out_column = softmax.sums;
    }
  }
  write_token(args, args.out, query, out);
  if (args.out_column.data) write_token(args, args.out_column, query, out_column);
  if (args.lse && lane_id() == 0) {
    for (int plane = 0; plane < 2; ++plane) args.lse[query.lse_place(args, plane)] = lse[plane];
  }
}

// dS = P * (dP - delta), dq = scale * dS K, with delta the product of the gradient with the plane's output.
template <typename Memory, int kPerLane>
__global__ void __launch_bounds__(any_threads(), 1)
    attend_any_backward_kernel(const __grid_constant__ AttendArgs args) {
  Query query;
  if (!query_of(args, query)) return;
  Spread<kPerLane> dq = {};
  if (query.in_picture() && query.work.pass.frames > 0) {
    Spread<kPerLane> q = read_token<kPerLane>(args, args.q, query);
    q.multiply(args.negative ? -args.scale : args.scale);
    const Spread<kPerLane> dout = read_token<kPerLane>(args, args.dout, query);
    const Spread<kPerLane> out_column = read_token<kPerLane>(args, args.out_column, query);
    Spread<kPerLane> out_row = read_token<kPerLane>(args, args.out_saved, query);
    out_row.add(-1.f, out_column);
#pragma unroll
    for (int plane = 0; plane < 2; ++plane) {
      const float delta = dout.dot(plane == 0 ? out_column : out_row);
      const float lse = args.lse[query.lse_place(args, plane)] * kLog2e;
      if (lse == kNone) continue;
      const auto take = [&](float logit, const Spread<kPerLane>& key, const Spread<kPerLane>& value) {
        dq.add(exp2f(logit - lse) * (dout.dot(value) - delta), key);
      };
      const int padded = query.padded(args, plane);
      if (args.padding.k && padded > 0) {
        const Spread<kPerLane> key = read_pad<kPerLane>(args, query, false);
        take(q.dot(key) + log2f(static_cast<float>(padded)), key, read_pad<kPerLane>(args, query, true));
      }
      for_keys<Memory, kPerLane>(args, query, plane, [&](const Spread<kPerLane>& key, const Spread<kPerLane>& value) {
        take(q.dot(key), key, value);
      });
    }
    dq.multiply(args.gradient_scale);
  }
  write_token(args, args.out, query, dq);
}

}  // namespace svm::cuda
