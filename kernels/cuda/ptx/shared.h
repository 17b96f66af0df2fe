// Shared memory as the other instructions name it.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace svm::cuda::ptx {

// NOTE: 32 bits; offsets are added as numbers.
__device__ inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

}  // namespace svm::cuda::ptx
