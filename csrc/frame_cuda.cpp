#include <cmath>
#include <stdexcept>
#include <string>

#include "cuda/memory_attend.h"
#include "cuda_frame.h"
#include "cuda_stream.h"

namespace svm {

CudaFrame::CudaFrame(const Tensor& k_pool, const Tensor& v_pool, const Tensor& cursor,
                     const std::optional<Tensor>& streams, const std::optional<Tensor>& real)
    : Frame(k_pool, v_pool, cursor, streams, real, PoolLayout::kTokens) {
  if (pool.view.dtype != Dtype::kFloat8) check_cuda_dtype(pool.k);
  check_count("k_pool", pool.units(rows.batch), pool.view.side, pool.view.dim);
}

void check_cuda_dtype(const Arg& arg) {
  SVM_CHECK(dtype_of(arg) != Dtype::kFloat64,
            "%s: expected float32, bfloat16 or float16 on the GPU, got float64; convert it", arg.name);
}

void check_count(const char* name, int64_t units, int64_t side, int64_t dim) {
  constexpr int64_t kMostItems = int64_t{1} << 31;  // blocks that share the units, and warps that share a unit's tokens
  constexpr int64_t kMostNumbers = int64_t{1} << 30;
  SVM_CHECK(units * side * side < kMostItems * 8 && 2 * units * side < kMostItems && side * side * dim <= kMostNumbers,
            "%s: expected less than 2^31 rows of tokens, got %lld units of %lld rows; split the batch", name,
            static_cast<long long>(units), static_cast<long long>(side));
}

void check_head_dim(const char* name, int64_t dim) {
  SVM_CHECK(dim <= cuda::kMostAttendDim, "%s: expected a head dim of at most %lld on the GPU, got %lld; use more heads",
            name, static_cast<long long>(cuda::kMostAttendDim), static_cast<long long>(dim));
}

void CudaFrame::check_frame(const Arg& tokens) const { check_cuda_dtype(tokens); }

void CudaFrame::check_query(const Arg& q, const std::optional<Tensor>& pad_k) const {
  check_cuda_dtype(q);
  check_head_dim("q", pool.view.dim);
  if (pad_k) check_cuda_dtype(Arg("pad_k", *pad_k));
}

CudaLaunch::CudaLaunch(const char* op, const Arg& like)
    : op_(op), like_(like), target_{like.device_index, current_cuda_stream(like.device_index), take, this} {}

void* CudaLaunch::take(void* launch, int64_t bytes) {
  CudaLaunch& self = *static_cast<CudaLaunch*>(launch);
  const auto numbers = static_cast<int64_t>((bytes + sizeof(float) - 1) / sizeof(float));
  self.scratch_.push_back(new_tensor(self.like_, aoti_torch_dtype_float32(), {numbers}));
  return self.scratch_.back().data_ptr();
}

void CudaLaunch::check(const char* fault) const {
  if (!fault) return;
  throw std::runtime_error(std::string(op_) + ": could not start on the GPU: " + fault +
                           "; svm-ext info shows what was built for which GPU");
}

}  // namespace svm
