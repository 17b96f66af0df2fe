#include "tracker/association.h"

#include <algorithm>

#include "tracker/assignment.h"

namespace svm::tracker {
namespace {

// Overlaps are computed in single precision, like the detections themselves and like the reference.
struct Corners {
  float x1, y1, x2, y2;
};

Corners expected_corners(const BoxFilter& filter) {
  const float x = static_cast<float>(filter.x.position), y = static_cast<float>(filter.y.position);
  const float height = static_cast<float>(filter.height.position);
  const float width = static_cast<float>(filter.aspect.position) * height;
  return {x - width / 2, y - height / 2, x + width / 2, y + height / 2};
}

float area(const Corners& box) { return (box.x2 - box.x1) * (box.y2 - box.y1); }

// The contest's detections, one array a number, so that costs are computed for several detections at once.
class Columns {
 public:
  Columns(const Contest& contest, bool weighted) : count_(contest.rows.size()), numbers_(7 * count_) {
    for (size_t column = 0; column < count_; ++column) {
      const int64_t row = contest.rows[column];
      const float* box = contest.detections.boxes + 4 * row;
      for (size_t side = 0; side < 4; ++side) numbers_[side * count_ + column] = box[side];
      numbers_[4 * count_ + column] = area({box[0], box[1], box[2], box[3]});
      numbers_[5 * count_ + column] = weighted ? contest.detections.scores[row] : 1.0f;
    }
  }

  // 1 - overlap of every detection with one box.
  const float* costs(const Corners& box) {
    const float *x1 = numbers_.data(), *y1 = x1 + count_, *x2 = y1 + count_, *y2 = x2 + count_;
    const float *areas = y2 + count_, *weights = areas + count_;
    float* costs = numbers_.data() + 6 * count_;
    const float own_area = area(box);
    for (size_t column = 0; column < count_; ++column) {
      const float width = std::min(box.x2, x2[column]) - std::max(box.x1, x1[column]);
      const float height = std::min(box.y2, y2[column]) - std::max(box.y1, y1[column]);
      const float shared = std::max(width, 0.0f) * std::max(height, 0.0f);
      const float all = std::max(own_area + areas[column] - shared, 1e-6f);
      costs[column] = 1.0f - shared / all * weights[column];
    }
    return costs;
  }

 private:
  size_t count_;
  std::vector<float> numbers_;
};

}  // namespace

void associate(const Contest& contest, bool weighted, double least_overlap, std::vector<int64_t>& track_of) {
  const int64_t columns = static_cast<int64_t>(contest.rows.size());
  if (contest.candidates.empty() || columns == 0) return;
  Columns detections(contest, weighted);
  Assignment assignment(columns, 1 - least_overlap);
  for (const int64_t candidate : contest.candidates) {
    const Track& track = contest.tracks[candidate];
    const float* costs = detections.costs(expected_corners(track.filter));
    for (int64_t column = 0; column < columns; ++column) {
      if (contest.detections.labels[contest.rows[column]] == track.label) assignment.pair(column, costs[column]);
    }
    assignment.end_row();
  }
  const std::vector<int64_t>& column_of = assignment.solve();
  for (size_t row = 0; row < column_of.size(); ++row) {
    if (column_of[row] != Assignment::kAlone) track_of[contest.rows[column_of[row]]] = contest.candidates[row];
  }
}

}  // namespace svm::tracker
