#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include <stdexcept>
#include <string>

#include "../cuda_stream.h"
#include "../tensors.h"
#include "cuda/memory_append.h"

namespace svm {
namespace {

void check_gpu_dtype(const Arg& arg) {
  SVM_CHECK(dtype_of(arg) != Dtype::kFloat64,
            "%s: expected float32, bfloat16 or float16 on the GPU, got float64; convert it", arg.name);
}

// Shapes, types and devices are checked here; values lie on the GPU, and the kernel ignores those that make no sense.
void memory_append_(const Tensor& k_pool, const Tensor& v_pool, const Tensor& cursor, const Tensor& k, const Tensor& v,
                    const Tensor& step, const std::optional<Tensor>& streams, const std::optional<Tensor>& real,
                    int64_t evict) {
  const PoolArgs pool(k_pool, v_pool, cursor, PoolLayout::kTokens);
  const Rows rows = rows_of(streams, pool);
  const Arg key("k", k);
  const Arg value("v", v);
  AppendParams params;
  params.pool = pool.view;
  params.k = token_view(key, pool, rows.batch);
  params.v = token_view(value, pool, rows.batch);
  params.step = step_of(step, pool);
  params.streams = rows.streams;
  params.batch = rows.batch;
  params.real = real_of(real, pool.k, pool.view.windows);
  params.evict = evict_of(evict);
  check_gpu_dtype(pool.k);
  check_gpu_dtype(key);
  check_like(value, key);
  constexpr int64_t kMost = int64_t{1} << 30;  // the kernel counts these in 32 bits
  SVM_CHECK(pool.units(rows.batch) <= kMost && pool.view.side * pool.view.side * pool.view.dim <= kMost,
            "k: expected at most 2^30 units, and 2^30 numbers in each, got shape %s; split the batch",
            shape_text(key).c_str());

  const torch::stable::accelerator::DeviceGuard guard(pool.k.device_index);
  const char* error = cuda::memory_append(params, {pool.k.device_index, current_cuda_stream(pool.k.device_index)});
  if (error) {
    throw std::runtime_error(std::string("memory_append_: could not start on the GPU: ") + error +
                             "; svm-ext info shows what was built for which GPU");
  }
}

}  // namespace
}  // namespace svm

STABLE_TORCH_LIBRARY_IMPL(svm_ext, CUDA, m) { m.impl("memory_append_", TORCH_BOX(&svm::memory_append_)); }
