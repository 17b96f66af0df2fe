// One frame's ops on the CPU, where values can be checked too.
#pragma once

#include "cpu/kernels.h"
#include "frame.h"

namespace svm {

class CpuFrame final : public Frame {
 public:
  CpuFrame(const Tensor& k_pool, const Tensor& v_pool, const Tensor& cursor, const std::optional<Tensor>& streams,
           const std::optional<Tensor>& real);

  const cpu::Kernels& kernels(Dtype io) const;
  double append_operations() const;  // of one unit, roughly
  double attend_operations() const;

 private:
  void check_frame(const Arg& tokens) const override;
  void check_query(const Arg& q, const std::optional<Tensor>& pad_k) const override;
  void check_values(const AppendParams& params) const override;
};

}  // namespace svm
