#include <cuda_runtime.h>

#include <algorithm>

#include "cuda/heuristics.h"
#include "cuda/memory_append.h"
#include "cuda/numbers.h"

namespace svm::cuda {
namespace {

// Neighbours along the head dim that one thread moves at a time; 16 bytes of the narrower type on the fast path.
template <typename T, int kCount>
struct alignas(sizeof(T) * kCount < 16 ? sizeof(T) * kCount : 16) Pack {
  T value[kCount];
};

// Before the oldest frame is overwritten it goes halfway into the next-oldest; averaged in fp32, rounded once.
template <typename Mem, int kCount>
__device__ void merge(Mem* merged, const Mem* oldest) {
  using MemPack = Pack<Mem, kCount>;
  const MemPack a = *reinterpret_cast<const MemPack*>(merged);
  const MemPack b = *reinterpret_cast<const MemPack*>(oldest);
  MemPack mean;
#pragma unroll
  for (int i = 0; i < kCount; ++i) from_float(0.5f * (to_float(a.value[i]) + to_float(b.value[i])), &mean.value[i]);
  *reinterpret_cast<MemPack*>(merged) = mean;
}

template <typename In, typename Mem, int kCount>
__device__ void store(Mem* slot, Pack<In, kCount> frame) {
  Pack<Mem, kCount> converted;
#pragma unroll
  for (int i = 0; i < kCount; ++i) from_float(to_float(frame.value[i]), &converted.value[i]);
  *reinterpret_cast<Pack<Mem, kCount>*>(slot) = converted;
}

// Block u does unit u and is the only one to touch that unit's slots and cursor.
template <typename In, typename Mem, int kCount>
__global__ void __launch_bounds__(kMaxThreads) append_kernel(const __grid_constant__ AppendParams params) {
  const PoolView& pool = params.pool;
  const int64_t head = blockIdx.x % pool.heads;
  const int64_t batch_window = blockIdx.x / pool.heads;
  const int64_t window = batch_window % pool.windows;
  const int64_t row_of_batch = batch_window / pool.windows;
  const int64_t stream = params.streams ? params.streams[row_of_batch] : row_of_batch;
  if (stream < 0 || stream >= pool.streams) return;

  const int64_t unit = (stream * pool.windows + window) * pool.heads + head;
  const RingCursor before = pool.cursor[unit];
  const int64_t step = params.step[stream];
  if (before.count < 0 || step < 0 || step < before.mark) return;
  const AppendPlan plan = plan_append(before, step, pool.frames, params.evict);

  const int side = static_cast<int>(pool.side);
  const int real_rows = params.real ? params.real[2 * window] : side;
  const int real_columns = params.real ? params.real[2 * window + 1] : side;
  const int64_t frame_stride = pool.side * pool.dim;         // from slot to slot within a row
  const int64_t row_stride = pool.frames * frame_stride;     // from row to row
  const int64_t unit_start = unit * pool.side * row_stride;  // the pool is [.., n (row), T, n (column), D]
  const auto unit_frame = [&](const TokenView& view) {
    return static_cast<const In*>(view.data) + batch_window * view.stride_window + head * view.stride_head;
  };
  const In* k_frame = unit_frame(params.k);
  const In* v_frame = unit_frame(params.v);
  Mem* k_unit = static_cast<Mem*>(pool.k) + unit_start;
  Mem* v_unit = static_cast<Mem*>(pool.v) + unit_start;

  const int packs_a_token = static_cast<int>(pool.dim) / kCount;
  for (int i = threadIdx.x; i < side * side * packs_a_token; i += blockDim.x) {
    const int token = i / packs_a_token;
    const int dim = (i - token * packs_a_token) * kCount;
    const int row = token / side;
    const int column = token - row * side;
    if (row >= real_rows || column >= real_columns) continue;
    const auto read = [&](const In* frame, const TokenView& view) {
      return *reinterpret_cast<const Pack<In, kCount>*>(frame + token * view.stride_token + dim * view.stride_dim);
    };
    const Pack<In, kCount> k = read(k_frame, params.k);  // both are under way before either is used
    const Pack<In, kCount> v = read(v_frame, params.v);
    const int64_t place = row * row_stride + column * pool.dim + dim;
    const int64_t newest = place + plan.slot * frame_stride;
    if (plan.merge_slot >= 0) {
      const int64_t merged = place + plan.merge_slot * frame_stride;
      merge<Mem, kCount>(k_unit + merged, k_unit + newest);
      merge<Mem, kCount>(v_unit + merged, v_unit + newest);
    }
    store(k_unit + newest, k);
    store(v_unit + newest, v);
  }
  __syncthreads();  // everybody has read the cursor and has written its part of the slot
  if (threadIdx.x == 0) pool.cursor[unit] = plan.after;
}

bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

template <typename In>
bool aligned(const TokenView& view) {
  const int64_t strides = view.stride_window | view.stride_head | view.stride_token;  // their common power of two
  return aligned(view.data) && view.stride_dim == 1 && strides * sizeof(In) % 16 == 0;
}

template <typename In, typename Mem, int kCount>
cudaError_t launch(const AppendParams& params, Target target) {
  const int64_t units = params.batch * params.pool.windows * params.pool.heads;
  int processors = 1;
  if (const cudaError_t error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, target.device)) {
    return error;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(units));
  config.blockDim =
      dim3(append_threads(units, params.pool.side * params.pool.side * params.pool.dim / kCount, processors));
  config.stream = static_cast<cudaStream_t>(target.stream);
  return cudaLaunchKernelEx(&config, append_kernel<In, Mem, kCount>, params);
}

template <typename In, typename Mem>
cudaError_t choose_path(const AppendParams& params, Target target) {
  constexpr int kCount = 16 / std::min(sizeof(In), sizeof(Mem));
  const bool fast = params.pool.dim % kCount == 0 && aligned(params.pool.k) && aligned(params.pool.v) &&
                    aligned<In>(params.k) && aligned<In>(params.v);
  return fast ? launch<In, Mem, kCount>(params, target) : launch<In, Mem, 1>(params, target);
}

template <typename In>
cudaError_t choose_pool_type(const AppendParams& params, Target target) {
  switch (params.pool.dtype) {
    case Dtype::kFloat32:
      return choose_path<In, float>(params, target);
    case Dtype::kBFloat16:
      return choose_path<In, __nv_bfloat16>(params, target);
    case Dtype::kFloat16:
      return choose_path<In, __half>(params, target);
    default:
      return cudaErrorInvalidValue;
  }
}

cudaError_t choose_frame_type(const AppendParams& params, Target target) {
  switch (params.k.dtype) {
    case Dtype::kFloat32:
      return choose_pool_type<float>(params, target);
    case Dtype::kBFloat16:
      return choose_pool_type<__nv_bfloat16>(params, target);
    case Dtype::kFloat16:
      return choose_pool_type<__half>(params, target);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

const char* memory_append(const AppendParams& params, Target target) {
  if (params.batch * params.pool.windows * params.pool.heads == 0) return nullptr;
  // This library brings a CUDA runtime of its own, whose current device is not torch's.
  cudaError_t error = cudaSetDevice(target.device);
  if (error == cudaSuccess) error = choose_frame_type(params, target);
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace svm::cuda
