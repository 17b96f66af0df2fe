#include "clip.h"

#include <cmath>

namespace svm {
namespace {

// The shape of q [B, T, W, H, N, D] and how its frames see each other.
ClipShape clip_shape(const Arg& q, int64_t memory_frames, int64_t evict) {
  SVM_CHECK(q.rank == 6, "q: expected shape [B, T, W, H, n*n, D], got %s; give every frame its windows and heads",
            shape_text(q).c_str());
  const int64_t tokens = q.sizes[4];
  const int64_t side = std::llround(std::sqrt(static_cast<double>(tokens)));
  SVM_CHECK(tokens > 0 && side * side == tokens, "q: expected n*n tokens a window, got %lld; windows are square",
            static_cast<long long>(tokens));
  SVM_CHECK(q.sizes[5] > 0, "q: expected at least one channel, got shape %s; check the head dim",
            shape_text(q).c_str());
  SVM_CHECK(memory_frames > 0,
            "memory_frames: expected at least 1, got %lld; it is the frames that a memory would hold",
            static_cast<long long>(memory_frames));
  SVM_CHECK(evict == 1 || evict == 2,
            "evict: expected 1 (fifo) or 2 (clear) for a clip, got %lld; merge needs a memory",
            static_cast<long long>(evict));
  return {q.sizes[0], q.sizes[1], q.sizes[2], q.sizes[3], side, q.sizes[5], memory_frames, evict_of(evict)};
}

ClipView strided(const Arg& arg) {
  const int64_t* stride = arg.strides;
  return {arg.data, dtype_of(arg), stride[0], stride[1], stride[2], stride[3], stride[4], stride[5]};
}

ClipView clip_view(const Arg& arg, const Arg& q, const ClipShape& shape) {
  check_same_device(arg, q);
  check_like(arg, q);
  check_shape(arg,
              {{"B", shape.batch},
               {"T", shape.clip_frames},
               {"W", shape.windows},
               {"H", shape.heads},
               {"n*n", shape.side * shape.side},
               {"D", shape.dim}},
              "all tensors of a clip have q's shape");
  return strided(arg);
}

ClipView clip_view(const char* name, const Tensor& tensor, const Arg& q, const ClipShape& shape) {
  return clip_view(Arg(name, tensor), q, shape);
}

}  // namespace

ClipParams clip_params(const Arg& q, const Tensor& k, const Tensor& v, const std::optional<Tensor>& real,
                       const std::optional<Tensor>& pad_k, const std::optional<Tensor>& pad_v, double scale,
                       int64_t memory_frames, int64_t evict) {
  ClipParams params = {};
  params.shape = clip_shape(q, memory_frames, evict);
  params.q = clip_view(q, q, params.shape);
  params.k = clip_view("k", k, q, params.shape);
  params.v = clip_view("v", v, q, params.shape);
  const int32_t* real_sides = real_of(real, q, params.shape.windows);
  params.padding = padding_of(real_sides, pad_k, pad_v, q, params.shape.heads, params.shape.dim);
  params.scale = scale;
  return params;
}

ClipBackwardParams clip_backward_params(const ClipParams& forward, const Arg& q, const Tensor& dout, const Tensor& out,
                                        const Tensor& out_column, const Tensor& lse) {
  const ClipShape& shape = forward.shape;
  ClipBackwardParams params = {};
  params.shape = shape;
  params.q = forward.q;
  params.k = forward.k;
  params.v = forward.v;
  params.padding = forward.padding;
  params.scale = forward.scale;
  params.dout = clip_view("dout", dout, q, shape);
  params.out = clip_view("out", out, q, shape);
  params.out_column = clip_view("out_column", out_column, q, shape);
  params.lse = lse_of(lse, q,
                      {{"B", shape.batch},
                       {"T", shape.clip_frames},
                       {"W", shape.windows},
                       {"H", shape.heads},
                       {"plane", 2},
                       {"n*n", shape.side * shape.side}});
  return params;
}

Tensor new_clip(const Arg& q, ClipView& view) {
  Tensor clip = new_transposed(q, {q.sizes[0], q.sizes[1], q.sizes[2], q.sizes[3], q.sizes[4], q.sizes[5]});
  view = strided(Arg("out", clip));
  return clip;
}

Saved new_results(const Arg& q, ClipParams& params, bool for_backward) {
  Tensor out = new_clip(q, params.out);
  if (!for_backward) return {std::move(out), std::nullopt, std::nullopt};
  Tensor out_column = new_clip(q, params.out_column);
  Tensor lse = new_tensor(q, lse_dtype(q), {q.sizes[0], q.sizes[1], q.sizes[2], q.sizes[3], 2, q.sizes[4]});
  params.lse = lse.data_ptr();
  return {std::move(out), std::move(out_column), std::move(lse)};
}

}  // namespace svm
