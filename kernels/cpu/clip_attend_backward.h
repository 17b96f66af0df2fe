// The gradient of clip_attend with respect to the queries, line by line like the forward; memory_attend_backward.h has
// the formulas. All weights of a query are there at once, so D is the mean of their gradients: that is
// dout . (the plane's output), and spares reading the outputs.
#pragma once

#include <cstdint>

#include "cpu/clip_attend.h"

namespace svm::cpu::SVM_ISA {

using ClipBackwardUnit = ClipUnitOf<ClipBackwardParams>;

// What one query's padded tokens have to do with it: their weight and its gradient.
struct PaddingGradient {
  float weight = 0.0f, grad = 0.0f;
};
template <class Number>
inline PaddingGradient padding_gradient(const LinePadding& padding, const Number* query, const Number* dout, int dim,
                                        float scale, int frames, float lse) {
  if (!padding) return {};
  Vec grad = zero();
  for (int d = 0; d < dim; d += kWidth) grad = fma(load(dout + d), load(padding.token.v + d), grad);
  return {__builtin_exp2f(padding.logit(query, dim, scale, frames) - lse), reduce_add(grad)};
}

// One query's scores become weights, and then, with the gradients of the weights, the gradients of the scores. Returns
// D, which is taken off the former: their mean. It is one by weights that sum up to 1 only nearly, so their sum counts.
template <class Format>
inline float score_gradient(float* scores, const float* grads, KeyRange range, float scale, float lse,
                            const PaddingGradient& padding) {
  const Vec by = broadcast(scale), below = broadcast(-lse);
  Vec total = zero(), sum = zero();
  over_keys(range, [&](int key, auto keep) {
    const Vec weight = exp2(fma(load(scores + key), by, below));
    total = add(total, keep(weight, zero()));
    sum = add(sum, keep(mul(weight, load(grads + key)), zero()));
    store(scores + key, weight);
  });
  const float mean = (reduce_add(sum) + padding.weight * padding.grad) / (reduce_add(total) + padding.weight);
  const Vec off = broadcast(mean);
  over_keys(range, [&](int key, auto) {
    store_weight<Format>(scores, key, mul(load(scores + key), sub(load(grads + key), off)));
  });
  return mean;
}

// A frame's gradients in one line, complete with the row plane's.
inline void write_dq(const ClipBackwardUnit& u, const Line& line, int t, float* dq) {
  const TokenRows to = u.tokens(u.params.dq).frame(t);
  const Vec by = broadcast(static_cast<float>(u.params.scale));
  for (int i = 0; i < line.tokens; ++i, dq += u.shape.dim) {
    for (int d = 0; d < u.shape.dim; d += kWidth) store(dq + d, mul(load(dq + d), by));
    write_token(to, line.token(i), u.shape.dim, dq);
  }
}

// All frames of one line. `next` is the line that comes then: its tokens are fetched along the way.
template <class Format>
inline void attend_line_backward(const ClipBackwardUnit& u, const Line& line, const Line& next) {
  using Number = Element<Format>;
  const ClipBackwardParams& p = u.params;
  const int dim = u.shape.dim, frames = static_cast<int>(p.shape.clip_frames), count = frames * line.tokens;
  Number* queries = reinterpret_cast<Number*>(u.room.queries);
  Number* douts = reinterpret_cast<Number*>(u.room.douts);
  Number* tokens = reinterpret_cast<Number*>(u.room.keys);
  read_line(u.tokens(p.v), line, frames, dim, tokens);
  const auto* value_keys = key_panel<Format>(tokens, count, dim, u.room.value_panel);
  read_line(u.tokens(p.k), line, frames, dim, tokens);
  const auto* keys = key_panel<Format>(tokens, count, dim, u.room.key_panel);
  const auto* key_values = value_panel<Format>(tokens, count, dim, u.room.values);
  read_line(u.tokens(p.q), line, frames, dim, queries);
  read_line(u.tokens(p.dout), line, frames, dim, douts);
  const LinePadding padding(u.padded, line);
  for (int t = 0; t < frames; ++t) {
    FrameAhead coming, results;
    for (const ClipView* view : {&p.q, &p.k, &p.v, &p.dout}) coming.add(u.tokens(*view).frame(t));
    if (!line.is_column) results.add(u.tokens(p.dq).frame(t));
    const Number* query = queries + static_cast<int64_t>(t) * line.tokens * dim;
    const Number* dout = douts + static_cast<int64_t>(t) * line.tokens * dim;
    const KeyRange range = seen_keys(p.shape, line, t);
    const int seen = (range.end - range.begin) / line.tokens;
    line_scores<Format>(query, line.tokens, keys, range, dim, u.room.scores);
    line_scores<Format>(dout, line.tokens, value_keys, range, dim, u.room.grads);
    float* dq = u.room.waiting.of(line, t);
    const int64_t dq_stride = u.room.waiting.token_stride(line);
    for (int i = 0; i < line.tokens; ++i) {
      coming.fetch(next, i, dim);
      results.fetch(line, i, dim);
      const float lse = u.lse(t, !line.is_column)[line.token(i)] * kLog2e;
      const int64_t at = static_cast<int64_t>(i) * dim;
      const auto beyond = padding_gradient(padding, query + at, dout + at, dim, u.scale(), seen, lse);
      const float mean = score_gradient<Format>(u.room.scores.of(i), u.room.grads.of(i), range, u.scale(), lse, beyond);
      float* sum = dq + i * dq_stride;
      const Vec by = broadcast(beyond.weight * (beyond.grad - mean));
      for (int d = 0; d < dim; d += kWidth) {
        const Vec before = line.is_column ? zero() : load(sum + d);
        store(sum + d, padding ? fma(load(padding.token.k + d), by, before) : before);
      }
    }
    line_gather<Format>(u.room.scores, line.tokens, key_values, range, dim, dq, dq_stride);
    if (!line.is_column) write_dq(u, line, t, dq);
  }
}

template <class Bf16Format>
inline void clip_attend_backward(const ClipBackwardParams& p, int64_t begin, int64_t end) {
  const auto attend = [](auto format, const ClipBackwardUnit& u, const Line& line, const Line& next) {
    attend_line_backward<decltype(format)>(u, line, next);
  };
  const auto pad = [](const ClipBackwardUnit& u, int t, int token) {
    write_zero_token(u.tokens(u.params.dq).frame(t), token, u.shape.dim);
  };
  over_clip_units<Bf16Format, ClipBackwardUnit>(p, begin, end, attend, pad);
}

}  // namespace svm::cpu::SVM_ISA
