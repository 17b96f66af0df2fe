// Pairs rows with columns at the least cost, where leaving a row and a column alone costs `limit` together.
//
// The usual statement is a square problem of rows + columns on either side: the costs, limit / 2 beside and below them,
// zeros in the corner. A pair that costs limit or more is never needed in its solution, and every other pair saves
// limit - cost. So it is enough to know the pairs below the limit, each worth cost - limit, and to let every row also
// stay alone at zero. Solving first and dropping dear pairs afterwards is another problem, with other answers.
//
// Rows enter one by one, each along the shortest augmenting path (Dijkstra on reduced costs, as Jonker and Volgenant
// do). A search only ever touches pairs that hang together with its row, so crowds cost what their largest knot costs.
#pragma once

#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace svm::tracker {

class Assignment {
 public:
  static constexpr int64_t kAlone = -1;

  Assignment(int64_t columns, double limit)
      : limit_(limit),
        row_of_(columns, kAlone),
        column_price_(columns, 0.0),
        distance_(columns, kFar),
        came_from_(columns, kAlone),
        settled_(columns, false) {}

  // Rows follow in order. A pair of the row at hand; whatever costs the limit or more (or is no number) is left out.
  void pair(int64_t column, double cost) {
    if (cost < limit_) pairs_.push_back({column, cost - limit_});
  }

  void end_row() { row_ends_.push_back(static_cast<int64_t>(pairs_.size())); }

  // The column of each row, or kAlone; once, after the last row.
  const std::vector<int64_t>& solve() {
    const int64_t rows = static_cast<int64_t>(row_ends_.size());
    column_of_.assign(rows, kAlone);
    row_price_.assign(rows, 0.0);
    for (int64_t row = 0; row < rows; ++row) enter(row);
    return column_of_;
  }

 private:
  static constexpr double kFar = std::numeric_limits<double>::infinity();

  struct Pair {
    int64_t column;
    double worth;  // below zero
  };

  void enter(int64_t start) {
    double length = 0.0;     // of the shortest path to `row`
    double way_out = kFar;   // of the shortest path to a row that then stays alone
    int64_t leaves = start;  // that row
    int64_t free = kAlone;   // or the free column at the end of a shorter path
    for (int64_t row = start; free == kAlone;) {
      if (length - row_price_[row] < way_out) {
        way_out = length - row_price_[row];
        leaves = row;
      }
      look_around(row, length);
      const int64_t next = take_nearest(way_out);
      if (next == kAlone) break;
      length = distance_[next];
      row = row_of_[next];
      if (row == kAlone) free = next;
    }
    set_prices(start, free == kAlone ? way_out : length);
    if (free == kAlone && leaves != start) {  // that row gives its column away
      free = column_of_[leaves];
      column_of_[leaves] = kAlone;
    }
    for (int64_t column = free; column != kAlone;) {
      const int64_t row = came_from_[column];
      row_of_[column] = row;
      std::swap(column_of_[row], column);
    }
  }

  void look_around(int64_t row, double length) {
    const double done = length - row_price_[row];
    for (int64_t at = row == 0 ? 0 : row_ends_[row - 1]; at < row_ends_[row]; ++at) {
      const int64_t column = pairs_[at].column;
      const double distance = done + pairs_[at].worth - column_price_[column];
      if (distance >= distance_[column] || settled_[column]) continue;
      if (distance_[column] == kFar) open_.push_back(column);
      distance_[column] = distance;
      came_from_[column] = row;
    }
  }

  // Settles the nearest open column, a free one before others; kAlone where none is nearer than the way out.
  int64_t take_nearest(double way_out) {
    size_t best = open_.size();
    double least = way_out;
    for (size_t at = 0; at < open_.size(); ++at) {
      const double distance = distance_[open_[at]];
      if (distance > least) continue;
      const bool nearer = distance < least;
      if (nearer || (best < open_.size() && row_of_[open_[at]] == kAlone)) {
        best = at;
        least = distance;
      }
    }
    if (best == open_.size()) return kAlone;
    const int64_t column = open_[best];
    open_[best] = open_.back();
    open_.pop_back();
    settled_[column] = true;
    settled_columns_.push_back(column);
    return column;
  }

  // Keep the worth of pairs at or above the prices of their sides, and forget the search.
  void set_prices(int64_t start, double length) {
    row_price_[start] += length;
    for (const int64_t column : settled_columns_) {
      if (row_of_[column] != kAlone) row_price_[row_of_[column]] += length - distance_[column];
      column_price_[column] -= length - distance_[column];
      settled_[column] = false;
      distance_[column] = kFar;
    }
    for (const int64_t column : open_) distance_[column] = kFar;
    settled_columns_.clear();
    open_.clear();
  }

  double limit_;
  std::vector<Pair> pairs_;         // row after row
  std::vector<int64_t> row_ends_;   // where each row's pairs end
  std::vector<int64_t> column_of_;  // the solution so far, from both sides
  std::vector<int64_t> row_of_;
  std::vector<double> row_price_;
  std::vector<double> column_price_;
  // Of the search at hand.
  std::vector<double> distance_;
  std::vector<int64_t> came_from_;
  std::vector<char> settled_;
  std::vector<int64_t> open_, settled_columns_;
};

}  // namespace svm::tracker
