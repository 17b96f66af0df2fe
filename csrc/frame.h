// The arguments of one frame's ops, checked: what memory_append_ and memory_attend each have, and what they share;
// stream_step_ has all of it. When these return, all checks are done and nothing has been written.
#pragma once

#include "tensors.h"

namespace svm {

// The memory, who takes part, and how much of each window is real. Which types there are kernels for, and what can be
// said of values, the frame of a device knows.
class Frame {
 public:
  AppendParams append_params(const Tensor& k, const Tensor& v, const Tensor& step, int64_t evict) const;

  // Everything but the outputs.
  AttendParams attend_params(const Arg& q, const std::optional<Tensor>& pad_k, const std::optional<Tensor>& pad_v,
                             double scale) const;
  AttendBackwardParams backward_params(const AttendParams& forward, const Arg& q, const Tensor& dout, const Tensor& out,
                                       const Tensor& out_column, const Tensor& lse) const;
  StepParams step_params(const Arg& q, const Tensor& k, const Tensor& v, const Tensor& step,
                         const std::optional<Tensor>& pad_k, const std::optional<Tensor>& pad_v, double scale,
                         int64_t evict) const;

  // A new output [B*W, H, N, D] of q's type, and its view.
  Tensor new_output(const Arg& q, TokenView& view) const;
  // All that an attend returns; the views go to `params`.
  Saved new_results(const Arg& q, AttendParams& params, bool for_backward) const;

  int64_t units() const { return pool.units(rows.batch); }

  PoolArgs pool;
  Rows rows;
  const int32_t* real;

 protected:
  Frame(const Tensor& k_pool, const Tensor& v_pool, const Tensor& cursor, const std::optional<Tensor>& streams,
        const std::optional<Tensor>& real, PoolLayout layout);
  ~Frame() = default;

  virtual void check_frame(const Arg& tokens) const = 0;  // the type of k or v
  virtual void check_query(const Arg& q, const std::optional<Tensor>& pad_k) const = 0;
  virtual void check_values(const AppendParams& params) const = 0;

 private:
  TokenView like_query(const char* name, const Tensor& tensor, const Arg& q) const;
};

}  // namespace svm
