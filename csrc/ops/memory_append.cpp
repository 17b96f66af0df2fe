#include <torch/csrc/stable/library.h>

#include "../cpu_frame.h"
#include "../parallel.h"

namespace svm {
namespace {

void memory_append_(const Tensor& k_pool, const Tensor& v_pool, const Tensor& cursor, const Tensor& k, const Tensor& v,
                    const Tensor& step, const std::optional<Tensor>& streams, const std::optional<Tensor>& real,
                    int64_t evict) {
  const CpuFrame frame(k_pool, v_pool, cursor, streams, real);
  const AppendParams params = frame.append_params(k, v, step, evict);
  const cpu::Kernels& kernels = frame.kernels(params.k.dtype);
  for_units(frame.units(), frame.append_operations(),
            [&](int64_t begin, int64_t end) { kernels.memory_append(params, begin, end); });
}

}  // namespace
}  // namespace svm

STABLE_TORCH_LIBRARY_IMPL(svm_ext, CPU, m) { m.impl("memory_append_", TORCH_BOX(&svm::memory_append_)); }
