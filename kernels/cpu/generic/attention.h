// The axial attention of one query over frames of keys and values that lie ready, token by token.
//
// Query (r, c) attends in the column plane to the tokens (r', c) of all frames, and in the row plane to the tokens
// (r, c') of all frames. Each plane is one softmax; the two results are added.
#pragma once

#include <cmath>
#include <limits>

#include "cpu/generic/numbers.h"
#include "cpu/generic/unit.h"

namespace svm::cpu::generic {

// The frames that a query sees, and what all of a unit's padded tokens are; pad_key == nullptr: they are no keys.
template <class Number>
struct Frames {
  const Number* keys;  // [count, side * side, dim]
  const Number* values;
  int64_t count, side, dim;
  const Number* pad_key;  // [dim]
  const Number* pad_value;
};

// One query's keys of one plane within a frame: `count` real tokens, `step` apart, and `padded` others.
struct Line {
  int64_t first, step, count, padded;
};

inline Line column_line(int64_t c, int64_t side, const Picture& picture) {
  return {c, side, picture.rows, side - picture.rows};
}
inline Line row_line(int64_t r, int64_t side, const Picture& picture) {
  return {r * side, 1, picture.columns, side - picture.columns};
}

template <class Number>
Number dot(const Number* a, const Number* b, int64_t dim) {
  Number sum = 0;
  for (int64_t d = 0; d < dim; ++d) sum += a[d] * b[d];
  return sum;
}

template <class Number>
void add_scaled(Number* sum, Number factor, const Number* a, int64_t dim) {
  for (int64_t d = 0; d < dim; ++d) sum[d] += factor * a[d];
}

// Calls visit(key, value, bias) for all keys of a line. The padded tokens of all frames are alike: n times the same key
// is one key whose logit is larger by log(n).
template <class Number, class Visit>
void for_each_key(const Frames<Number>& frames, const Line& line, const Visit& visit) {
  for (int64_t t = 0; t < frames.count; ++t) {
    for (int64_t i = 0; i < line.count; ++i) {
      const int64_t token = t * frames.side * frames.side + line.first + i * line.step;
      visit(frames.keys + token * frames.dim, frames.values + token * frames.dim, Number{0});
    }
  }
  const int64_t padded = line.padded * frames.count;
  if (frames.pad_key && padded > 0) visit(frames.pad_key, frames.pad_value, std::log(static_cast<Number>(padded)));
}

// out = softmax(q K^T) V over one line; returns the logarithm of the sum of exponentials. q is scaled already.
// `logits` has room for all keys.
template <class Number>
Number attend_line(const Number* q, const Frames<Number>& frames, const Line& line, Number* logits, Number* out) {
  Number best = -std::numeric_limits<Number>::infinity();
  Number* logit = logits;
  for_each_key(frames, line, [&](const Number* key, const Number*, Number bias) {
    *logit = dot(q, key, frames.dim) + bias;
    if (*logit > best) best = *logit;
    ++logit;
  });
  Number sum = 0;
  logit = logits;
  for (int64_t d = 0; d < frames.dim; ++d) out[d] = 0;
  for_each_key(frames, line, [&](const Number*, const Number* value, Number) {
    const Number weight = std::exp(*logit++ - best);
    sum += weight;
    add_scaled(out, weight, value, frames.dim);
  });
  for (int64_t d = 0; d < frames.dim; ++d) out[d] /= sum;
  return best + std::log(sum);
}

// dq += (P o (dout V^T - delta)) K with delta = sum(P o dout V^T): the gradient through one line, short of the scale.
// delta equals dout . out of this plane, but out may have been rounded to bf16. `mean_key` has room for dim numbers.
template <class Number>
void attend_line_backward(const Number* q, const Number* dout, Number lse, const Frames<Number>& frames,
                          const Line& line, Number* mean_key, Number* dq) {
  Number delta = 0, total = 0;  // the weights sum up to 1 only nearly
  for (int64_t d = 0; d < frames.dim; ++d) mean_key[d] = 0;
  for_each_key(frames, line, [&](const Number* key, const Number* value, Number bias) {
    const Number weight = std::exp(dot(q, key, frames.dim) + bias - lse);
    const Number weighted = weight * dot(dout, value, frames.dim);
    delta += weighted;
    total += weight;
    add_scaled(mean_key, weight, key, frames.dim);
    add_scaled(dq, weighted, key, frames.dim);
  });
  add_scaled(dq, -delta / total, mean_key, frames.dim);
}

// Where the results of one frame of one unit go; out_column.data and lse may be nullptr.
template <class Number>
struct FrameOutput {
  UnitTokens out, out_column;
  Number* lse;  // [2, tokens]
};

// All queries of one frame. `room` [3 * dim + keys of a line + 1] is scratch.
template <class Number>
void attend_frame(const UnitTokens& q, const Frames<Number>& frames, const Picture& picture, Number scale, Number* room,
                  const FrameOutput<Number>& output) {
  const int64_t side = frames.side, dim = frames.dim, tokens = side * side;
  Number *query = room, *column = query + dim, *row = column + dim, *logits = row + dim;
  for (int64_t token = 0; token < tokens; ++token) {
    const int64_t r = token / side, c = token % side;
    Number column_lse = -std::numeric_limits<Number>::infinity(), row_lse = column_lse;
    for (int64_t d = 0; d < dim; ++d) column[d] = row[d] = 0;
    if (frames.count > 0 && picture.has(r, c)) {
      q.read(token, dim, query);
      for (int64_t d = 0; d < dim; ++d) query[d] *= scale;
      column_lse = attend_line(query, frames, column_line(c, side, picture), logits, column);
      row_lse = attend_line(query, frames, row_line(r, side, picture), logits, row);
    }
    for (int64_t d = 0; d < dim; ++d) row[d] += column[d];
    output.out.write(token, dim, row);
    if (output.out_column.data) output.out_column.write(token, dim, column);
    if (output.lse) {
      output.lse[token] = column_lse;
      output.lse[tokens + token] = row_lse;
    }
  }
}

// What the backward of one frame of one unit reads and writes.
template <class Number>
struct FrameGradient {
  UnitTokens dout, q, dq;
  const Number* lse;
};

// All queries of one frame. `room` [4 * dim] is scratch.
template <class Number>
void attend_frame_backward(const FrameGradient<Number>& given, const Frames<Number>& frames, const Picture& picture,
                           Number scale, Number* room) {
  const int64_t side = frames.side, dim = frames.dim, tokens = side * side;
  Number *query = room, *dout = query + dim, *dq = dout + dim, *mean_key = dq + dim;
  for (int64_t token = 0; token < tokens; ++token) {
    const int64_t r = token / side, c = token % side;
    for (int64_t d = 0; d < dim; ++d) dq[d] = 0;
    if (frames.count > 0 && picture.has(r, c)) {
      given.q.read(token, dim, query);
      given.dout.read(token, dim, dout);
      for (int64_t d = 0; d < dim; ++d) query[d] *= scale;
      attend_line_backward(query, dout, given.lse[token], frames, column_line(c, side, picture), mean_key, dq);
      attend_line_backward(query, dout, given.lse[tokens + token], frames, row_line(r, side, picture), mean_key, dq);
      for (int64_t d = 0; d < dim; ++d) dq[d] *= scale;
    }
    given.dq.write(token, dim, dq);
  }
}

}  // namespace svm::cpu::generic
