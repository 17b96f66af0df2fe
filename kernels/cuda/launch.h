// What every CUDA entry of this library is told beside its parameters.
#pragma once

namespace svm::cuda {

// Where a launch goes. `stream` is a cudaStream_t: the torch side compiles without CUDA's headers.
struct Target {
  int device;
  void* stream;
};

}  // namespace svm::cuda
