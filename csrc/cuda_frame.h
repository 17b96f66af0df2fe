// One frame's ops on the GPU, checked as far as the CPU can see: shapes, types and devices. Values lie on the GPU, and
// the kernels ignore those that make no sense.
#pragma once

#include <vector>

#include "cuda/launch.h"
#include "frame.h"

namespace svm {

class CudaFrame final : public Frame {
 public:
  CudaFrame(const Tensor& k_pool, const Tensor& v_pool, const Tensor& cursor, const std::optional<Tensor>& streams,
            const std::optional<Tensor>& real);

 private:
  void check_frame(const Arg& tokens) const override;
  void check_query(const Arg& q, const std::optional<Tensor>& pad_k) const override;
  void check_values(const AppendParams&) const override {}
};

void check_cuda_dtype(const Arg& arg);
// The kernels count these in 32 bits.
void check_count(const char* name, int64_t units, int64_t side, int64_t dim);
void check_head_dim(const char* name, int64_t dim);

// A launch on torch's current stream, with scratch memory of torch's. Whatever torch does next on this stream comes
// after it, so that the scratch can be given back as soon as the launch has begun.
class CudaLaunch {
 public:
  CudaLaunch(const char* op, const Arg& like);

  template <class Params>
  void run(const char* (*entry)(const Params&, cuda::Target), const Params& params) {
    check(entry(params, target_));
  }

 private:
  static void* take(void* launch, int64_t bytes);
  void check(const char* fault) const;

  const char* op_;
  const Arg& like_;
  cuda::Target target_;
  std::vector<Tensor> scratch_;
};

}  // namespace svm
