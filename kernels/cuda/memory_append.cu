#include "cuda/memory_append.cuh"
#include "cuda/memory_append.h"

namespace svm::cuda {
namespace {

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

template <typename In, typename Mem, int kCount>
__global__ void __launch_bounds__(kMaxThreads) append_kernel(const __grid_constant__ AppendParams params) {
  AppendUnit<In, Mem, kCount> unit(params);
  if (!unit.find()) return;
  const AppendPlan& plan = unit.plan;
  unit.for_packs([&](const Pack<In, kCount>& k, const Pack<In, kCount>& v, int64_t place) {
    const int64_t newest = place + unit.slot(plan.slot);
    if (plan.merge_slot >= 0) {
      const int64_t merged = place + unit.slot(plan.merge_slot);
      merge<Mem, kCount>(unit.k_unit + merged, unit.k_unit + newest);
      merge<Mem, kCount>(unit.v_unit + merged, unit.v_unit + newest);
    }
    store(unit.k_unit + newest, k);
    store(unit.v_unit + newest, v);
  });
  __syncthreads();  // everybody has read the cursor and has written its part of the slot
  if (threadIdx.x == 0) *unit.cursor() = plan.after;
}

template <typename In, typename Mem, int kCount>
struct AppendKernel {
  static constexpr int64_t kSharedBytes = 0;
  static auto get() { return append_kernel<In, Mem, kCount>; }
};

template <typename In>
cudaError_t choose_pool_type(const AppendParams& params, Target target) {
  switch (params.pool.dtype) {
    case Dtype::kFloat32:
      return launch_append<AppendKernel, In, float>(params, target);
    case Dtype::kBFloat16:
      return launch_append<AppendKernel, In, __nv_bfloat16>(params, target);
    case Dtype::kFloat16:
      return launch_append<AppendKernel, In, __half>(params, target);
    case Dtype::kFloat8:
      return append_codes<In>(params, target);
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
