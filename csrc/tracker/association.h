// Which detection continues which track, by overlap with where the tracks are expected.
#pragma once

#include <cstdint>
#include <vector>

#include "tracker/track.h"

namespace svm::tracker {

// Some of a frame's tracks and some of its detections to pair up.
struct Contest {
  const std::vector<Track>& tracks;
  const std::vector<int64_t>& candidates;  // indices of tracks
  const Detections& detections;
  const std::vector<int64_t>& rows;  // of detections
};

// Writes to track_of[row] the index of the track that a detection continues; other rows are left as they are. Only
// equal labels pair up, only overlaps (weighted: times the detection's score) above least_overlap, and as a whole at
// the least sum of 1 - overlap.
void associate(const Contest& contest, bool weighted, double least_overlap, std::vector<int64_t>& track_of);

}  // namespace svm::tracker
