// The arguments of a clip's ops, [B, T, W, H, N, D], checked as far as shapes, types and devices tell.
#pragma once

#include "tensors.h"

namespace svm {

// Everything but the outputs.
ClipParams clip_params(const Arg& q, const Tensor& k, const Tensor& v, const std::optional<Tensor>& real,
                       const std::optional<Tensor>& pad_k, const std::optional<Tensor>& pad_v, double scale,
                       int64_t memory_frames, int64_t evict);
ClipBackwardParams clip_backward_params(const ClipParams& forward, const Arg& q, const Tensor& dout, const Tensor& out,
                                        const Tensor& out_column, const Tensor& lse);

// A new output of q's shape and type, a new log-sum-exp, and a view.
Tensor new_clip(const Arg& q);
Tensor new_clip_lse(const Arg& q, const ClipShape& shape);
ClipView clip_view(const char* name, const Tensor& tensor, const Arg& q, const ClipShape& shape);

}  // namespace svm
