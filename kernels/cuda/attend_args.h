// What the attention kernels are told. Memory and clip are the same to them: frames of tokens with strides, of which an
// item sees some; only where the frames lie and which they are differs.
//
// Letters as in svm/params.h. An item is what one block does at a time: a unit in one frame, or some rows of its keys,
// in both planes or in one. Units are numbered ((b * W) + w) * H + h, and with a clip's frames as lse is.
#pragma once

#include <cstdint>

#include "svm/params.h"

namespace svm::cuda {

// Tokens [batch, frame, window, head, row, column, dim]; strides in elements.
struct FramesView {
  void* data;
  Dtype dtype;
  bool whole;  // the kernel's own type, in 16-byte pieces that are aligned: copied as it lies
  int64_t stride_batch, stride_frame, stride_window, stride_head, stride_row, stride_column, stride_dim;
};

// Where several blocks do one unit they leave their shares here, in fp32 and with log-sum-exps in powers of two.
struct Shares {
  float* column;      // [units, splits, n*n, D] the column plane over the keys of one split
  float* column_lse;  // [units, splits, n*n]
  float* row;         // [units, n*n, D] the row plane, whole
  float* row_lse;     // [units, n*n]
};

struct AttendArgs {
  FramesView q;
  FramesView k, v;             // memory: batch is the stream, and frames are slots
  FramesView k_new, v_new;     // the frame to append, where `appends`
  FramesView out;              // dq in a backward
  FramesView out_column;       // data == nullptr: not wanted, nor is lse
  float* lse;                  // [units, 2, n*n] natural; a backward reads it
  FramesView dout, out_saved;  // of a backward, which reads out_column too

  RingCursor* cursor;  // as in PoolView; nullptr: a clip
  const int64_t* step;
  const int64_t* streams;  // [B]; nullptr: row b is stream b
  int64_t stream_count;
  Padding padding;

  int32_t batch, clip_frames, windows, heads, side, dim;  // clip_frames: 1 for a memory
  int32_t capacity;                                       // frames of the memory, or that a clip stands for
  Evict evict;
  bool appends;

  float scale;           // of logits in powers of two: |scale| * log2(e), above 0
  bool negative;         // the sign of the scale
  float gradient_scale;  // of a backward: the scale itself

  int32_t rows;    // of a split
  int32_t splits;  // of a unit
  int32_t group;   // frames of a tile
  int32_t lines;   // of a tile: rows * group
  int32_t stages;  // tiles in the ring
  int32_t stage_bytes;
  int32_t decoded_bytes;  // of fp8: from one tile of numbers to the other; 0: there is one
  int32_t planes;         // items that a split makes: 1 where a block does both planes, else 2
  uint32_t items;         // units * splits * planes
  bool direct;            // every unit is one item: no shares
  Shares shares;
};

}  // namespace svm::cuda
