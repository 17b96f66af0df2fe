#include <torch/csrc/stable/library.h>

#include "../clip.h"
#include "../parallel.h"
#include "cpu/kernels.h"

namespace svm {
namespace {

void check_cpu(const Arg& q, const ClipParams& params) {
  check_cpu_dtype(q, params.q.dtype);
  check_real(params.padding.real, params.shape.windows, params.shape.side);
}

double clip_operations(const ClipShape& shape) {
  const int64_t held = std::min(shape.memory_frames, shape.clip_frames);
  return 8.0 * static_cast<double>(shape.side * shape.side * shape.side * shape.clip_frames * held * shape.dim);
}

Saved clip_attend(const Tensor& q, const Tensor& k, const Tensor& v, const std::optional<Tensor>& real,
                  const std::optional<Tensor>& pad_k, const std::optional<Tensor>& pad_v, double scale,
                  int64_t memory_frames, int64_t evict, bool for_backward) {
  const Arg query("q", q);
  ClipParams params = clip_params(query, k, v, real, pad_k, pad_v, scale, memory_frames, evict);
  check_cpu(query, params);
  const ClipShape& shape = params.shape;
  Saved results = new_results(query, params, for_backward);
  const cpu::Kernels& kernels = cpu::kernels_for(params.q.dtype, params.q.dtype, shape.side, shape.dim);
  for_units(shape.batch * shape.windows * shape.heads, clip_operations(shape),
            [&](int64_t begin, int64_t end) { kernels.clip_attend(params, begin, end); });
  return results;
}

Tensor clip_attend_backward(const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v,
                            const std::optional<Tensor>& real, const std::optional<Tensor>& pad_k,
                            const std::optional<Tensor>& pad_v, const Tensor& out, const Tensor& out_column,
                            const Tensor& lse, double scale, int64_t memory_frames, int64_t evict) {
  const Arg query("q", q);
  const ClipParams forward = clip_params(query, k, v, real, pad_k, pad_v, scale, memory_frames, evict);
  check_cpu(query, forward);
  ClipBackwardParams params = clip_backward_params(forward, query, dout, out, out_column, lse);
  const ClipShape& shape = params.shape;
  const Tensor dq = new_clip(query, params.dq);
  const cpu::Kernels& kernels = cpu::kernels_for(params.q.dtype, params.q.dtype, shape.side, shape.dim);
  for_units(shape.batch * shape.windows * shape.heads, clip_operations(shape),
            [&](int64_t begin, int64_t end) { kernels.clip_attend_backward(params, begin, end); });
  return dq;
}

}  // namespace
}  // namespace svm

STABLE_TORCH_LIBRARY_IMPL(svm_ext, CPU, m) {
  m.impl("clip_attend", TORCH_BOX(&svm::clip_attend));
  m.impl("clip_attend_backward", TORCH_BOX(&svm::clip_attend_backward));
}
