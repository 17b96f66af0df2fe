#include <torch/csrc/stable/library.h>

#include <cmath>
#include <tuple>

#include "../parallel.h"
#include "../tensors.h"
#include "cpu/kernels.h"

namespace svm {
namespace {

// out; out_column and lse where the backward is to follow.
using Saved = std::tuple<Tensor, std::optional<Tensor>, std::optional<Tensor>>;

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
  const int64_t* stride = arg.strides;
  return {arg.data, dtype_of(arg), stride[0], stride[1], stride[2], stride[3], stride[4], stride[5]};
}

ClipView clip_view(const char* name, const Tensor& tensor, const Arg& q, const ClipShape& shape) {
  return clip_view(Arg(name, tensor), q, shape);
}

// What forward and backward have in common.
template <class Params>
Params clip_params(const Arg& q, const Tensor& k, const Tensor& v, const std::optional<Tensor>& real,
                   const std::optional<Tensor>& pad_k, const std::optional<Tensor>& pad_v, double scale,
                   int64_t memory_frames, int64_t evict) {
  Params params = {};
  params.shape = clip_shape(q, memory_frames, evict);
  const Dtype dtype = dtype_of(q);
  check_cpu_dtype(q, dtype);
  params.q = clip_view(q, q, params.shape);
  params.k = clip_view("k", k, q, params.shape);
  params.v = clip_view("v", v, q, params.shape);
  const int32_t* real_sides = real_of(real, q, params.shape.windows);
  params.padding = padding_of(real_sides, pad_k, pad_v, q, params.shape.heads, params.shape.dim);
  params.scale = scale;
  check_real(real_sides, params.shape.windows, params.shape.side);
  return params;
}

Tensor new_clip(const Arg& q) {
  return new_transposed(q, {q.sizes[0], q.sizes[1], q.sizes[2], q.sizes[3], q.sizes[4], q.sizes[5]});
}

double clip_operations(const ClipShape& shape) {
  const int64_t held = std::min(shape.memory_frames, shape.clip_frames);
  return 8.0 * static_cast<double>(shape.side * shape.side * shape.side * shape.clip_frames * held * shape.dim);
}

Saved clip_attend(const Tensor& q, const Tensor& k, const Tensor& v, const std::optional<Tensor>& real,
                  const std::optional<Tensor>& pad_k, const std::optional<Tensor>& pad_v, double scale,
                  int64_t memory_frames, int64_t evict, bool for_backward) {
  const Arg query("q", q);
  auto params = clip_params<ClipParams>(query, k, v, real, pad_k, pad_v, scale, memory_frames, evict);
  const ClipShape& shape = params.shape;
  Tensor out = new_clip(query);
  params.out = clip_view("out", out, query, shape);
  std::optional<Tensor> out_column, lse;
  if (for_backward) {
    out_column = new_clip(query);
    lse = new_tensor(query, lse_dtype(query),
                     {shape.batch, shape.clip_frames, shape.windows, shape.heads, 2, shape.side * shape.side});
    params.out_column = clip_view("out_column", *out_column, query, shape);
    params.lse = lse->data_ptr();
  }
  const cpu::Kernels& kernels = cpu::kernels_for(params.q.dtype, params.q.dtype, shape.side, shape.dim);
  for_units(shape.batch * shape.windows * shape.heads, clip_operations(shape),
            [&](int64_t begin, int64_t end) { kernels.clip_attend(params, begin, end); });
  return {std::move(out), std::move(out_column), std::move(lse)};
}

Tensor clip_attend_backward(const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v,
                            const std::optional<Tensor>& real, const std::optional<Tensor>& pad_k,
                            const std::optional<Tensor>& pad_v, const Tensor& out, const Tensor& out_column,
                            const Tensor& lse, double scale, int64_t memory_frames, int64_t evict) {
  const Arg query("q", q);
  auto params = clip_params<ClipBackwardParams>(query, k, v, real, pad_k, pad_v, scale, memory_frames, evict);
  const ClipShape& shape = params.shape;
  params.dout = clip_view("dout", dout, query, shape);
  params.out = clip_view("out", out, query, shape);
  params.out_column = clip_view("out_column", out_column, query, shape);
  params.lse = lse_of(lse, query,
                      {{"B", shape.batch},
                       {"T", shape.clip_frames},
                       {"W", shape.windows},
                       {"H", shape.heads},
                       {"plane", 2},
                       {"n*n", shape.side * shape.side}});
  Tensor dq = new_clip(query);
  params.dq = clip_view("dq", dq, query, shape);
  const cpu::Kernels& kernels = cpu::kernels_for(params.q.dtype, params.q.dtype, shape.side, shape.dim);
  for_units(shape.batch * shape.windows * shape.heads, clip_operations(shape),
            [&](int64_t begin, int64_t end) { kernels.clip_attend_backward(params, begin, end); });
  return dq;
}

}  // namespace
}  // namespace svm

STABLE_TORCH_LIBRARY_IMPL(svm_ext, CPU, m) {
  m.impl("clip_attend", TORCH_BOX(&svm::clip_attend));
  m.impl("clip_attend_backward", TORCH_BOX(&svm::clip_attend_backward));
}
