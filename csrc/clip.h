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

// A new output of q's shape and type, and its view.
Tensor new_clip(const Arg& q, ClipView& view);
// All that an attend returns; the views go to `params`.
Saved new_results(const Arg& q, ClipParams& params, bool for_backward);

}  // namespace svm
