// No instruction: a number of which the compiler no longer knows where it came from.
#pragma once

#include <cuda_runtime.h>

namespace svm::cuda::ptx {

// What is computed from it is computed here, each time. Otherwise the compiler computes it once, ahead of the loop, and
// keeps it in a register that the sums need.
__device__ inline int anew(int x) {
  asm volatile("" : "+r"(x));
  return x;
}

}  // namespace svm::cuda::ptx
