#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include "../cuda_frame.h"
#include "cuda/memory_attend.h"

namespace svm {
namespace {

Saved memory_attend(const Tensor& q, const Tensor& k_pool, const Tensor& v_pool, const Tensor& cursor,
                    const std::optional<Tensor>& streams, const std::optional<Tensor>& real,
                    const std::optional<Tensor>& pad_k, const std::optional<Tensor>& pad_v, double scale,
                    bool for_backward) {
  const CudaFrame frame(k_pool, v_pool, cursor, streams, real);
  const Arg query("q", q);
  AttendParams params = frame.attend_params(query, pad_k, pad_v, scale);
  const torch::stable::accelerator::DeviceGuard guard(query.device_index);
  Saved results = frame.new_results(query, params, for_backward);
  CudaLaunch("memory_attend", query).run(cuda::memory_attend, params);
  return results;
}

Tensor memory_attend_backward(const Tensor& dout, const Tensor& q, const Tensor& k_pool, const Tensor& v_pool,
                              const Tensor& cursor, const std::optional<Tensor>& streams,
                              const std::optional<Tensor>& real, const std::optional<Tensor>& pad_k,
                              const std::optional<Tensor>& pad_v, const Tensor& out, const Tensor& out_column,
                              const Tensor& lse, double scale) {
  const CudaFrame frame(k_pool, v_pool, cursor, streams, real);
  const Arg query("q", q);
  const AttendParams forward = frame.attend_params(query, pad_k, pad_v, scale);
  AttendBackwardParams params = frame.backward_params(forward, query, dout, out, out_column, lse);
  const torch::stable::accelerator::DeviceGuard guard(query.device_index);
  const Tensor dq = frame.new_output(query, params.dq);
  CudaLaunch("memory_attend_backward", query).run(cuda::memory_attend_backward, params);
  return dq;
}

}  // namespace
}  // namespace svm

STABLE_TORCH_LIBRARY_IMPL(svm_ext, CUDA, m) {
  m.impl("memory_attend", TORCH_BOX(&svm::memory_attend));
  m.impl("memory_attend_backward", TORCH_BOX(&svm::memory_attend_backward));
}
