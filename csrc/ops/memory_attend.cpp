#include <torch/csrc/stable/library.h>

#include "../cpu_frame.h"
#include "../parallel.h"

namespace svm {
namespace {

Saved memory_attend(const Tensor& q, const Tensor& k_pool, const Tensor& v_pool, const Tensor& cursor,
                    const std::optional<Tensor>& streams, const std::optional<Tensor>& real,
                    const std::optional<Tensor>& pad_k, const std::optional<Tensor>& pad_v, double scale,
                    bool for_backward) {
  const CpuFrame frame(k_pool, v_pool, cursor, streams, real);
  const Arg query("q", q);
  AttendParams params = frame.attend_params(query, pad_k, pad_v, scale);
  const cpu::Kernels& kernels = frame.kernels(params.q.dtype);
  Saved results = frame.new_results(query, params, for_backward);
  for_units(frame.units(), frame.attend_operations(),
            [&](int64_t begin, int64_t end) { kernels.memory_attend(params, begin, end); });
  return results;
}

Tensor memory_attend_backward(const Tensor& dout, const Tensor& q, const Tensor& k_pool, const Tensor& v_pool,
                              const Tensor& cursor, const std::optional<Tensor>& streams,
                              const std::optional<Tensor>& real, const std::optional<Tensor>& pad_k,
                              const std::optional<Tensor>& pad_v, const Tensor& out, const Tensor& out_column,
                              const Tensor& lse, double scale) {
  const CpuFrame frame(k_pool, v_pool, cursor, streams, real);
  const Arg query("q", q);
  const AttendParams forward = frame.attend_params(query, pad_k, pad_v, scale);
  AttendBackwardParams params = frame.backward_params(forward, query, dout, out, out_column, lse);
  const cpu::Kernels& kernels = frame.kernels(params.q.dtype);

  const Tensor dq = frame.new_output(query, params.dq);
  for_units(frame.units(), frame.attend_operations(),
            [&](int64_t begin, int64_t end) { kernels.memory_attend_backward(params, begin, end); });
  return dq;
}

}  // namespace
}  // namespace svm

STABLE_TORCH_LIBRARY_IMPL(svm_ext, CPU, m) {
  m.impl("memory_attend", TORCH_BOX(&svm::memory_attend));
  m.impl("memory_attend_backward", TORCH_BOX(&svm::memory_attend_backward));
}
