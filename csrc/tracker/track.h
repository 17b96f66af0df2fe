// What a tracker is given and what it keeps.
#pragma once

#include <cstdint>

#include "tracker/kalman.h"

namespace svm::tracker {

// The detections of one frame; rows are counted from 0.
struct Detections {
  int64_t count;
  const float* boxes;  // [count, 4]: x1, y1, x2, y2
  const float* scores;
  const int64_t* labels;

  Box box(int64_t row) const {
    const float* corners = boxes + 4 * row;
    return {corners[0], corners[1], corners[2], corners[3]};
  }
};

// One object. Frames are counted from the tracker's first.
struct Track {
  int64_t id;
  int64_t label;
  int64_t seen;       // the frame of its last detection
  int64_t boxes;      // detections so far
  int64_t predicted;  // predictions since its last detection
  bool confirmed;
  float score;  // of its last detection
  BoxFilter filter;
};

}  // namespace svm::tracker
