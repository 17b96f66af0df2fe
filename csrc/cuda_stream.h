// The CUDA stream that torch is working on, without a header or a library of CUDA.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include "check.h"

// Weak: there only where torch is a CUDA build, so that the module loads on every torch.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index,
                                                                                   void** ret_stream);

namespace svm {

// A cudaStream_t.
inline void* current_cuda_stream(int32_t device) {
  void* stream = nullptr;
  SVM_CHECK(
      aoti_torch_get_current_cuda_stream && aoti_torch_get_current_cuda_stream(device, &stream) == AOTI_TORCH_SUCCESS,
      "cuda:%d: expected a torch that was built with CUDA, got one without; install torch from a CUDA index", device);
  return stream;
}

}  // namespace svm
