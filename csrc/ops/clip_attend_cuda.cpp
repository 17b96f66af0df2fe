#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include "../clip.h"
#include "../cuda_frame.h"
#include "cuda/clip_attend.h"

namespace svm {
namespace {

void check_cuda(const Arg& q, const ClipParams& params, const std::optional<Tensor>& pad_k) {
  const ClipShape& shape = params.shape;
  check_cuda_dtype(q);
  check_head_dim("q", shape.dim);
  if (pad_k) check_cuda_dtype(Arg("pad_k", *pad_k));
  check_count("q", shape.batch * shape.clip_frames * shape.windows * shape.heads, shape.side, shape.dim);
}

Saved clip_attend(const Tensor& q, const Tensor& k, const Tensor& v, const std::optional<Tensor>& real,
                  const std::optional<Tensor>& pad_k, const std::optional<Tensor>& pad_v, double scale,
                  int64_t memory_frames, int64_t evict, bool for_backward) {
  const Arg query("q", q);
  ClipParams params = clip_params(query, k, v, real, pad_k, pad_v, scale, memory_frames, evict);
  check_cuda(query, params, pad_k);
  const torch::stable::accelerator::DeviceGuard guard(query.device_index);
  Saved results = new_results(query, params, for_backward);
  CudaLaunch("clip_attend", query).run(cuda::clip_attend, params);
  return results;
}

Tensor clip_attend_backward(const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v,
                            const std::optional<Tensor>& real, const std::optional<Tensor>& pad_k,
                            const std::optional<Tensor>& pad_v, const Tensor& out, const Tensor& out_column,
                            const Tensor& lse, double scale, int64_t memory_frames, int64_t evict) {
  const Arg query("q", q);
  const ClipParams forward = clip_params(query, k, v, real, pad_k, pad_v, scale, memory_frames, evict);
  check_cuda(query, forward, pad_k);
  ClipBackwardParams params = clip_backward_params(forward, query, dout, out, out_column, lse);
  const torch::stable::accelerator::DeviceGuard guard(query.device_index);
  const Tensor dq = new_clip(query, params.dq);
  CudaLaunch("clip_attend_backward", query).run(cuda::clip_attend_backward, params);
  return dq;
}

}  // namespace
}  // namespace svm

STABLE_TORCH_LIBRARY_IMPL(svm_ext, CUDA, m) {
  m.impl("clip_attend", TORCH_BOX(&svm::clip_attend));
  m.impl("clip_attend_backward", TORCH_BOX(&svm::clip_attend_backward));
}
