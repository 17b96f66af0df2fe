// What every CUDA entry of this library is told beside its parameters.
#pragma once

#include <cstdint>

namespace svm::cuda {

// Where a launch goes. `stream` is a cudaStream_t: the torch side compiles without CUDA's headers.
struct Target {
  int device;
  void* stream;
  // Memory on the device that lasts until the launch is over, aligned to 256 bytes; for entries that say they need it.
  void* (*scratch)(void* owner, int64_t bytes) = nullptr;
  void* owner = nullptr;
};

}  // namespace svm::cuda
