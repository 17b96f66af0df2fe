#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include "../cuda_frame.h"
#include "cuda/memory_append.h"

namespace svm {
namespace {

void memory_append_(const Tensor& k_pool, const Tensor& v_pool, const Tensor& cursor, const Tensor& k, const Tensor& v,
                    const Tensor& step, const std::optional<Tensor>& streams, const std::optional<Tensor>& real,
                    int64_t evict) {
  const CudaFrame frame(k_pool, v_pool, cursor, streams, real);
  const AppendParams params = frame.append_params(k, v, step, evict);
  const torch::stable::accelerator::DeviceGuard guard(frame.pool.k.device_index);
  CudaLaunch("memory_append_", frame.pool.k).run(cuda::memory_append, params);
}

}  // namespace
}  // namespace svm

STABLE_TORCH_LIBRARY_IMPL(svm_ext, CUDA, m) { m.impl("memory_append_", TORCH_BOX(&svm::memory_append_)); }
