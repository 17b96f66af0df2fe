// What the kernels are told: plain structs of pointers, sizes and strides. No torch type crosses this line.
//
// Letters: B batch rows (active streams), W windows a stream, H heads, n window side, N = n*n tokens, T frames, D head
// dim. A *unit* is one (batch row, window, head); units are numbered ((b * W) + w) * H + h. All strides are in
// elements.
#pragma once

#include <cstdint>

#include "svm/fp8.h"
#include "svm/ring.h"

namespace svm {

enum class Dtype : int32_t { kFloat32 = 0, kBFloat16 = 1, kFloat16 = 2, kFloat64 = 3, kFloat8 = 4 };  // fp8: pools only

// A token tensor [B*W, H, N, D] with any strides: q, k, v, out, dout or dq of the frame step.
struct TokenView {
  void* data;
  Dtype dtype;
  int64_t stride_window;  // dimension 0, one step per (b, w)
  int64_t stride_head;
  int64_t stride_token;
  int64_t stride_dim;
};

// The memory pool of one layer; contiguous.
//   CPU   k [S, W, H, n (row), T, D/g, n (column), g]   g = 2 for bf16 (pairs for the dot product), else 1
//         v [S, W, H, n (row), T, n (column), D]
//   GPU   k and v [S, W, H, n (row), T, n (column), D]
struct PoolView {
  void* k;
  void* v;
  RingCursor* cursor;  // [S, W, H]; of an fp8 pool with the exponents of its slots, see unit_cursor
  Dtype dtype;
  int64_t streams, windows, heads, side, frames, dim;
};

// A unit's cursor, and what follows it in an fp8 pool: SlotExponents [T].
SVM_HOST_DEVICE inline RingCursor* unit_cursor(RingCursor* cursors, Dtype pool, int64_t frames, int64_t unit) {
  static_assert(sizeof(RingCursor) == 2 * sizeof(int64_t) && sizeof(SlotExponents) == sizeof(int64_t));
  const int64_t words = pool == Dtype::kFloat8 ? 2 + frames : 2;
  return reinterpret_cast<RingCursor*>(reinterpret_cast<int64_t*>(cursors) + unit * words);
}

SVM_HOST_DEVICE inline SlotExponents* slot_exponents(RingCursor* unit_cursor) {
  return reinterpret_cast<SlotExponents*>(unit_cursor + 1);
}

// How much of each window is picture and what the rest would have been.
struct Padding {
  const int32_t* real;  // [W, 2] real rows and columns of each window; nullptr: all of it
  const void* k;        // [H, D] the key that every padded token has; nullptr: padded tokens are no keys at all
  const void* v;        // [H, D]
  Dtype dtype;
  int64_t stride_k_head;
  int64_t stride_v_head;  // the D axis is contiguous in both
};

struct AppendParams {
  PoolView pool;
  TokenView k, v;
  const int64_t* step;     // [S] frames that each stream has seen before this one
  const int64_t* streams;  // [B] stream of each batch row; nullptr: row b is stream b
  int64_t batch;
  const int32_t* real;  // as in Padding; padded tokens are not stored
  Evict evict;
};

struct AttendParams {
  PoolView pool;
  TokenView q, out;
  TokenView out_column;  // the column plane's share of out, for the backward; data == nullptr: not wanted
  void* lse;  // [B*W, H, 2, N] natural log of the sum of exponentials, plane 0 column, 1 row; fp32, fp64 for fp64
  const int64_t* streams;
  int64_t batch;
  Padding padding;
  double scale;
};

struct AttendBackwardParams {
  PoolView pool;
  TokenView dout, q, out, out_column, dq;
  const void* lse;
  const int64_t* streams;
  int64_t batch;
  Padding padding;
  double scale;
};

// Append and attend of one frame; the pool of `append` is the pool of `attend`.
struct StepParams {
  AppendParams append;
  AttendParams attend;
};

// A token tensor of a whole clip, [B, T, W, H, N, D] with any strides.
struct ClipView {
  void* data;
  Dtype dtype;
  int64_t stride_batch, stride_frame, stride_window, stride_head, stride_token, stride_dim;
};

// Frame t of a clip sees the frames first_frame(t) .. t.
struct ClipShape {
  int64_t batch, clip_frames, windows, heads, side, dim;
  int64_t memory_frames;  // capacity of the memory that the clip stands for
  Evict evict;            // kFifo: sliding window; kClear: blocks of memory_frames
};

SVM_HOST_DEVICE constexpr int64_t first_frame(int64_t t, int64_t memory_frames, Evict evict) {
  if (evict == Evict::kClear) return t - t % memory_frames;
  return t < memory_frames ? 0 : t - memory_frames + 1;
}

struct ClipParams {
  ClipShape shape;
  ClipView q, k, v, out, out_column;  // out_column.data == nullptr: not wanted, then lse is not written either
  void* lse;                          // [B, T, W, H, 2, N]
  Padding padding;
  double scale;
};

struct ClipBackwardParams {
  ClipShape shape;
  ClipView dout, q, k, v, out, out_column, dq;
  const void* lse;
  Padding padding;
  double scale;
};

// Boxes that overlap a better box of their own group by more than the threshold are dropped.
struct NmsParams {
  const void* boxes;      // [count, 4] x1 y1 x2 y2, contiguous
  const int64_t* order;   // [count] box indices, grouped, best score first within a group
  const int64_t* starts;  // [groups + 1] where each group begins in `order`
  int64_t count, groups;
  double threshold;
  bool* keep;  // [count], by box index
  Dtype dtype;
};

}  // namespace svm
