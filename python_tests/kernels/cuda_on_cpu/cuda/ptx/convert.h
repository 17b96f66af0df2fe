// Plays kernels/cuda/ptx/convert.h.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

namespace svm::cuda::ptx {

template <typename Element>
uint32_t pack(float low, float high) {
  const Element both[2] = {Element(low), Element(high)};
  uint32_t word;
  std::memcpy(&word, both, 4);
  return word;
}

}  // namespace svm::cuda::ptx
