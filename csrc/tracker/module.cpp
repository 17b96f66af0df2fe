// svm_ext._tracker: many trackers behind one call. Arrays are checked before any tracker changes.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "tracker/assignment.h"
#include "tracker/byte_tracker.h"

namespace py = pybind11;

namespace svm::tracker {
namespace {

template <typename T>
using Array = py::array_t<T, py::array::c_style>;
using Streams = std::vector<int64_t>;

[[noreturn]] void fail(const std::string& message) { throw std::invalid_argument(message); }

template <typename Sizes>
std::string shape_text(const Sizes& sizes) {
  std::string text;
  for (const auto size : sizes) text += (text.empty() ? "[" : ", ") + std::to_string(size);
  return text.empty() ? "[]" : text + "]";
}

void check_shape(const char* name, const py::array& array, const std::vector<py::ssize_t>& expected) {
  const std::vector<py::ssize_t> got(array.shape(), array.shape() + array.ndim());
  if (got != expected) {
    fail(std::string(name) + ": expected shape " + shape_text(expected) + ", got " + shape_text(got) +
         "; give arrays that belong together");
  }
}

template <typename T>
Array<T> to_array(const std::vector<T>& values) {
  return Array<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

// Several frames, of one stream each, one behind the other.
struct Batch {
  Array<float> boxes, scores;
  Array<int64_t> labels;
  std::vector<int64_t> counts;

  Detections frame(int64_t first, size_t at) const {
    return {counts[at], boxes.data() + 4 * first, scores.data() + first, labels.data() + first};
  }

  void check() const {
    int64_t rows = 0;
    for (const int64_t count : counts) {
      if (count < 0) fail("counts: expected none below 0, got " + std::to_string(count) + "; count detections");
      rows += count;
    }
    check_shape("boxes", boxes, {rows, 4});
    check_shape("scores", scores, {rows});
    check_shape("labels", labels, {rows});
    for (size_t at = 0, first = 0; at < counts.size(); first += counts[at++]) check_values(frame(first, at), at);
  }

 private:
  void check_values(const Detections& detections, size_t at) const {
    for (int64_t row = 0; row < detections.count; ++row) {
      const float *box = detections.boxes + 4 * row, score = detections.scores[row];
      const auto where = [&] {
        const std::string in_frame = counts.size() > 1 ? " of detections[" + std::to_string(at) + "]" : "";
        return " in row " + std::to_string(row) + in_frame;
      };
      for (int side = 0; side < 4; ++side) {
        if (!std::isfinite(box[side])) {
          fail("boxes: expected finite numbers, got " + number(box[side]) + where() + "; leave such boxes out");
        }
      }
      if (box[0] > box[2] || box[1] > box[3]) {
        fail("boxes: expected x1 <= x2 and y1 <= y2, got [" + number(box[0]) + ", " + number(box[1]) + ", " +
             number(box[2]) + ", " + number(box[3]) + "]" + where() + "; pass corners, not widths and heights");
      }
      if (!std::isfinite(score)) {
        fail("scores: expected finite numbers, got " + number(score) + where() + "; leave such boxes out");
      }
    }
  }
};

// Columns of a snapshot's `tracks` and `filters`, in this order.
constexpr py::ssize_t kTrackColumns = 6;  // id, label, seen, boxes, predicted, confirmed
constexpr py::ssize_t kAxes = 4;          // x, y, aspect, height
constexpr py::ssize_t kAxisColumns = 5;   // position, velocity, position variance, covariance, velocity variance
static_assert(sizeof(BoxFilter) == kAxes * kAxisColumns * sizeof(double), "a filter is the numbers of its axes");

Track read_track(const int64_t* columns, const double* filter, float score) {
  if (columns[5] != 0 && columns[5] != 1) fail("tracks: expected confirmed as 0 or 1, got another number");
  Track track{columns[0], columns[1], columns[2], columns[3], columns[4], columns[5] == 1, score, {}};
  std::memcpy(&track.filter, filter, sizeof track.filter);
  return track;
}

void write_track(const Track& track, int64_t* columns, double* filter, float* score) {
  const int64_t values[] = {track.id, track.label, track.seen, track.boxes, track.predicted, track.confirmed};
  std::copy(std::begin(values), std::end(values), columns);
  std::memcpy(filter, &track.filter, sizeof track.filter);
  *score = track.score;
}

// Trackers of several streams. A lock makes calls from several threads safe: they come one after the other.
class Bank {
 public:
  Bank(int64_t streams, const Rules& rules) : rules_(rules), trackers_(streams, ByteTracker(rules)) {}

  py::tuple update(const Array<float>& boxes, const Array<float>& scores, const Array<int64_t>& labels,
                   const std::vector<int64_t>& counts, const Streams& streams) {
    const Batch batch{boxes, scores, labels, counts};
    check_streams(streams, counts.size());
    batch.check();
    Found all;
    std::vector<int64_t> found_counts;
    {
      const py::gil_scoped_release others_may_run;
      const std::lock_guard<std::mutex> alone(mutex_);
      for (size_t at = 0, first = 0; at < streams.size(); first += counts[at++]) {
        const Found found = trackers_[streams[at]].update(batch.frame(first, at));
        all.rows.insert(all.rows.end(), found.rows.begin(), found.rows.end());
        all.ids.insert(all.ids.end(), found.ids.begin(), found.ids.end());
        found_counts.push_back(found.rows.size());
      }
    }
    return py::make_tuple(to_array(all.rows), to_array(all.ids), found_counts);
  }

  py::tuple expected(int64_t stream, int64_t frames) {
    check_streams({stream}, 1);
    std::vector<Expected> found;
    {
      const py::gil_scoped_release others_may_run;
      const std::lock_guard<std::mutex> alone(mutex_);
      found = trackers_[stream].expected(frames);
    }
    const py::ssize_t count = found.size();
    Array<int64_t> ids(count), labels(count);
    Array<double> boxes({count, py::ssize_t{4}});
    Array<float> scores(count);
    for (py::ssize_t row = 0; row < count; ++row) {
      ids.mutable_at(row) = found[row].id;
      labels.mutable_at(row) = found[row].label;
      scores.mutable_at(row) = found[row].score;
      std::memcpy(boxes.mutable_data(row, 0), &found[row].box, sizeof(Box));
    }
    return py::make_tuple(ids, boxes, scores, labels);
  }

  void reset(const Streams& streams) {
    check_streams(streams, streams.size());
    const py::gil_scoped_release others_may_run;
    const std::lock_guard<std::mutex> alone(mutex_);
    for (const int64_t stream : streams) trackers_[stream] = ByteTracker(rules_);
  }

  // Frames so far and tracks alive, of each of these streams.
  py::tuple counts(const Streams& streams) {
    const std::vector<ByteTracker> copies = copies_of(streams);
    std::vector<int64_t> frames, tracks;
    for (const ByteTracker& tracker : copies) {
      frames.push_back(tracker.frames());
      tracks.push_back(tracker.tracks().size());
    }
    return py::make_tuple(frames, tracks);
  }

  py::dict snapshot(const Streams& streams) {
    const std::vector<ByteTracker> copies = copies_of(streams);
    std::vector<int64_t> frames, next_ids, counts;
    py::ssize_t total = 0;
    for (const ByteTracker& tracker : copies) {
      frames.push_back(tracker.frames());
      next_ids.push_back(tracker.next_id());
      counts.push_back(tracker.tracks().size());
      total += tracker.tracks().size();
    }
    Array<int64_t> tracks({total, kTrackColumns});
    Array<double> filters({total, kAxes, kAxisColumns});
    Array<float> scores(total);
    int64_t* columns = tracks.mutable_data();
    double* filter = filters.mutable_data();
    float* score = scores.mutable_data();
    for (const ByteTracker& tracker : copies) {
      for (const Track& track : tracker.tracks()) {
        write_track(track, columns, filter, score);
        columns += kTrackColumns, filter += kAxes * kAxisColumns, ++score;
      }
    }
    py::dict state;
    state["frames"] = to_array(frames);
    state["next_ids"] = to_array(next_ids);
    state["counts"] = to_array(counts);
    state["tracks"] = tracks;
    state["filters"] = filters;
    state["scores"] = scores;
    return state;
  }

  void restore(const Streams& streams, const Array<int64_t>& frames, const Array<int64_t>& next_ids,
               const Array<int64_t>& counts, const Array<int64_t>& tracks, const Array<double>& filters,
               const Array<float>& scores) {
    check_streams(streams, streams.size());
    const py::ssize_t rows = streams.size(), total = scores.size();
    check_shape("frames", frames, {rows});
    check_shape("next_ids", next_ids, {rows});
    check_shape("counts", counts, {rows});
    check_shape("tracks", tracks, {total, kTrackColumns});
    check_shape("filters", filters, {total, kAxes, kAxisColumns});
    check_shape("scores", scores, {total});
    std::vector<ByteTracker> restored;
    py::ssize_t first = 0;
    for (py::ssize_t row = 0; row < rows; ++row) {
      const int64_t count = counts.at(row);
      if (count < 0 || count > total - first) fail("counts: expected the tracks of each stream, got other numbers");
      std::vector<Track> alive;
      for (const py::ssize_t end = first + count; first < end; ++first) {
        const double* filter = filters.data() + first * kAxes * kAxisColumns;
        alive.push_back(read_track(tracks.data() + first * kTrackColumns, filter, scores.at(first)));
      }
      restored.emplace_back(rules_, frames.at(row), next_ids.at(row), std::move(alive));
      const std::string fault = restored.back().fault();
      if (!fault.empty()) fail("state: expected what snapshot() returns, got " + fault + "; take a new snapshot");
    }
    if (first != total) fail("counts: expected the tracks of each stream, got other numbers");
    const py::gil_scoped_release others_may_run;
    const std::lock_guard<std::mutex> alone(mutex_);
    for (py::ssize_t row = 0; row < rows; ++row) trackers_[streams[row]] = std::move(restored[row]);
  }

 private:
  void check_streams(const Streams& streams, size_t frames) const {
    if (streams.size() != frames) {
      fail("streams: expected one for each of " + std::to_string(frames) + " frames, got " +
           std::to_string(streams.size()) + "; name the stream of every frame");
    }
    std::vector<bool> named(trackers_.size(), false);
    for (const int64_t stream : streams) {
      if (stream < 0 || stream >= static_cast<int64_t>(trackers_.size())) {
        throw py::index_error("streams: expected ids from 0 and below " + std::to_string(trackers_.size()) + ", got " +
                              std::to_string(stream) + "; name streams that the bank has");
      }
      if (named[stream]) {
        fail("streams: expected each stream once, got " + std::to_string(stream) + " twice; update frame by frame");
      }
      named[stream] = true;
    }
  }

  std::vector<ByteTracker> copies_of(const Streams& streams) {
    check_streams(streams, streams.size());
    const py::gil_scoped_release others_may_run;
    const std::lock_guard<std::mutex> alone(mutex_);
    std::vector<ByteTracker> copies;
    for (const int64_t stream : streams) copies.push_back(trackers_[stream]);
    return copies;
  }

  Rules rules_;
  std::vector<ByteTracker> trackers_;
  std::mutex mutex_;
};

// The column of each row of a cost matrix, -1 for a row that stays alone.
Array<int64_t> assign(const Array<double>& costs, double limit) {
  if (costs.ndim() != 2) fail("costs: expected shape [rows, columns], got another; pass a matrix");
  std::vector<int64_t> column_of;
  {
    const py::gil_scoped_release others_may_run;
    Assignment assignment(costs.shape(1), limit);
    const double* cost = costs.data();
    for (py::ssize_t row = 0; row < costs.shape(0); ++row) {
      for (py::ssize_t column = 0; column < costs.shape(1); ++column) assignment.pair(column, *cost++);
      assignment.end_row();
    }
    column_of = assignment.solve();
  }
  return to_array(column_of);
}

}  // namespace

PYBIND11_MODULE(_tracker, module) {
  module.doc() = "The C++ core of svm_ext.tracking; use it through svm_ext.ByteTracker and svm_ext.TrackerBank.";
  module.attr("SCHEMA") = 1;
  py::class_<Rules>(module, "Rules")
      .def(py::init([](float high, float low, float init, double match_high, double match_low, double match_tentative,
                       int64_t confirm, int64_t retain) {
        return Rules{high, low, init, match_high, match_low, match_tentative, confirm, retain};
      }));
  const auto as_is = [](const char* name) { return py::arg(name).noconvert(); };
  py::class_<Bank>(module, "Bank")
      .def(py::init<int64_t, const Rules&>(), py::arg("streams"), py::arg("rules"))
      .def("update", &Bank::update, as_is("boxes"), as_is("scores"), as_is("labels"), py::arg("counts"),
           py::arg("streams"))
      .def("expected", &Bank::expected, py::arg("stream"), py::arg("frames"))
      .def("reset", &Bank::reset, py::arg("streams"))
      .def("counts", &Bank::counts, py::arg("streams"))
      .def("snapshot", &Bank::snapshot, py::arg("streams"))
      .def("restore", &Bank::restore, py::arg("streams"), as_is("frames"), as_is("next_ids"), as_is("counts"),
           as_is("tracks"), as_is("filters"), as_is("scores"));
  module.def("assign", &assign, as_is("costs"), py::arg("limit"));
}

}  // namespace svm::tracker
