// Plays kernels/cuda/ptx/scale.h.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

namespace svm::cuda::ptx {

inline uint32_t scale(uint32_t both, uint32_t factors) {
  __nv_bfloat16 a[2], b[2];
  std::memcpy(a, &both, 4);
  std::memcpy(b, &factors, 4);
  for (int i = 0; i < 2; ++i) a[i] = __nv_bfloat16(static_cast<float>(a[i]) * static_cast<float>(b[i]));
  std::memcpy(&both, a, 4);
  return both;
}

}  // namespace svm::cuda::ptx
