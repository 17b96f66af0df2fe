#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include "../cuda_frame.h"
#include "cuda/stream_step.h"

namespace svm {
namespace {

Tensor stream_step_(const Tensor& k_pool, const Tensor& v_pool, const Tensor& cursor, const Tensor& q, const Tensor& k,
                    const Tensor& v, const Tensor& step, const std::optional<Tensor>& streams,
                    const std::optional<Tensor>& real, const std::optional<Tensor>& pad_k,
                    const std::optional<Tensor>& pad_v, double scale, int64_t evict) {
  const CudaFrame frame(k_pool, v_pool, cursor, streams, real);
  const Arg query("q", q);
  StepParams params = frame.step_params(query, k, v, step, pad_k, pad_v, scale, evict);
  const torch::stable::accelerator::DeviceGuard guard(query.device_index);
  const Tensor out = frame.new_output(query, params.attend.out);
  CudaLaunch("stream_step_", query).run(cuda::stream_step, params);
  return out;
}

}  // namespace
}  // namespace svm

STABLE_TORCH_LIBRARY_IMPL(svm_ext, CUDA, m) { m.impl("stream_step_", TORCH_BOX(&svm::stream_step_)); }
