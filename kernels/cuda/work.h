// Which unit, frame, rows and plane an item is, and what it sees; read from the device's own memory, so that a captured
// launch serves every frame.
#pragma once

#include <cuda_runtime.h>

#include "cuda/attend_args.h"
#include "cuda/pass.h"

namespace svm::cuda {

struct Work {
  int32_t batch, frame, window, head;  // of q and out
  int32_t source;                      // batch index of k and v
  int32_t real_rows, real_columns;
  int32_t row_begin, row_end;  // of the keys, and of the row plane's queries
  int32_t split, plane;        // plane: 0 column, 1 row, where a block does one
  int32_t row, place;          // of a warp's line of keys: the row, or -1, and the place in its tile's group of frames
  int64_t unit;                // as lse counts
  int64_t k_line, v_line;      // where that row begins, of frame 0
  Pass pass;

  __device__ bool in_picture(int row, int column) const { return row < real_rows && column < real_columns; }
};

// Where a line of tokens begins.
__device__ inline int64_t line_offset(const FramesView& view, const Work& work, int batch, int frame, int row) {
  return batch * view.stride_batch + frame * view.stride_frame + work.window * view.stride_window +
         work.head * view.stride_head + row * view.stride_row;
}

// The pool's cursor of this work's unit.
__device__ inline RingCursor* cursor_of(const AttendArgs& args, const Work& work) {
  const int64_t unit = (int64_t{work.source} * args.windows + work.window) * args.heads + work.head;
  return unit_cursor(args.cursor, args.k.dtype, args.capacity, unit);
}

// Values that make no sense are ignored, as memory_append does: a stream that does not exist is empty, a frame older
// than the newest is not appended. A stream that is named twice is a race of its two blocks for what its memory holds,
// within the memory.
__device__ inline bool plan_of(const AttendArgs& args, const Work& work, AppendPlan& plan) {
  const RingCursor before = *cursor_of(args, work);
  const int64_t step = args.step[work.source];
  if (before.count < 0 || step < 0 || step < before.mark) return false;
  plan = plan_append(before, step, args.capacity, args.evict);
  return true;
}

__device__ inline Pass memory_pass(const AttendArgs& args, const Work& work) {
  AppendPlan plan;
  if (args.appends && plan_of(args, work, plan)) return pass_with(plan, args.capacity);
  const int64_t count = cursor_of(args, work)->count;
  return pass_over(0, count < 0 ? 0 : held_frames(count, args.capacity));
}

// Rows or columns of a window that are picture.
__device__ inline int32_t real_lines(const AttendArgs& args, int32_t at) {
  return args.padding.real ? max(0, min(args.padding.real[at], args.side)) : args.side;
}

// Everything but what the memory holds and what a warp has of it.
__device__ inline Work place_of_item(const AttendArgs& args, uint32_t item) {
  Work work;
  const uint32_t share = item / args.planes;
  work.plane = static_cast<int32_t>(item % args.planes);
  work.split = static_cast<int32_t>(share % args.splits);
  const uint32_t place = share / args.splits;
  // A clip's late frames have more to do: neighbouring units begin with different ones, so that no block has them all.
  const uint32_t unit = place / args.clip_frames;
  work.frame = static_cast<int32_t>((place + unit) % args.clip_frames);
  work.head = static_cast<int32_t>(unit % args.heads);
  const uint32_t batch_window = unit / args.heads;
  work.window = static_cast<int32_t>(batch_window % args.windows);
  work.batch = static_cast<int32_t>(batch_window / args.windows);
  work.unit =
      ((int64_t{work.batch} * args.clip_frames + work.frame) * args.windows + work.window) * args.heads + work.head;
  work.real_rows = real_lines(args, 2 * work.window);
  work.real_columns = real_lines(args, 2 * work.window + 1);
  const int32_t begin = work.split * args.rows;
  work.row_begin = begin < work.real_rows ? begin : work.real_rows;
  work.row_end = begin + args.rows < work.real_rows ? begin + args.rows : work.real_rows;
  return work;
}

// False where there is no such stream.
__device__ inline bool find_source(const AttendArgs& args, Work& work) {
  const int64_t stream = args.streams ? args.streams[work.batch] : work.batch;
  const bool exists = args.cursor == nullptr || (stream >= 0 && stream < args.stream_count);
  work.source = static_cast<int32_t>(exists ? stream : 0);
  return exists;
}

// A warp's line of this work's tiles.
__device__ inline void find_line(const AttendArgs& args, Work& work, int line) {
  const int row = work.row_begin + line / args.group;
  work.place = line % args.group;
  work.row = line < args.lines && row < work.row_end ? row : -1;
  const int safe = work.row < 0 ? 0 : row;
  work.k_line = line_offset(args.k, work, work.source, 0, safe);
  work.v_line = line_offset(args.v, work, work.source, 0, safe);
}

__device__ inline Work work_of(const AttendArgs& args, uint32_t item) {
  Work work = place_of_item(args, item);
  if (!find_source(args, work)) {
    work.pass = pass_over(0, 0);
  } else if (args.cursor) {
    work.pass = memory_pass(args, work);
  } else {
    const int64_t first = first_frame(work.frame, args.capacity, args.evict);
    work.pass = pass_over(first, work.frame + 1 - first);
  }
  return work;
}

}  // namespace svm::cuda
