// ex2: a power of two by the special function unit.
#pragma once

#include <cuda_runtime.h>

namespace svm::cuda::ptx {

// NOTE: within 2 units in the last place, 2^-inf is 0; results below 2^-126 become 0.
__device__ inline float exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace svm::cuda::ptx
