// ByteTrack's association: detections of one frame after the other in, a number for each object out.
//
// A tracker is a value: rules, two counters and the tracks that are alive. It keeps no history, so it needs the same
// memory after a year as after a minute, and a copy of it is a snapshot.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "tracker/track.h"

namespace svm::tracker {

// When detections count and pairs may be made. Scores are compared in single precision, as detectors give them.
struct Rules {
  float high, low, init;                          // scores
  double match_high, match_low, match_tentative;  // least overlaps
  int64_t confirm, retain;                        // detections until a track is believed; frames until it is dropped
};

// What a frame gave: which detections belong to which object. The other detections belong to none.
struct Found {
  std::vector<int64_t> rows;
  std::vector<int64_t> ids;
};

// Where an object is expected that was not detected.
struct Expected {
  int64_t id, label;
  float score;  // of its last detection
  Box box;
};

class ByteTracker {
 public:
  explicit ByteTracker(const Rules& rules, int64_t frames = 0, int64_t next_id = 1, std::vector<Track> tracks = {})
      : rules_(rules), frames_(frames), next_id_(next_id), tracks_(std::move(tracks)) {}

  // Take in one frame.
  Found update(const Detections& detections);

  // Where the confirmed tracks are expected that were last detected 1 to `frames` frames before the newest one.
  // Only looks: the tracks stay as they are.
  std::vector<Expected> expected(int64_t frames) const;

  // Why no frames leave this state behind; empty where some may.
  const char* fault() const;

  int64_t frames() const { return frames_; }  // taken in so far
  int64_t next_id() const { return next_id_; }
  const std::vector<Track>& tracks() const { return tracks_; }  // in the order of their ids

 private:
  void start_all(const Detections& detections, Found& found);
  void continue_tracks(const Detections& detections, Found& found);
  void predict();
  void start(const Detections& detections, int64_t row, Found& found);
  void extend(Track& track, const Detections& detections, int64_t row, Found& found);
  void drop_old();
  bool seen_in_last_frame(const Track& track) const { return track.seen == frames_ - 1; }

  Rules rules_;
  int64_t frames_;
  int64_t next_id_;
  std::vector<Track> tracks_;
};

}  // namespace svm::tracker
