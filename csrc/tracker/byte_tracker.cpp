#include "tracker/byte_tracker.h"

#include <algorithm>
#include <cmath>

#include "tracker/association.h"

namespace svm::tracker {
namespace {

constexpr int64_t kNone = -1;
constexpr int64_t kMostFrames = int64_t{1} << 60;  // far enough from where counting would overflow

bool is_sound(const Axis& axis) {
  const bool finite = std::isfinite(axis.position) && std::isfinite(axis.velocity) &&
                      std::isfinite(axis.position_variance) && std::isfinite(axis.covariance) &&
                      std::isfinite(axis.velocity_variance);
  return finite && axis.position_variance >= 0 && axis.covariance >= 0 && axis.velocity_variance >= 0;
}

bool is_sound(const BoxFilter& filter) {
  return is_sound(filter.x) && is_sound(filter.y) && is_sound(filter.aspect) && is_sound(filter.height);
}

}  // namespace

Found ByteTracker::update(const Detections& detections) {
  Found found;
  // A frame without detections predicts nothing either: the reference's rule.
  if (tracks_.empty() || detections.count == 0) {
    start_all(detections, found);
  } else {
    continue_tracks(detections, found);
  }
  drop_old();
  ++frames_;
  return found;
}

void ByteTracker::start_all(const Detections& detections, Found& found) {
  for (int64_t row = 0; row < detections.count; ++row) {
    if (detections.scores[row] > rules_.init) start(detections, row, found);
  }
}

void ByteTracker::continue_tracks(const Detections& detections, Found& found) {
  std::vector<int64_t> good, poor;  // rows by score
  for (int64_t row = 0; row < detections.count; ++row) {
    if (detections.scores[row] > rules_.high) {
      good.push_back(row);
    } else if (detections.scores[row] > rules_.low) {
      poor.push_back(row);
    }
  }
  predict();
  std::vector<int64_t> confirmed, tentative;
  for (size_t at = 0; at < tracks_.size(); ++at) (tracks_[at].confirmed ? confirmed : tentative).push_back(at);

  // Good detections continue confirmed tracks, lost ones too; what is left of them, tentative tracks.
  std::vector<int64_t> track_of(detections.count, kNone);
  associate({tracks_, confirmed, detections, good}, true, rules_.match_high, track_of);
  const auto is_free = [&](int64_t row) { return track_of[row] == kNone; };
  const auto free_good = std::stable_partition(good.begin(), good.end(), [&](int64_t row) { return !is_free(row); });
  const std::vector<int64_t> left(free_good, good.end());
  associate({tracks_, tentative, detections, left}, true, rules_.match_tentative, track_of);

  // Poor ones only continue what was seen a frame ago: somebody half hidden.
  std::vector<char> taken(tracks_.size(), false);
  for (const int64_t track : track_of) {
    if (track != kNone) taken[track] = true;
  }
  std::vector<int64_t> missing;
  for (const int64_t track : confirmed) {
    if (!taken[track] && seen_in_last_frame(tracks_[track])) missing.push_back(track);
  }
  associate({tracks_, missing, detections, poor}, false, rules_.match_low, track_of);
  poor.erase(std::remove_if(poor.begin(), poor.end(), is_free), poor.end());

  good.insert(good.end(), poor.begin(), poor.end());
  for (const int64_t row : good) {
    if (is_free(row)) {
      start(detections, row, found);
    } else {
      extend(tracks_[track_of[row]], detections, row, found);
    }
  }
}

void ByteTracker::predict() {
  for (Track& track : tracks_) {
    if (!track.confirmed) continue;
    if (!seen_in_last_frame(track)) track.filter.height.velocity = 0;  // who is lost grows no further
    track.filter.predict();
    ++track.predicted;
  }
}

void ByteTracker::start(const Detections& detections, int64_t row, Found& found) {
  const bool confirmed = frames_ == 0;
  const BoxFilter filter = BoxFilter::start(detections.box(row));
  tracks_.push_back({next_id_, detections.labels[row], frames_, 1, 0, confirmed, detections.scores[row], filter});
  found.rows.push_back(row);
  found.ids.push_back(next_id_++);
}

void ByteTracker::extend(Track& track, const Detections& detections, int64_t row, Found& found) {
  track.filter.correct(detections.box(row));
  track.score = detections.scores[row];
  track.seen = frames_;
  track.predicted = 0;
  track.confirmed |= ++track.boxes >= rules_.confirm;
  found.rows.push_back(row);
  found.ids.push_back(track.id);
}

void ByteTracker::drop_old() {
  const auto is_over = [this](const Track& track) {
    const int64_t unseen = frames_ - track.seen;
    return unseen >= rules_.retain || (!track.confirmed && unseen > 0);
  };
  tracks_.erase(std::remove_if(tracks_.begin(), tracks_.end(), is_over), tracks_.end());
}

std::vector<Expected> ByteTracker::expected(int64_t frames) const {
  std::vector<Expected> found;
  for (const Track& track : tracks_) {
    const int64_t unseen = frames_ - 1 - track.seen;
    if (!track.confirmed || unseen < 1 || unseen > frames) continue;
    const Box box = track.filter.ahead(unseen - track.predicted);  // frames without detections predicted nothing
    if (box.x1 < box.x2 && box.y1 < box.y2) found.push_back({track.id, track.label, track.score, box});
  }
  return found;
}

const char* ByteTracker::fault() const {
  if (frames_ < 0 || next_id_ < 1) return "counters below their start";
  if (std::max(frames_, next_id_) > kMostFrames) return "counters that no video reaches";
  int64_t last_id = 0;
  for (const Track& track : tracks_) {
    const int64_t unseen = frames_ - 1 - track.seen;
    if (track.id <= last_id || track.id >= next_id_) return "ids that are not rising, or not given out yet";
    if (track.seen < 0 || unseen < 0) return "a track that was last seen in no frame so far";
    if (unseen >= rules_.retain || (!track.confirmed && unseen > 0)) return "a track that is over";
    if (track.boxes < 1 || track.boxes > track.seen + 1) return "a track with more boxes than frames, or with none";
    if (track.predicted < 0 || track.predicted > unseen) return "a track with more predictions than unseen frames";
    if (!std::isfinite(track.score) || !is_sound(track.filter)) return "a track whose numbers are not finite";
    last_id = track.id;
  }
  return "";
}

}  // namespace svm::tracker
