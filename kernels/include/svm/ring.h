// The ring of one unit's frames: where an append goes and how many frames an attend sees.
// Shared by the CPU and the CUDA kernels, so that both can only agree; tested on the CPU.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define SVM_HOST_DEVICE __host__ __device__
#else
#define SVM_HOST_DEVICE
#endif

namespace svm {

// What happens when the pool is full.
enum class Evict : int32_t {
  kMerge = 0,  // average the oldest frame into the next-oldest, then overwrite the oldest
  kFifo = 1,   // overwrite the oldest frame
  kClear = 2,  // forget everything and start again from this frame
};

// One per (stream, window, head), so that the owner of a unit reads and writes it without a race.
struct RingCursor {
  int64_t count;  // frames appended since the last reset (or, with kClear, since the pool was last full)
  int64_t mark;   // the stream's step at the last append, -1 before the first
};

struct AppendPlan {
  int64_t slot;        // the slot that the new frame goes to
  int64_t merge_slot;  // the slot that first takes the average of itself and `slot`, or -1
  RingCursor after;    // the cursor to store
};

// Frames that an attend sees: always the slots 0 .. held-1. Their order is irrelevant to the result.
SVM_HOST_DEVICE constexpr int64_t held_frames(int64_t count, int64_t capacity) {
  return count < capacity ? count : capacity;
}

// A second append of the same step rewrites the newest slot and merges nothing: that makes an append
// idempotent within a frame, which activation checkpointing relies on.
SVM_HOST_DEVICE constexpr AppendPlan plan_append(RingCursor cursor, int64_t step, int64_t capacity, Evict evict) {
  if (cursor.count > 0 && cursor.mark == step) {
    return {(cursor.count - 1) % capacity, -1, cursor};
  }
  if (cursor.count < capacity) {
    return {cursor.count, -1, {cursor.count + 1, step}};
  }
  if (evict == Evict::kClear) {
    return {0, -1, {1, step}};
  }
  const int64_t oldest = cursor.count % capacity;
  const bool merges = evict == Evict::kMerge && capacity > 1;
  return {oldest, merges ? (oldest + 1) % capacity : -1, {cursor.count + 1, step}};
}

}  // namespace svm
