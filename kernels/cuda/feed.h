// The order of tiles that a block works through, and each warp's part in loading them ahead of time.
//
// Every item is a run of tiles: its queries (a backward: and their gradients), its keys and values, and one that is
// never loaded, whose room serves to exchange the results. Items follow each other without a gap: the ring of stages
// fills with the next item's tiles while this one ends. See RACES.md for the drawing.
#pragma once

#include <cuda_runtime.h>

#include <type_traits>

#include "cuda/codes.h"
#include "cuda/lines.h"
#include "cuda/work.h"

namespace svm::cuda {

// Where a warp stands in that order.
struct Position {
  uint32_t item;
  uint32_t count;  // items before this one
  int32_t tile;    // from -lead, the first tile of queries, to `tiles`, the one that is not loaded
  int32_t tiles;   // of keys
};

// One warp's view of it: what it loads next and what it works on, some tiles apart. In shared memory, for it is looked
// at once a tile and registers are short; only lane 0 writes.
struct Feed {
  static constexpr int kAhead =
      4;  // items under way: an item has two tiles at least, and three of them are ahead at most

  Position next, now;
  int32_t turn;  // of the tile under work: 0, 1, 0, ...
  Work works[kAhead];

  __device__ const Work& next_work() const { return works[next.count % kAhead]; }
  __device__ const Work& work() const { return works[now.count % kAhead]; }

  // Before the first tile of this block's first item.
  __device__ void open() {
    if (threadIdx.x % kWarp != 0) return;
    next = now = {blockIdx.x - gridDim.x, ~0u, 0, 0};
    turn = 0;
  }

  // All lanes of the warp: to the next tile; false where nothing is left. Who loads reads what an item is, for both.
  template <bool kLoads>
  __device__ bool advance(const AttendArgs& args, Position& at, int lead) {
    __syncwarp();  // everybody has read what changes now
    if (threadIdx.x % kWarp == 0) {
      if constexpr (!kLoads) turn ^= 1;
      if (at.tile < at.tiles) {
        ++at.tile;
      } else if (at.count + 1 == 0 || at.item < args.items) {
        at.item += gridDim.x;
        ++at.count;
        if (at.item < args.items) {
          Work& work = works[at.count % kAhead];
          if constexpr (kLoads) {
            work = work_of(args, at.item);
            find_line(args, work, static_cast<int>(threadIdx.x) / kWarp);
          }
          at.tile = -lead;
          at.tiles = tiles(work.pass, args.group);
        }
      }
    }
    __syncwarp();
    return at.item < args.items;
  }
};

// What a warp's line of a tile of keys holds.
__device__ inline Place place_in(const AttendArgs& args, const Work& work, int tile) {
  return work.row < 0 ? Place{Origin::kNone, 0} : place_of(work.pass, tile * args.group + work.place, args.group);
}

// A line of `view`; none of it where it does not exist.
__device__ inline Line line_of(const FramesView& view, const Work& work, int64_t offset, bool exists) {
  return {view.data,           view.dtype,         view.whole,     exists ? work.real_columns : 0,
          exists ? offset : 0, view.stride_column, view.stride_dim};
}

template <typename Element, int kDim, int kLead>
__device__ void load_queries(const AttendArgs& args, const Work& work, int tile, char* stage, int side) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  if (warp >= side) return;
  const FramesView& view = kLead == 2 && tile == -1 ? args.dout : args.q;
  const int64_t offset = line_offset(view, work, work.batch, work.frame, warp);
  load_line<Element, kDim>(stage, warp * pitch(side), line_of(view, work, offset, warp < work.real_rows), side);
}

// A line of any kind; of the new frame, say.
template <typename Element, int kDim>
__device__ void load_key_line(const AttendArgs& args, const Work& work, Place place, int tensor, char* tile, int side) {
  const bool is_new = place.origin == Origin::kNew, exists = place.origin != Origin::kNone;
  const FramesView& view = tensor == 0 ? (is_new ? args.k_new : args.k) : (is_new ? args.v_new : args.v);
  const int64_t offset = is_new ? line_offset(view, work, work.batch, 0, work.row)
                                : (tensor == 0 ? work.k_line : work.v_line) + place.frame * view.stride_frame;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  load_line<Element, kDim>(tile, warp * pitch(side), line_of(view, work, offset, exists), side);
}

template <typename Element, int kDim>
__device__ void load_keys(const AttendArgs& args, const Work& work, int tile, char* stage, int side) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  if (warp >= args.lines) return;
  const Place place = place_in(args, work, tile);
  const int values = static_cast<int>(tile_bytes(args.lines, side, kDim));
  if (place.origin != Origin::kNew && args.k.whole && args.v.whole) {
    const int columns = place.origin == Origin::kNone ? 0 : work.real_columns;
    const uint32_t keys = ptx::shared_address(stage);
    const auto copy = [&](const FramesView& view, int64_t line, uint32_t target) {
      const Element* tokens = static_cast<const Element*>(view.data) + line + place.frame * view.stride_frame;
      copy_line<Element, kDim>(target, warp * pitch(side), tokens, view.stride_column, columns, side);
    };
    copy(args.k, work.k_line, keys);
    copy(args.v, work.v_line, keys + values);
  } else {
#pragma unroll 1
    for (int tensor = 0; tensor < 2; ++tensor) {
      load_key_line<Element, kDim>(args, work, place, tensor, stage + tensor * values, side);
    }
  }
}

// The same of a pool of fp8.
template <int kDim>
__device__ void load_codes(const AttendArgs& args, const Work& work, int tile, char* stage, int side) {
  if (static_cast<int>(threadIdx.x) / kWarp >= args.lines) return;
  const Place place = place_in(args, work, tile);
  copy_codes<kDim>(args, work, place.frame, place.origin != Origin::kNone, stage, side);
}

// Loads this warp's lines of the next tile. Every thread calls it once a tile, with work left or not, so that the
// groups of copies stay in step.
template <typename Element, typename Stored, int kDim, int kLead>
__device__ void feed_next(const AttendArgs& args, Feed& feed, char* stage, int side) {
  if (feed.advance<true>(args, feed.next, kLead)) {
    if (feed.next.tile < 0) {
      load_queries<Element, kDim, kLead>(args, feed.next_work(), feed.next.tile, stage, side);
    } else if (feed.next.tile < feed.next.tiles) {
      if constexpr (std::is_same_v<Stored, Fp8>) {
        load_codes<kDim>(args, feed.next_work(), feed.next.tile, stage, side);
      } else {
        load_keys<Element, kDim>(args, feed.next_work(), feed.next.tile, stage, side);
      }
    }
  }
  ptx::commit_copies();
}

}  // namespace svm::cuda
