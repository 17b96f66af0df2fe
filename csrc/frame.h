// The arguments of one frame's ops on the CPU, checked: what memory_append_ and memory_attend each have, and what they
// share; stream_step_ has all of it. When these return, all checks are done and nothing has been written.
#pragma once

#include "cpu/kernels.h"
#include "tensors.h"

namespace svm {

// The memory, who takes part, and how much of each window is real; values included.
struct CpuFrame {
  CpuFrame(const Tensor& k_pool, const Tensor& v_pool, const Tensor& cursor, const std::optional<Tensor>& streams,
           const std::optional<Tensor>& real);

  int64_t units() const { return pool.units(rows.batch); }
  const cpu::Kernels& kernels(Dtype io) const;
  double append_operations() const;  // of one unit, roughly
  double attend_operations() const;

  PoolArgs pool;
  Rows rows;
  const int32_t* real;
};

AppendParams append_params(const CpuFrame& frame, const Tensor& k, const Tensor& v, const Tensor& step, int64_t evict);

// Everything but the outputs.
AttendParams attend_params(const CpuFrame& frame, const Arg& q, const std::optional<Tensor>& pad_k,
                           const std::optional<Tensor>& pad_v, double scale);

// A new output [B*W, H, N, D] of q's type, and its view.
Tensor new_frame(const CpuFrame& frame, const Arg& q);
TokenView frame_view(const CpuFrame& frame, const Tensor& tensor, Dtype dtype);

}  // namespace svm
