// The order in which one pass over a unit's frames reads them. The order of keys does not change a softmax, so it is
// chosen for what comes with the pass: the frame to append, and the two frames of a merge.
//
// A pass is a row of places, `group` of them to a tile. Without an append place i is frame first + i. With one
//   plain      place 0 is the new frame, the others are the stored frames but the one that it replaces;
//   merging    place 0 is the oldest frame, which nobody attends; place `group`, the first of the next tile, is the
//   frame
//              that takes the average with it; the new frame and the others fill the rest.
// So that when the average is due both of its frames lie in shared memory, in the same line of two tiles that follow
// each other, and whatever is overwritten in the pool was read before.
#pragma once

#include <cstdint>

#include "svm/ring.h"

namespace svm::cuda {

enum class Origin : int32_t {
  kNone,    // an empty place
  kStored,  // a frame of the pool, or of a clip
  kOldest,  // a frame of the pool that is read for the merge and not attended
  kMerged,  // a frame of the pool that first takes the average
  kNew,     // the frame to append; `frame` is the slot that it goes to
};

struct Place {
  Origin origin;
  int32_t frame;
};

struct Pass {
  int32_t first;   // frame of place 0, without an append
  int32_t frames;  // attended, the new one included
  int32_t newest;  // slot of the frame to append; -1: nothing is appended
  int32_t merged;  // slot that takes the average; -1: nothing merges
};

SVM_HOST_DEVICE constexpr int places(const Pass& pass, int group) {
  if (pass.merged < 0) return pass.frames;
  return pass.frames > group ? pass.frames + 1 : group + 1;  // the oldest comes on top; there may be empty places
}

SVM_HOST_DEVICE constexpr int tiles(const Pass& pass, int group) { return (places(pass, group) + group - 1) / group; }

// Slots go round; both are less than `frames`.
SVM_HOST_DEVICE constexpr int slot_after(int slot, int steps, int frames) {
  const int sum = slot + steps;
  return sum < frames ? sum : sum - frames;
}

SVM_HOST_DEVICE constexpr Place place_of(const Pass& pass, int at, int group) {
  if (pass.newest < 0) {
    return at < pass.frames ? Place{Origin::kStored, pass.first + at} : Place{Origin::kNone, 0};
  }
  if (pass.merged < 0) {
    if (at == 0) return {Origin::kNew, pass.newest};
    return at < pass.frames ? Place{Origin::kStored, slot_after(pass.newest, at, pass.frames)}
                            : Place{Origin::kNone, 0};
  }
  if (at == 0) return {Origin::kOldest, pass.newest};
  if (at == group) return {Origin::kMerged, pass.merged};
  const int other = at - 1 - (at > group);
  if (other == 0) return {Origin::kNew, pass.newest};
  if (other >= pass.frames - 1) return {Origin::kNone, 0};
  return {Origin::kStored, slot_after(pass.merged, other, pass.frames)};
}

SVM_HOST_DEVICE constexpr bool is_attended(Place place) {
  return place.origin != Origin::kNone && place.origin != Origin::kOldest;
}

// What an attend alone sees.
SVM_HOST_DEVICE constexpr Pass pass_over(int64_t first, int64_t frames) {
  return {static_cast<int32_t>(first), static_cast<int32_t>(frames), -1, -1};
}

// What an attend sees after this append.
SVM_HOST_DEVICE constexpr Pass pass_with(const AppendPlan& plan, int64_t capacity) {
  return {0, static_cast<int32_t>(held_frames(plan.after.count, capacity)), static_cast<int32_t>(plan.slot),
          static_cast<int32_t>(plan.merge_slot)};
}

namespace pass_checks {

// Every frame is attended once, the merge finds its two frames where it looks for them, and no place beyond the last
// tile is needed.
constexpr bool is_whole(int64_t count, int64_t capacity, Evict evict, int group) {
  const AppendPlan plan = plan_append({count, count - 1}, count, capacity, evict);
  const Pass pass = pass_with(plan, capacity);
  int seen[64] = {};
  int last = -1;
  for (int at = 0; at < tiles(pass, group) * group; ++at) {
    const Place place = place_of(pass, at, group);
    if (is_attended(place)) ++seen[place.frame];
    if (is_attended(place)) last = at;
    if ((place.origin == Origin::kNew) != (is_attended(place) && place.frame == plan.slot)) return false;
    if ((place.origin == Origin::kMerged) != (is_attended(place) && place.frame == plan.merge_slot)) return false;
    if ((place.origin == Origin::kOldest) != (plan.merge_slot >= 0 && at == 0)) return false;
    if (place.origin == Origin::kMerged && at != group) return false;
  }
  for (int frame = 0; frame < pass.frames; ++frame) {
    if (seen[frame] != 1) return false;
  }
  return pass.frames > 0 && last / group == tiles(pass, group) - 1;
}

constexpr bool are_whole(int64_t capacity, Evict evict) {
  for (int64_t count = 0; count <= 2 * capacity; ++count) {
    for (int group = 1; group <= 16; group += group < 3 ? 1 : 4) {
      if (!is_whole(count, capacity, evict, group)) return false;
    }
  }
  return true;
}

static_assert(are_whole(1, Evict::kMerge) && are_whole(2, Evict::kMerge) && are_whole(7, Evict::kMerge));
static_assert(are_whole(1, Evict::kFifo) && are_whole(3, Evict::kFifo) && are_whole(2, Evict::kClear));

}  // namespace pass_checks

}  // namespace svm::cuda
