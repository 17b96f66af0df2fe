// All frames of a clip at once, one line of a unit after the other.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cpu/clip_lines.h"
#include "cpu/memory_attend.h"

namespace svm::cpu::SVM_ISA {

inline int64_t clip_lse_offset(const ClipShape& c, UnitIndex at, int64_t t) {
  return (((at.batch * c.clip_frames + t) * c.windows + at.window) * c.heads + at.head) * 2 * c.side * c.side;
}

// What the padded tokens of a line are to its queries: one key of weight `count` times the frames seen.
struct LinePadding {
  PaddedToken token;  // token.k == nullptr: nothing
  int count;          // padded tokens in each frame

  LinePadding(const PaddedToken& padded, const Line& line) : token(padded), count(line.side - line.tokens) {
    if (count == 0) token.k = nullptr;
  }
  explicit operator bool() const { return token.k != nullptr; }

  // In the base-2 domain, of which `scale` is.
  template <class Number>
  float logit(const Number* query, int dim, float scale, int frames) const {
    Vec sum = zero();
    for (int d = 0; d < dim; d += kWidth) sum = fma(load(query + d), load(token.k + d), sum);
    return reduce_add(sum) * scale + __builtin_log2f(static_cast<float>(count) * static_cast<float>(frames));
  }
};

// The softmax of one query.
struct LineSoftmax {
  float maximum, sum;  // in the base-2 domain
  float padding;       // the weight of the padded tokens, not yet divided by the sum
};

// One query's scores become weights, not yet divided by their sum.
template <class Format>
inline LineSoftmax weigh(float* row, KeyRange range, float scale, float padding_logit) {
  const Vec by = broadcast(scale), lowest = broadcast(kMinusInfinity);
  Vec highest = lowest;
  over_keys(range, [&](int key, auto keep) { highest = max(highest, keep(mul(load(row + key), by), lowest)); });
  const float top = reduce_max(highest);
  LineSoftmax found;
  found.maximum = padding_logit > top ? padding_logit : top;
  const Vec below = broadcast(-found.maximum);
  Vec total = zero();
  over_keys(range, [&](int key, auto keep) {
    const Vec weight = exp2(fma(load(row + key), by, below));
    total = add(total, keep(weight, zero()));
    store_weight<Format>(row, key, weight);
  });
  found.padding = padding_logit > kMinusInfinity ? __builtin_exp2f(padding_logit - found.maximum) : 0.0f;
  found.sum = reduce_add(total) + found.padding;
  return found;
}

// One unit's clip, in a forward or a backward.
template <class Params>
struct ClipUnitOf {
  const Params& params;
  UnitIndex at;
  UnitShape shape;
  PaddedToken padded;
  LineRoom room;

  ClipTokens tokens(const ClipView& view) const { return {view, at}; }
  float scale() const { return static_cast<float>(params.scale) * kLog2e; }
  auto lse(int t, bool of_rows) const {
    constexpr bool kReadOnly = std::is_same_v<decltype(Params::lse), const void*>;
    auto* numbers = static_cast<std::conditional_t<kReadOnly, const float, float>*>(params.lse);
    return numbers + clip_lse_offset(params.shape, at, t) + (of_rows ? shape.tokens() : 0);
  }
};

struct ClipUnit : ClipUnitOf<ClipParams> {
  bool for_backward() const { return params.out_column.data != nullptr; }
};

// Unit by unit: `attend(format, unit, line, next)` for each of its lines, with the format that suits the line and the
// line that comes then, and at the end `pad(unit, frame, token)` for all tokens beyond the picture.
template <class Bf16Format, class Unit, class Params, class Attend, class Pad>
inline void over_clip_units(const Params& p, int64_t begin, int64_t end, Attend attend, Pad pad) {
  const ClipShape& c = p.shape;
  for (int64_t unit = begin; unit < end; ++unit) {
    const UnitIndex at = unit_index(unit, c.windows, c.heads);
    const UnitShape s = unit_shape(c.side, c.dim, p.padding.real, at.window);
    alignas(64) float bias[2 * kMaxDim];
    const UnitLines lines{s};
    const Unit u{p, at, s, padded_token(p.padding, at.head, s.dim, bias),
                 LineRoom::take(thread_scratch<1>(), lines, static_cast<int>(c.clip_frames))};
    for (int i = 0; i < lines.count(); ++i) {
      const Line line = lines.line(i), next = lines.line(i + 1 < lines.count() ? i + 1 : i);
      with_line_format<Bf16Format>(p.q.dtype, line, [&](auto format) { attend(format, u, line, next); });
    }
    if (s.rows == s.side && s.columns == s.side) continue;
    for (int t = 0; t < c.clip_frames; ++t)
      for (int token = 0; token < s.tokens(); ++token)
        if (token / s.side >= s.rows || token % s.side >= s.columns) pad(u, t, token);
  }
}

// The results of a frame's queries in one line: in the column plane they wait, in the row plane they are complete.
inline void finish_frame(const ClipUnit& u, const Line& line, int t, const LinePadding& padding,
                         const LineSoftmax* softmax) {
  const int dim = u.shape.dim;
  const TokenRows out = u.tokens(u.params.out).frame(t), out_column = u.tokens(u.params.out_column).frame(t);
  float* waiting = u.room.waiting.of(line, t);
  float* sum = u.room.sums;
  for (int i = 0; i < line.tokens; ++i, sum += dim, waiting += u.room.waiting.token_stride(line)) {
    const Vec share = broadcast(1.0f / softmax[i].sum), beyond = broadcast(softmax[i].padding);
    for (int d = 0; d < dim; d += kWidth) {
      Vec result = load(sum + d);
      if (padding) result = fma(load(padding.token.v + d), beyond, result);
      store(line.is_column ? waiting + d : sum + d,
            line.is_column ? mul(result, share) : fma(result, share, load(waiting + d)));
    }
    if (u.for_backward())
      u.lse(t, !line.is_column)[line.token(i)] = (softmax[i].maximum + __builtin_log2f(softmax[i].sum)) * kLn2;
    if (line.is_column) continue;
    write_token(out, line.token(i), dim, sum);
    if (u.for_backward()) write_token(out_column, line.token(i), dim, waiting);
  }
}

// All frames of one line. `next` is the line that comes then: its tokens are fetched along the way.
template <class Format>
inline void attend_line(const ClipUnit& u, const Line& line, const Line& next) {
  using Number = Element<Format>;
  const ClipParams& p = u.params;
  const int dim = u.shape.dim, frames = static_cast<int>(p.shape.clip_frames), count = frames * line.tokens;
  Number* queries = reinterpret_cast<Number*>(u.room.queries);
  Number* tokens = reinterpret_cast<Number*>(u.room.keys);
  read_line(u.tokens(p.q), line, frames, dim, queries);
  read_line(u.tokens(p.k), line, frames, dim, tokens);
  const auto* keys = key_panel<Format>(tokens, count, dim, u.room.key_panel);
  read_line(u.tokens(p.v), line, frames, dim, tokens);
  const auto* values = value_panel<Format>(tokens, count, dim, u.room.value_panel);
  const LinePadding padding(u.padded, line);
  for (int t = 0; t < frames; ++t) {
    FrameAhead coming, results;
    for (const ClipView* view : {&p.q, &p.k, &p.v}) coming.add(u.tokens(*view).frame(t));
    if (!line.is_column) results.add(u.tokens(p.out).frame(t));
    if (!line.is_column && u.for_backward()) results.add(u.tokens(p.out_column).frame(t));
    const Number* query = queries + static_cast<int64_t>(t) * line.tokens * dim;
    const KeyRange range = seen_keys(p.shape, line, t);
    line_scores<Format>(query, line.tokens, keys, range, dim, u.room.scores);
    LineSoftmax softmax[kLine];
    for (int i = 0; i < line.tokens; ++i) {
      const int seen = (range.end - range.begin) / line.tokens;
      const float logit =
          padding ? padding.logit(query + static_cast<int64_t>(i) * dim, dim, u.scale(), seen) : kMinusInfinity;
      coming.fetch(next, i, dim);
      results.fetch(line, i, dim);
      softmax[i] = weigh<Format>(u.room.scores.of(i), range, u.scale(), logit);
    }
    std::memset(u.room.sums, 0, sizeof(float) * static_cast<size_t>(line.tokens * dim));
    line_gather<Format>(u.room.scores, line.tokens, values, range, dim, u.room.sums, dim);
    finish_frame(u, line, t, padding, softmax);
  }
}

// A token beyond the picture gives 0.
inline void write_beyond(const ClipUnit& u, int t, int token) {
  write_zero_token(u.tokens(u.params.out).frame(t), token, u.shape.dim);
  if (!u.for_backward()) return;
  write_zero_token(u.tokens(u.params.out_column).frame(t), token, u.shape.dim);
  u.lse(t, false)[token] = u.lse(t, true)[token] = kMinusInfinity;
}

template <class Bf16Format>
inline void clip_attend(const ClipParams& p, int64_t begin, int64_t end) {
  const auto attend = [](auto format, const ClipUnit& u, const Line& line, const Line& next) {
    attend_line<decltype(format)>(u, line, next);
  };
  over_clip_units<Bf16Format, ClipUnit>(p, begin, end, attend, write_beyond);
}

}  // namespace svm::cpu::SVM_ISA
