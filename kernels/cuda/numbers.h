// Numbers of the types that tensors have, one at a time or packed in twos.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "svm/params.h"

namespace svm::cuda {

constexpr float kNone = -__builtin_huge_valf();  // the logit of a key that is not there, the log-sum-exp of no key
constexpr float kLog2e = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__half x) { return __half2float(x); }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float to_float(Fp8 x) { return value_of(x); }

__device__ inline void from_float(float x, float* y) { *y = x; }
__device__ inline void from_float(float x, __half* y) { *y = __float2half_rn(x); }
__device__ inline void from_float(float x, __nv_bfloat16* y) { *y = __float2bfloat16_rn(x); }

// For where a type is known only at run time, and speed is not the question.
__device__ inline float read_number(const void* data, Dtype dtype, int64_t at) {
  if (dtype == Dtype::kFloat32) return static_cast<const float*>(data)[at];
  if (dtype == Dtype::kFloat16) return to_float(static_cast<const __half*>(data)[at]);
  return to_float(static_cast<const __nv_bfloat16*>(data)[at]);
}

__device__ inline void write_number(void* data, Dtype dtype, int64_t at, float x) {
  if (dtype == Dtype::kFloat32) {
    static_cast<float*>(data)[at] = x;
  } else if (dtype == Dtype::kFloat16) {
    from_float(x, static_cast<__half*>(data) + at);
  } else {
    from_float(x, static_cast<__nv_bfloat16*>(data) + at);
  }
}

struct Two {
  float low, high;
};

template <typename Element>
__device__ Two unpack(uint32_t both) {
  union Halves {
    uint32_t both;
    struct {
      Element low, high;
    } each;
    __device__ Halves(uint32_t both) : both(both) {}
  };
  const Halves halves(both);
  return {to_float(halves.each.low), to_float(halves.each.high)};
}

}  // namespace svm::cuda
