#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "../cuda_frame.h"
#include "cuda/memory_attend.h"

namespace svm {
namespace {

// out; out_column and lse where the backward is to follow.
using Saved = std::tuple<Tensor, std::optional<Tensor>, std::optional<Tensor>>;

Saved memory_attend(const Tensor& q, const Tensor& k_pool, const Tensor& v_pool, const Tensor& cursor,
                    const std::optional<Tensor>& streams, const std::optional<Tensor>& real,
                    const std::optional<Tensor>& pad_k, const std::optional<Tensor>& pad_v, double scale,
                    bool for_backward) {
  const CudaFrame frame(k_pool, v_pool, cursor, streams, real);
  const Arg query("q", q);
  AttendParams params = attend_params(frame, query, pad_k, pad_v, scale);
  const torch::stable::accelerator::DeviceGuard guard(query.device_index);
  Tensor out = new_frame(frame, query);
  params.out = frame_view(frame, out, params.q.dtype);
  std::optional<Tensor> out_column, lse;
  if (for_backward) {
    const int64_t* size = query.sizes;
    out_column = new_frame(frame, query);
    lse = new_tensor(query, lse_dtype(query), {size[0], size[1], 2, size[2]});
    params.out_column = frame_view(frame, *out_column, params.q.dtype);
    params.lse = lse->data_ptr();
  }
  CudaLaunch("memory_attend", query).run(cuda::memory_attend, params);
  return {std::move(out), std::move(out_column), std::move(lse)};
}

Tensor memory_attend_backward(const Tensor& dout, const Tensor& q, const Tensor& k_pool, const Tensor& v_pool,
                              const Tensor& cursor, const std::optional<Tensor>& streams,
                              const std::optional<Tensor>& real, const std::optional<Tensor>& pad_k,
                              const std::optional<Tensor>& pad_v, const Tensor& out, const Tensor& out_column,
                              const Tensor& lse, double scale) {
  const CudaFrame frame(k_pool, v_pool, cursor, streams, real);
  const Arg query("q", q);
  const AttendParams forward = attend_params(frame, query, pad_k, pad_v, scale);
  const auto like_q = [&](const char* name, const Tensor& tensor) {
    const Arg arg(name, tensor);
    check_like(arg, query);
    return token_view(arg, frame.pool, frame.rows.batch);
  };
  AttendBackwardParams params = {};
  params.pool = forward.pool;
  params.dout = like_q("dout", dout);
  params.q = forward.q;
  params.out = like_q("out", out);
  params.out_column = like_q("out_column", out_column);
  const int64_t* size = query.sizes;
  params.lse = lse_of(lse, query, {{"B*W", size[0]}, {"H", size[1]}, {"plane", 2}, {"n*n", size[2]}});
  params.streams = forward.streams;
  params.batch = forward.batch;
  params.padding = forward.padding;
  params.scale = scale;
  const torch::stable::accelerator::DeviceGuard guard(query.device_index);
  Tensor dq = new_frame(frame, query);
  params.dq = frame_view(frame, dq, params.q.dtype);
  CudaLaunch("memory_attend_backward", query).run(cuda::memory_attend_backward, params);
  return dq;
}

}  // namespace
}  // namespace svm

STABLE_TORCH_LIBRARY_IMPL(svm_ext, CUDA, m) {
  m.impl("memory_attend", TORCH_BOX(&svm::memory_attend));
  m.impl("memory_attend_backward", TORCH_BOX(&svm::memory_attend_backward));
}
