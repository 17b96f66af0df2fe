// fma on two bf16 numbers at a time, as a multiplication.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace svm::cuda::ptx {

// Both halves times those of `factors`, to nearest even; subnormal numbers count.
// NOTE: sm_80 has no mul of this type; adding -0 changes nothing.
__device__ inline uint32_t scale(uint32_t both, uint32_t factors) {
  uint32_t scaled;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(scaled) : "r"(both), "r"(factors), "r"(0x80008000u));
  return scaled;
}

}  // namespace svm::cuda::ptx
