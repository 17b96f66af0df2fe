// The arguments of one frame's ops on the GPU, checked as far as the CPU can see: shapes, types and devices. Values lie
// on the GPU, and the kernels ignore those that make no sense.
#pragma once

#include <vector>

#include "cuda/launch.h"
#include "tensors.h"

namespace svm {

struct CudaFrame {
  CudaFrame(const Tensor& k_pool, const Tensor& v_pool, const Tensor& cursor, const std::optional<Tensor>& streams,
            const std::optional<Tensor>& real);

  PoolArgs pool;
  Rows rows;
  const int32_t* real;
};

void check_cuda_dtype(const Arg& arg);

AppendParams append_params(const CudaFrame& frame, const Tensor& k, const Tensor& v, const Tensor& step, int64_t evict);

// Everything but the outputs.
AttendParams attend_params(const CudaFrame& frame, const Arg& q, const std::optional<Tensor>& pad_k,
                           const std::optional<Tensor>& pad_v, double scale);

// A new output [B*W, H, N, D] of q's type, and its view.
Tensor new_frame(const CudaFrame& frame, const Arg& q);
TokenView frame_view(const CudaFrame& frame, const Tensor& tensor, Dtype dtype);

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
