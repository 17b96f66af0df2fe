// What the kernels that append have in common: a block's unit, and its threads' ways through a frame.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <type_traits>

#include "cuda/heuristics.h"
#include "cuda/launch.h"
#include "cuda/numbers.h"

namespace svm::cuda {

// Neighbours along the head dim that one thread moves at a time; 16 bytes of the narrower type on the fast path.
template <typename T, int kCount>
struct alignas(sizeof(T) * kCount < 16 ? sizeof(T) * kCount : 16) Pack {
  T value[kCount];
};

template <typename Mem>
constexpr bool kIsFp8 = std::is_same_v<Mem, Fp8>;

// Block u does unit u and is the only one to touch that unit's slots and cursor.
template <typename In, typename Mem, int kCount>
struct AppendUnit {
  using InPack = Pack<In, kCount>;
  using MemPack = Pack<Mem, kCount>;

  const AppendParams& params;
  AppendPlan plan;
  int64_t unit;  // in the pool
  const In *k_frame, *v_frame;
  Mem *k_unit, *v_unit;
  int real_rows, real_columns;

  __device__ explicit AppendUnit(const AppendParams& params) : params(params) {}

  __device__ RingCursor* cursor() const {
    return unit_cursor(params.pool.cursor, kIsFp8<Mem> ? Dtype::kFloat8 : Dtype::kFloat32, params.pool.frames, unit);
  }
  __device__ int64_t slot(int64_t index) const { return index * params.pool.side * params.pool.dim; }
  __device__ int64_t row_stride() const { return slot(params.pool.frames); }

  // False where there is nothing to append.
  __device__ bool find() {
    const PoolView& pool = params.pool;
    const int64_t head = blockIdx.x % pool.heads;
    const int64_t batch_window = blockIdx.x / pool.heads;
    const int64_t window = batch_window % pool.windows;
    const int64_t row_of_batch = batch_window / pool.windows;
    const int64_t stream = params.streams ? params.streams[row_of_batch] : row_of_batch;
    if (stream < 0 || stream >= pool.streams) return false;

    unit = (stream * pool.windows + window) * pool.heads + head;
    const RingCursor before = *cursor();
    const int64_t step = params.step[stream];
    if (before.count < 0 || step < 0 || step < before.mark) return false;
    plan = plan_append(before, step, pool.frames, params.evict);

    const int side = static_cast<int>(pool.side);
    real_rows = params.real ? params.real[2 * window] : side;
    real_columns = params.real ? params.real[2 * window + 1] : side;
    const int64_t unit_start = unit * pool.side * row_stride();  // the pool is [.., n (row), T, n (column), D]
    const auto unit_frame = [&](const TokenView& view) {
      return static_cast<const In*>(view.data) + batch_window * view.stride_window + head * view.stride_head;
    };
    k_frame = unit_frame(params.k);
    v_frame = unit_frame(params.v);
    k_unit = static_cast<Mem*>(pool.k) + unit_start;
    v_unit = static_cast<Mem*>(pool.v) + unit_start;
    return true;
  }

  // Calls body(k, v, place) for this thread's packs of the new frame; `place` is theirs within a slot.
  template <typename Body>
  __device__ void for_packs(const Body& body) const {
    const int side = static_cast<int>(params.pool.side), packs_a_token = static_cast<int>(params.pool.dim) / kCount;
    for (int i = threadIdx.x; i < side * side * packs_a_token; i += blockDim.x) {
      const int token = i / packs_a_token;
      const int dim = (i - token * packs_a_token) * kCount;
      const int row = token / side;
      const int column = token - row * side;
      if (row >= real_rows || column >= real_columns) continue;
      const auto read = [&](const In* frame, const TokenView& view) {
        return *reinterpret_cast<const InPack*>(frame + token * view.stride_token + dim * view.stride_dim);
      };
      const InPack k = read(k_frame, params.k);  // both are under way before either is used
      const InPack v = read(v_frame, params.v);
      body(k, v, row * row_stride() + column * params.pool.dim + dim);
    }
  }
};

namespace append_launch {

inline bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

template <typename In>
bool aligned(const TokenView& view) {
  const int64_t strides = view.stride_window | view.stride_head | view.stride_token;  // their common power of two
  return aligned(view.data) && view.stride_dim == 1 && strides * sizeof(In) % 16 == 0;
}

template <int kCount>
cudaError_t launch(void (*kernel)(AppendParams), int64_t shared_bytes, const AppendParams& params, Target target) {
  const int64_t units = params.batch * params.pool.windows * params.pool.heads;
  int processors = 1;
  if (const cudaError_t error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, target.device)) {
    return error;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(units));
  config.blockDim =
      dim3(append_threads(units, params.pool.side * params.pool.side * params.pool.dim / kCount, processors));
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.stream = static_cast<cudaStream_t>(target.stream);
  return cudaLaunchKernelEx(&config, kernel, params);
}

}  // namespace append_launch

// Kernels<In, Mem, kCount> has get(), and kSharedBytes; as many neighbours as memory and registers let a thread take.
template <template <typename, typename, int> class Kernels, typename In, typename Mem>
cudaError_t launch_append(const AppendParams& params, Target target) {
  using append_launch::aligned;
  constexpr int kCount = 16 / std::max<size_t>(2, std::min(sizeof(In), sizeof(Mem)));  // eight codes: registers
  using Fast = Kernels<In, Mem, kCount>;
  using Slow = Kernels<In, Mem, 1>;
  const bool fast = params.pool.dim % kCount == 0 && aligned(params.pool.k) && aligned(params.pool.v) &&
                    aligned<In>(params.k) && aligned<In>(params.v);
  return fast ? append_launch::launch<kCount>(Fast::get(), Fast::kSharedBytes, params, target)
              : append_launch::launch<1>(Slow::get(), Slow::kSharedBytes, params, target);
}

// The pool is of fp8, the frame of this type.
template <typename In>
cudaError_t append_codes(const AppendParams& params, Target target);

}  // namespace svm::cuda
