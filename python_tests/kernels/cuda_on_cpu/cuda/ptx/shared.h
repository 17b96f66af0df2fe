// Plays kernels/cuda/ptx/shared.h: addresses count from the start of the block's shared memory.
#pragma once

#include <cuda_runtime.h>

namespace svm::cuda::ptx {

inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(static_cast<const char*>(pointer) - device::shared);
}

// So many bytes of it, as the instructions want them.
inline char* shared_pointer(uint32_t address, size_t bytes = 16) {
  if (address % bytes != 0 || address + bytes > device::shared_used) {
    fibers::fail("shared address " + std::to_string(address) + " is not aligned or beyond what was asked for");
  }
  return device::shared + address;
}

}  // namespace svm::cuda::ptx
