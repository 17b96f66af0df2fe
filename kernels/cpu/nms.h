// Greedy suppression within one group of boxes, best score first. Compiled once per instruction set: the inner loop has
// no branch and no division, and the compiler makes vectors of it.
//
// The boxes lie sorted into the tiles of a grid by their centres, so that a kept box meets only those near it: boxes of
// widths w and w' whose IoU exceeds t have centres closer than w (1 - t) / (2 t), the same for heights.
#pragma once

#include <cstdint>

#include "cpu/scratch.h"
#include "svm/params.h"

namespace svm::cpu::SVM_ISA {

constexpr int64_t kBoxesPerTile = 16;  // on average; more tiles mean shorter vectors, fewer mean more boxes to meet
constexpr int64_t kMaxTiles = 64;      // in each direction

// As wide as the numbers, so that a vector of flags is as long as a vector of numbers.
template <class Number>
struct FlagOf;
template <>
struct FlagOf<float> {
  using Type = int32_t;
};
template <>
struct FlagOf<double> {
  using Type = int64_t;
};

template <class Number>
struct Box {
  Number x1, y1, x2, y2, area;
};

template <class Number>
inline Box<Number> read_box(const NmsParams& params, int64_t index) {
  const Number* corner = static_cast<const Number*>(params.boxes) + 4 * index;
  const Number width = corner[2] - corner[0], height = corner[3] - corner[1];
  const Number area = (width < 0 ? 0 : width) * (height < 0 ? 0 : height);  // NaN is not < 0
  return {corner[0], corner[1], corner[2], corner[3], area};
}

// Boxes as one array a coordinate, in the order of their tiles.
template <class Number>
struct BoxArrays {
  Number *x1, *y1, *x2, *y2, *area;
  typename FlagOf<Number>::Type* dead;

  void set(int64_t i, const Box<Number>& box) const {
    x1[i] = box.x1;
    y1[i] = box.y1;
    x2[i] = box.x2;
    y2[i] = box.y2;
    area[i] = box.area;
    dead[i] = 0;
  }
};

// Marks what overlaps `box` among [begin, end): IoU > threshold, multiplied out. That is exact for whole numbers, and
// the same on every machine, since nothing in it can be contracted to a fused multiply-add. A NaN anywhere in a box
// makes its area NaN and the comparison false.
template <class Number>
inline void suppress(const Box<Number>& box, Number threshold, const BoxArrays<Number>& boxes, int64_t begin,
                     int64_t end) {
  const Number *x1 = boxes.x1, *y1 = boxes.y1, *x2 = boxes.x2, *y2 = boxes.y2, *area = boxes.area;
  typename FlagOf<Number>::Type* __restrict dead = boxes.dead;
  for (int64_t i = begin; i < end; ++i) {
    const Number left = box.x1 > x1[i] ? box.x1 : x1[i];
    const Number top = box.y1 > y1[i] ? box.y1 : y1[i];
    const Number right = box.x2 < x2[i] ? box.x2 : x2[i];
    const Number bottom = box.y2 < y2[i] ? box.y2 : y2[i];
    const Number across = right - left, down = bottom - top;
    const Number width = across > 0 ? across : 0, height = down > 0 ? down : 0;
    dead[i] |= width * height * (1 + threshold) > threshold * (box.area + area[i]);
  }
}

// One direction of the grid. Every number has a tile, and a larger number never a smaller one.
template <class Number>
struct Axis {
  Number low, tiles_per_unit;
  int64_t tiles;

  // `low` and `high` are the outermost centres.
  Axis(Number low, Number high, int64_t tiles)
      : low(low), tiles_per_unit(high > low ? static_cast<Number>(tiles) / (high - low) : 0), tiles(tiles) {}

  int64_t tile(Number x) const {
    const Number at = (x - low) * tiles_per_unit;
    return at > 0 ? at < static_cast<Number>(tiles) ? static_cast<int64_t>(at) : tiles - 1 : 0;
  }
};

template <class Number>
inline Number centre(Number low, Number high) {
  return low / 2 + high / 2;
}

// The grid over a group's boxes. Boxes at infinity or NaN overlap nothing, wherever they are put.
template <class Number>
struct Grid {
  Axis<Number> x, y;

  int64_t tile(const Box<Number>& box) const {
    return y.tile(centre(box.y1, box.y2)) * x.tiles + x.tile(centre(box.x1, box.x2));
  }
};

template <class Number>
inline Grid<Number> make_grid(const NmsParams& params, const int64_t* order, int64_t count) {
  constexpr Number kFar = 1e9;  // what lies beyond shares the outermost tiles
  Number low_x = kFar, high_x = -kFar, low_y = kFar, high_y = -kFar;
  for (int64_t i = 0; i < count; ++i) {
    const Box<Number> box = read_box<Number>(params, order[i]);
    const Number x = centre(box.x1, box.x2), y = centre(box.y1, box.y2);
    if (!(x > -kFar && x < kFar && y > -kFar && y < kFar)) continue;
    low_x = x < low_x ? x : low_x;
    high_x = x > high_x ? x : high_x;
    low_y = y < low_y ? y : low_y;
    high_y = y > high_y ? y : high_y;
  }
  int64_t tiles = 1;
  while (tiles < kMaxTiles && tiles * tiles * kBoxesPerTile < count) ++tiles;
  return {Axis<Number>(low_x, high_x, tiles), Axis<Number>(low_y, high_y, tiles)};
}

// How far from its own centre a box of this width can find the centre of one to suppress; a little further for
// rounding.
template <class Number>
inline Number reach(Number low, Number high, Number widths) {
  const Number magnitude = (low < 0 ? -low : low) + (high < 0 ? -high : high);
  return (high - low) * widths + magnitude * static_cast<Number>(1e-6);
}

// A group's boxes in scratch memory, sorted into tiles; within a tile, and in `place`, best first.
template <class Number>
struct TiledBoxes {
  BoxArrays<Number> boxes;
  int64_t* place;  // [count] of the i-th best box among the arrays
  int64_t* start;  // [tiles + 2] tile t holds the places start[t] .. start[t + 1] - 1
};

template <class Number>
inline TiledBoxes<Number> room_for_boxes(int64_t count, int64_t tiles) {
  using Flag = typename FlagOf<Number>::Type;
  Scratch& scratch = thread_scratch();
  scratch.begin(5 * Scratch::room<Number>(count) + Scratch::room<Flag>(count) + Scratch::room<int64_t>(count) +
                Scratch::room<int64_t>(tiles + 2));
  TiledBoxes<Number> tiled;
  tiled.boxes = {scratch.take<Number>(count), scratch.take<Number>(count), scratch.take<Number>(count),
                 scratch.take<Number>(count), scratch.take<Number>(count), scratch.take<Flag>(count)};
  tiled.place = scratch.take<int64_t>(count);
  tiled.start = scratch.take<int64_t>(tiles + 2);
  return tiled;
}

template <class Number>
inline TiledBoxes<Number> sort_into_tiles(const NmsParams& params, const int64_t* order, int64_t count,
                                          const Grid<Number>& grid) {
  const int64_t tiles = grid.x.tiles * grid.y.tiles;
  const TiledBoxes<Number> tiled = room_for_boxes<Number>(count, tiles);
  int64_t *place = tiled.place, *start = tiled.start;
  for (int64_t t = 0; t < tiles + 2; ++t) start[t] = 0;
  for (int64_t i = 0; i < count; ++i) {
    place[i] = grid.tile(read_box<Number>(params, order[i]));
    ++start[place[i] + 2];  // two ahead: the sums below, and the filling, each move it by one
  }
  for (int64_t t = 2; t < tiles + 2; ++t) start[t] += start[t - 1];
  for (int64_t i = 0; i < count; ++i) {
    place[i] = start[place[i] + 1]++;
    tiled.boxes.set(place[i], read_box<Number>(params, order[i]));
  }
  return tiled;
}

template <class Number>
inline void suppress_neighbours(const Box<Number>& box, Number threshold, const Grid<Number>& grid,
                                const TiledBoxes<Number>& tiled) {
  const Number widths = (1 - threshold) / (2 * threshold) * static_cast<Number>(1.001);
  const Number x = centre(box.x1, box.x2), y = centre(box.y1, box.y2);
  const Number far_x = reach(box.x1, box.x2, widths), far_y = reach(box.y1, box.y2, widths);
  const int64_t left = grid.x.tile(x - far_x), right = grid.x.tile(x + far_x);
  const int64_t top = grid.y.tile(y - far_y), bottom = grid.y.tile(y + far_y);
  for (int64_t row = top * grid.x.tiles; row <= bottom * grid.x.tiles; row += grid.x.tiles) {
    suppress(box, threshold, tiled.boxes, tiled.start[row + left], tiled.start[row + right + 1]);
  }
}

template <class Number>
void suppress_group(const NmsParams& params, int64_t group) {
  const int64_t* order = params.order + params.starts[group];
  const int64_t count = params.starts[group + 1] - params.starts[group];
  const Grid<Number> grid = make_grid<Number>(params, order, count);
  const TiledBoxes<Number> tiled = sort_into_tiles(params, order, count, grid);
  const Number threshold = static_cast<Number>(params.threshold);
  const bool reaches_everywhere = !(threshold > static_cast<Number>(0.01));
  for (int64_t i = 0; i < count; ++i) {
    const bool stays = !tiled.boxes.dead[tiled.place[i]];
    params.keep[order[i]] = stays;
    if (!stays) continue;
    const Box<Number> box = read_box<Number>(params, order[i]);
    if (reaches_everywhere) {
      suppress(box, threshold, tiled.boxes, 0, count);
    } else {
      suppress_neighbours(box, threshold, grid, tiled);
    }
  }
}

inline void nms(const NmsParams& params, int64_t group_begin, int64_t group_end) {
  for (int64_t group = group_begin; group < group_end; ++group) {
    if (params.dtype == Dtype::kFloat64) {
      suppress_group<double>(params, group);
    } else {
      suppress_group<float>(params, group);
    }
  }
}

}  // namespace svm::cpu::SVM_ISA
