// A clip as its lines: an image row, or an image column, through all frames. A line's tokens attend to nobody else's,
// so a line is ordinary attention of one short sequence to itself, [frame][token], of which a frame sees a stretch.
//
// All of a line's frames share its keys and values, which are brought into the inner loops' forms once; sixteen keys a
// register regardless of frames leave no lane empty but at the end.
#pragma once

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <type_traits>

#include "cpu/scratch.h"
#include "cpu/tile.h"
#include "cpu/tokens.h"
#include "cpu/unit.h"
#include "svm/params.h"

namespace svm::cpu::SVM_ISA {

// One line of a unit's window. Columns are worked on first and leave their results in scratch memory, rows complete
// them.
struct Line {
  bool is_column;
  int index;         // which row or column
  int tokens, side;  // real tokens in each frame; the window's side
  int token(int i) const { return is_column ? i * side + index : index * side + i; }
};

// The lines of a unit in the order in which they are worked on.
struct UnitLines {
  UnitShape shape;
  int count() const { return shape.rows > 0 && shape.columns > 0 ? shape.columns + shape.rows : 0; }
  Line line(int i) const {
    const bool is_column = i < shape.columns;
    return {is_column, is_column ? i : i - shape.columns, is_column ? shape.rows : shape.columns, shape.side};
  }
  int longest() const { return shape.rows > shape.columns ? shape.rows : shape.columns; }
};

// The tokens of one unit in a caller's tensor.
struct ClipTokens {
  const ClipView& view;
  UnitIndex unit;
  TokenRows frame(int t) const { return rows_of(view, unit.batch, t, unit.window, unit.head); }
};

inline void read_element(const TokenRows& rows, int64_t token, int dim, float* to) { read_token(rows, token, dim, to); }
inline void read_element(const TokenRows& rows, int64_t token, int dim, uint16_t* to) {
  read_token_bf16(rows, token, dim, to);
}

// A line's tokens in all frames, one after the other.
template <class Element>
inline void read_line(const ClipTokens& from, const Line& line, int frames, int dim, Element* to) {
  for (int t = 0; t < frames; ++t) {
    const TokenRows rows = from.frame(t);
    for (int i = 0; i < line.tokens; ++i, to += dim) read_element(rows, line.token(i), dim, to);
  }
}

// What the line that comes next will read, and what this one will write. Tokens lie as far apart as the projection's
// whole output, each in a page of its own, where no hardware prefetcher looks: they are asked for ahead of time, a few
// at once.
struct FrameAhead {
  TokenRows rows[6];
  int count = 0;
  void add(const TokenRows& more) { rows[count++] = more; }
  [[gnu::always_inline]] void fetch(const Line& line, int i, int dim) const {
    if (i >= line.tokens) return;
    for (int tensor = 0; tensor < count; ++tensor) fetch_token(rows[tensor], line.token(i), dim);
  }
};

// Where one unit's results of the column plane wait, or of both: [row][frame][column][dim]. Rows are a cache line
// further apart than they are long: the tokens of an image column would fall into a few sets of the L1 cache otherwise.
struct WaitingResults {
  float* data;
  int columns, dim;
  int64_t row_stride;

  static int64_t row_stride_for(const UnitShape& s, int frames) {
    return static_cast<int64_t>(frames) * s.columns * s.dim + kLine;
  }
  float* of(const Line& line, int frame) const {
    const int row = line.is_column ? 0 : line.index, column = line.is_column ? line.index : 0;
    return data + row * row_stride + (static_cast<int64_t>(frame) * columns + column) * dim;
  }
  int64_t token_stride(const Line& line) const { return line.is_column ? row_stride : dim; }
};

// What the arithmetic of a format reads.
template <class Format>
using Element = std::conditional_t<Format::kDot, uint16_t, float>;

// Calls work(Format{}) for the format that suits a line. Keys are paired within their frame: a pair across frames would
// mix in a frame that is not seen.
template <class Bf16Format, class Work>
inline void with_line_format([[maybe_unused]] Dtype dtype, [[maybe_unused]] const Line& line, const Work& work) {
#if defined(__AVX512BF16__)
  if (Bf16Format::kDot && dtype == Dtype::kBFloat16 && line.tokens % 2 == 0) return work(Bf16Paired{});
#endif
  work(Float32{});
}

// What the score loop takes: [group of 16 tokens][dim / kDims][16]; the last group is filled up with zeros.
template <class Format>
inline const typename Format::Key* key_panel(const Element<Format>* tokens, int count, int dim, float* room) {
  const int words = dim / Format::kDims;
  const float* from = reinterpret_cast<const float*>(tokens);
  for (int first = 0; first < count; first += kLine) {
    const int rows = count - first < kLine ? count - first : kLine;
    for (int word = 0; word < words; word += kLine)
      transpose16(from + static_cast<int64_t>(first) * words + word, words, rows, kLine,
                  room + (static_cast<int64_t>(first) * words + word * kLine), kLine, kLine);
  }
  return reinterpret_cast<const typename Format::Key*>(room);
}

// What gathering takes: tokens as they are, or [pair of tokens][dim].
template <class Format>
inline const typename Format::Value* value_panel(const Element<Format>* tokens, [[maybe_unused]] int count,
                                                 [[maybe_unused]] int dim, [[maybe_unused]] float* room) {
  if constexpr (Format::kDot) {
#if defined(__AVX512BF16__)
    uint32_t* to = reinterpret_cast<uint32_t*>(room);
    for (int i = 0; i < count; i += 2, tokens += 2 * dim)
      for (int d = 0; d < dim; d += 2 * kLine, to += 2 * kLine) store_row_pairs(tokens + d, tokens + dim + d, to);
    return reinterpret_cast<const uint32_t*>(room);
#endif
  } else {
    return tokens;
  }
}

// The keys of a line that a frame sees.
struct KeyRange {
  int begin, end;
};
inline KeyRange seen_keys(const ClipShape& c, const Line& line, int frame) {
  return {static_cast<int>(first_frame(frame, c.memory_frames, c.evict)) * line.tokens, (frame + 1) * line.tokens};
}

// Scores of one frame's queries with the tokens of a line: [query][token].
struct ScoreTable {
  float* data;
  int64_t stride;
  float* of(int query) const { return data + query * stride; }

  static int64_t stride_for(int64_t longest_line) { return (longest_line + 2 * kLine - 1) / kLine * kLine; }
};

// What a line is worked on with.
struct LineRoom {
  float *queries, *keys, *values, *douts;  // [token][dim]
  float *key_panel, *value_panel;
  float* sums;  // [token of a frame][dim]
  ScoreTable scores, grads;
  WaitingResults waiting;

  static LineRoom take(Scratch& scratch, const UnitLines& lines, int frames) {
    const UnitShape& s = lines.shape;
    const int64_t most = lines.longest(), longest = most * frames, row = WaitingResults::row_stride_for(s, frames);
    const int64_t table = ScoreTable::stride_for(longest);
    scratch.begin(4 * Scratch::room<float>(longest * s.dim) + 2 * Scratch::room<float>((longest + kLine) * s.dim) +
                  Scratch::room<float>(most * s.dim) + 2 * Scratch::room<float>(most * table) +
                  Scratch::room<float>(s.rows * row));
    LineRoom room;
    for (float** tokens : {&room.queries, &room.keys, &room.values, &room.douts})
      *tokens = scratch.take<float>(longest * s.dim);
    for (float** panel : {&room.key_panel, &room.value_panel}) *panel = scratch.take<float>((longest + kLine) * s.dim);
    room.sums = scratch.take<float>(most * s.dim);
    for (ScoreTable* scores : {&room.scores, &room.grads}) *scores = {scratch.take<float>(most * table), table};
    room.waiting = {scratch.take<float>(s.rows * row), s.columns, s.dim, row};
    return room;
  }
};

// scores[query][key] of one frame's queries for the keys in `range`, and of whole groups of 16 around it.
template <class Format>
inline void line_scores(const Element<Format>* queries, int count, const typename Format::Key* panel, KeyRange range,
                        int dim, const ScoreTable& out) {
  const int words = dim / Format::kDims, group = range.begin / kLine;
  ScoreOperands<Format> in;
  in.queries = reinterpret_cast<const typename Format::Query*>(queries);
  in.query_stride = words;
  in.frame_stride = static_cast<int64_t>(words) * kLine;
  in.keys = panel + group * in.frame_stride;
  in.step_stride = kLine;
  in.steps = words;
  in.lanes = first_of_line(kLine);
  Ahead ahead = nothing_ahead(panel);
  scores<Format, false>(in, count, (range.end + kLine - 1) / kLine - group,
                        {out.data + group * kLine, kLine, out.stride}, ahead);
}

// sums[query][dim] += sum over the keys in `range` of weight * value.
template <class Format>
inline void line_gather(const ScoreTable& weights, int count, const typename Format::Value* values, KeyRange range,
                        int dim, float* sums, int64_t sum_stride) {
  constexpr int kKeys = Format::kDot ? 2 : 1;
  GatherOperands<Format> in;
  in.weights = reinterpret_cast<const typename Format::Query*>(weights.data) + range.begin / kKeys;
  in.query_stride = weights.stride;
  in.values = values + static_cast<int64_t>(range.begin / kKeys) * dim;
  in.pair_stride = 0;
  in.outer = 1;
  in.inner = (range.end - range.begin) / kKeys;
  in.weight_outer = in.value_outer = 0;
  in.weight_inner = 1;
  in.value_inner = dim;
  Ahead ahead = nothing_ahead(values);
  gather(in, count, dim, sums, sum_stride, ahead);
}

// Puts the weight of 16 floats' worth of keys where line_gather looks for it: in place of the score, or as bf16 into
// the first half of its row.
template <class Format>
inline void store_weight(float* row, int key, Vec weight) {
  if constexpr (Format::kDot) {
#if defined(__AVX512BF16__)
    store_neighbour_pairs(reinterpret_cast<uint32_t*>(row) + (key >> 1), weight);
#endif
  } else {
    store(row + key, weight);
  }
}

// Calls body(key, keep) for every register of keys in `range`; keep(a, otherwise) takes `otherwise` in lanes outside.
struct EveryLane {
  Vec operator()(Vec a, Vec) const { return a; }
};
struct LanesWithin {
  LaneMask before, until;
  Vec operator()(Vec a, Vec otherwise) const { return select(before, otherwise, select(until, a, otherwise)); }
};
template <class Body>
inline void over_keys(KeyRange range, const Body& body) {
  const auto within = [&](int key) {
    return LanesWithin{first_lanes(range.begin - key), first_lanes(range.end - key)};
  };
  int key = range.begin & -kWidth;
  if (key < range.begin) {
    body(key, within(key));
    key += kWidth;
  }
  for (; key + kWidth <= range.end; key += kWidth) body(key, EveryLane{});
  if (key < range.end) body(key, within(key));
}

}  // namespace svm::cpu::SVM_ISA
