// Plays kernels/cuda/ptx/exp2.h.
#pragma once

#include <cuda_runtime.h>

namespace svm::cuda::ptx {

inline float exp2(float x) {
  const float y = exp2f(x);
  return y < 0x1p-126f ? 0.f : y;
}

}  // namespace svm::cuda::ptx
