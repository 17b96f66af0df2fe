#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cmath>

#include "cuda/attend_launch.h"
#include "cuda/heuristics.h"
#include "cuda/memory_attend.h"

namespace svm::cuda {
namespace {

int64_t units_of(const AttendArgs& args) { return int64_t{args.batch} * args.clip_frames * args.windows * args.heads; }

int64_t bytes_of(Dtype dtype) { return dtype == Dtype::kFloat32 ? 4 : dtype == Dtype::kFloat8 ? 1 : 2; }

bool is_coded(const AttendArgs& args) { return args.k.dtype == Dtype::kFloat8; }

// Whether a kernel whose keys are of this type can move a view's tokens in pieces of 16 bytes as they lie.
void find_whole(FramesView& view, Dtype type) {
  const int64_t strides = view.stride_batch | view.stride_frame | view.stride_window | view.stride_head |
                          view.stride_row | view.stride_column;  // their common power of two
  const bool aligned = (reinterpret_cast<uintptr_t>(view.data) | strides * bytes_of(view.dtype)) % kChunkBytes == 0;
  view.whole = view.dtype == type && view.stride_dim == 1 && aligned;
}

void find_whole(AttendArgs& args) {
  for (FramesView* view : {&args.k, &args.v}) find_whole(*view, args.k.dtype);
  const Dtype numbers = is_coded(args) ? Dtype::kBFloat16 : args.k.dtype;
  for (FramesView* view :
       {&args.q, &args.k_new, &args.v_new, &args.out, &args.out_column, &args.dout, &args.out_saved}) {
    find_whole(*view, numbers);
  }
}

// Whether there is a kernel with tensor cores for it; if so, the work is cut for it.
bool cut(AttendArgs& args, int query_tiles, int device, Grid& grid, cudaError_t& error) {
  if (args.k.dtype == Dtype::kFloat32 || !attend_has_kernel(args.side, args.dim)) return false;
  // Codes are copied as they lie or not at all, and queries of fp32 are not rounded for their sake.
  if (is_coded(args) && (!args.k.whole || !args.v.whole || args.q.dtype == Dtype::kFloat32)) return false;
  int processors = 1, shared = 0;
  error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (error != cudaSuccess) return false;
  args.planes = attend_both_planes(args.dim) ? 1 : 2;
  const AttendPlan plan =
      attend_plan(units_of(args), args.side, args.dim, args.planes, query_tiles, processors, shared, is_coded(args));
  if (!plan.exists) return false;
  args.rows = plan.rows;
  args.splits = plan.splits;
  args.group = plan.group;
  args.lines = plan.lines;
  args.stages = plan.stages;
  args.stage_bytes = static_cast<int32_t>(plan.stage_bytes);
  args.decoded_bytes = plan.decoded == 2 ? static_cast<int32_t>(plan.decoded_bytes) : 0;
  args.items = static_cast<uint32_t>(units_of(args) * args.splits * args.planes);
  args.direct = args.splits == 1 && args.planes == 1;
  grid.blocks = std::min(args.items, static_cast<uint32_t>(processors));
  grid.shared_bytes = plan.shared_bytes;
  return true;
}

cudaError_t take_shares(AttendArgs& args, Target target) {
  if (args.direct) return cudaSuccess;
  const int64_t tokens = units_of(args) * args.side * args.side;
  const int64_t numbers = tokens * (args.splits + 1) * (args.dim + 1);
  float* room = static_cast<float*>(target.scratch(target.owner, numbers * static_cast<int64_t>(sizeof(float))));
  if (room == nullptr) return cudaErrorMemoryAllocation;
  args.shares.column = room;
  args.shares.row = args.shares.column + tokens * args.splits * args.dim;
  args.shares.column_lse = args.shares.row + tokens * args.dim;
  args.shares.row_lse = args.shares.column_lse + tokens * args.splits;
  return cudaSuccess;
}

using OnTensorCores = cudaError_t (*)(const AttendArgs&, const Grid&);

cudaError_t run(AttendArgs& args, Grid grid, bool backward, OnTensorCores kernel, Target target) {
  grid.stream = target.stream;
  cudaError_t error = take_shares(args, target);
  if (error == cudaSuccess) error = kernel(args, grid);
  return error == cudaSuccess && !args.direct ? join_shares(args, backward, target) : error;
}

const char* words(cudaError_t error) { return error == cudaSuccess ? nullptr : cudaGetErrorString(error); }

}  // namespace

FramesView frames_of(const TokenView& view, int64_t windows, int64_t side) {
  return {view.data,
          view.dtype,
          false,
          windows * view.stride_window,
          0,
          view.stride_window,
          view.stride_head,
          side * view.stride_token,
          view.stride_token,
          view.stride_dim};
}

FramesView frames_of(const ClipView& view, int64_t side) {
  return {view.data,
          view.dtype,
          false,
          view.stride_batch,
          view.stride_frame,
          view.stride_window,
          view.stride_head,
          side * view.stride_token,
          view.stride_token,
          view.stride_dim};
}

namespace {

FramesView frames_of(const PoolView& pool, void* data) {
  const int64_t frame = pool.side * pool.dim, row = pool.frames * frame, head = pool.side * row;
  const int64_t window = pool.heads * head;
  return {data, pool.dtype, false, pool.windows * window, frame, window, head, row, pool.dim, 1};
}

void take_scale(AttendArgs& args, double scale) {
  const float size = static_cast<float>(std::abs(scale)) * 1.4426950408889634f;
  args.scale = size > 1e-30f ? size : 1e-30f;  // above 0: -inf * 0 is no number
  args.negative = scale < 0;
  args.gradient_scale = static_cast<float>(scale);
}

}  // namespace

AttendArgs args_of(const PoolView& pool, const int64_t* streams, int64_t batch, const Padding& padding, double scale) {
  AttendArgs args = {};
  args.k = frames_of(pool, pool.k);
  args.v = frames_of(pool, pool.v);
  args.cursor = pool.cursor;
  args.streams = streams;
  args.stream_count = pool.streams;
  args.padding = padding;
  args.batch = static_cast<int32_t>(batch);
  args.clip_frames = 1;
  args.windows = static_cast<int32_t>(pool.windows);
  args.heads = static_cast<int32_t>(pool.heads);
  args.side = static_cast<int32_t>(pool.side);
  args.dim = static_cast<int32_t>(pool.dim);
  args.capacity = static_cast<int32_t>(pool.frames);
  take_scale(args, scale);
  return args;
}

AttendArgs args_of(const ClipShape& shape, const Padding& padding, double scale) {
  AttendArgs args = {};
  args.padding = padding;
  args.batch = static_cast<int32_t>(shape.batch);
  args.clip_frames = static_cast<int32_t>(shape.clip_frames);
  args.windows = static_cast<int32_t>(shape.windows);
  args.heads = static_cast<int32_t>(shape.heads);
  args.side = static_cast<int32_t>(shape.side);
  args.dim = static_cast<int32_t>(shape.dim);
  args.capacity =
      static_cast<int32_t>(shape.memory_frames < shape.clip_frames ? shape.memory_frames : shape.clip_frames);
  args.evict = shape.evict;
  take_scale(args, scale);
  return args;
}

AttendArgs args_of(const AttendParams& params) {
  const PoolView& pool = params.pool;
  AttendArgs args = args_of(pool, params.streams, params.batch, params.padding, params.scale);
  args.q = frames_of(params.q, pool.windows, pool.side);
  args.out = frames_of(params.out, pool.windows, pool.side);
  args.out_column = frames_of(params.out_column, pool.windows, pool.side);
  args.lse = static_cast<float*>(params.lse);
  return args;
}

const char* attend(AttendArgs args, Target target, Append append) {
  if (units_of(args) == 0) return nullptr;
  // This library brings a CUDA runtime of its own, whose current device is not torch's.
  cudaError_t error = cudaSetDevice(target.device);
  if (error != cudaSuccess) return words(error);
  find_whole(args);
  Grid grid;
  const bool has_kernel = cut(args, 1, target.device, grid, error);
  if (error != cudaSuccess) return words(error);
  // A block that does both planes can append to the frames it reads; two that share them cannot. Nor can one that has
  // fp8 to append, for the exponents come from all of a frame.
  args.appends = append.run && has_kernel && args.planes == 1 && !is_coded(args);
  if (append.run && !args.appends) {
    if (const char* fault = append.run(*append.params, target)) return fault;
  }
  if (!has_kernel) return words(attend_anyhow(args, target));
  const OnTensorCores kernel = is_coded(args)                     ? attend_on_tensor_cores<Fp8>
                               : args.k.dtype == Dtype::kBFloat16 ? attend_on_tensor_cores<__nv_bfloat16>
                                                                  : attend_on_tensor_cores<__half>;
  return words(run(args, grid, false, kernel, target));
}

const char* attend_backward(AttendArgs args, Target target) {
  if (units_of(args) == 0) return nullptr;
  cudaError_t error = cudaSetDevice(target.device);
  if (error != cudaSuccess) return words(error);
  find_whole(args);
  Grid grid;
  const bool has_kernel = cut(args, 2, target.device, grid, error);
  if (error != cudaSuccess) return words(error);
  if (!has_kernel) return words(attend_backward_anyhow(args, target));
  const OnTensorCores kernel = is_coded(args)                     ? attend_backward_on_tensor_cores<Fp8>
                               : args.k.dtype == Dtype::kBFloat16 ? attend_backward_on_tensor_cores<__nv_bfloat16>
                                                                  : attend_backward_on_tensor_cores<__half>;
  return words(run(args, grid, true, kernel, target));
}

const char* memory_attend(const AttendParams& params, Target target) { return attend(args_of(params), target); }

const char* memory_attend_backward(const AttendBackwardParams& params, Target target) {
  const PoolView& pool = params.pool;
  AttendArgs args = args_of(pool, params.streams, params.batch, params.padding, params.scale);
  args.q = frames_of(params.q, pool.windows, pool.side);
  args.dout = frames_of(params.dout, pool.windows, pool.side);
  args.out_saved = frames_of(params.out, pool.windows, pool.side);
  args.out_column = frames_of(params.out_column, pool.windows, pool.side);
  args.out = frames_of(params.dq, pool.windows, pool.side);
  args.lse = static_cast<float*>(const_cast<void*>(params.lse));
  return attend_backward(args, target);
}

}  // namespace svm::cuda
