#include <torch/csrc/stable/library.h>

#include "../cpu_frame.h"
#include "../parallel.h"

namespace svm {
namespace {

Tensor stream_step_(const Tensor& k_pool, const Tensor& v_pool, const Tensor& cursor, const Tensor& q, const Tensor& k,
                    const Tensor& v, const Tensor& step, const std::optional<Tensor>& streams,
                    const std::optional<Tensor>& real, const std::optional<Tensor>& pad_k,
                    const std::optional<Tensor>& pad_v, double scale, int64_t evict) {
  const CpuFrame frame(k_pool, v_pool, cursor, streams, real);
  const Arg query("q", q);
  StepParams params = frame.step_params(query, k, v, step, pad_k, pad_v, scale, evict);
  const cpu::Kernels& kernels = frame.kernels(params.attend.q.dtype);

  const Tensor out = frame.new_output(query, params.attend.out);
  for_units(frame.units(), frame.append_operations() + frame.attend_operations(),
            [&](int64_t begin, int64_t end) { kernels.stream_step(params, begin, end); });
  return out;
}

}  // namespace
}  // namespace svm

STABLE_TORCH_LIBRARY_IMPL(svm_ext, CPU, m) { m.impl("stream_step_", TORCH_BOX(&svm::stream_step_)); }
