// What a forward and a backward have in common: a block's walk through its tiles.
//
// Every tile is read once from global memory and serves both planes. Warp w has the queries of column w, and of the row
// that line w of every tile belongs to: over a tile it takes, for its column, the keys of that column in all lines, and
// for its row the keys of its own line. The sums of both stay in registers until the item ends.
#pragma once

#include <cuda_runtime.h>

#include <type_traits>

#include "cuda/exchange.h"
#include "cuda/feed.h"
#include "cuda/heuristics.h"
#include "cuda/plane.h"

namespace svm::cuda {

// Derived has
//   begin(tile)   takes a tile of queries, kLead of them an item; at the last, starts its sums
//   take(tile)    takes a tile of keys and values
//   finish(tile)  hands over the results; the tile is room to exchange them
//   append(tile, before)   changes a tile and the pool, before anybody takes it
//
// Stored is Element, or Fp8: then stages hold codes, and keys and values are taken from a tile beside them. In a
// forward there may be two of those, so that a warp can fill one while others still read the other.
template <typename Derived, typename Element, typename Stored, int kDim, int kSide, bool kBothPlanes, int kLead>
class AttendBlock {
 public:
  static constexpr int kWarps = attend_warps(kSide);
  static constexpr int kBlockSize = attend_threads(kSide);
  static constexpr bool kCoded = std::is_same_v<Stored, Fp8>;
  static constexpr bool kTurns = kCoded && kLead == 1;  // a backward has no register left to tell two tiles apart
  using Notes = AttendNotes<kWarps, kDim>;

  __device__ AttendBlock(const AttendArgs& args, char* shared)
      : args_(args),
        notes_(*reinterpret_cast<Notes*>(shared)),
        tiles_(shared + sizeof(Notes)),
        warp_(static_cast<int>(threadIdx.x) / kWarp) {}

  // Persistent: block b does the items b, b + blocks, ...
  __device__ void run() {
    Derived& derived = static_cast<Derived&>(*this);
    Feed& feed = notes_.feeds[warp_];
    feed.open();
    // The stage under work, below 0 while the ring fills for the first time.
    for (int now = 1 - args_.stages;;) {
      char* const free = stage((now > 0 ? now : now + args_.stages) - 1);  // of the tile before
      if (now >= 0) {
        if (!feed.advance<false>(args_, feed.now, kLead)) return;
        wait_for_stage();
        if constexpr (kCoded) decode(stage(now));
        __syncthreads();  // this tile has landed for everybody, and everybody is done with the one before
        derived.append(stage(now), free);
      }
      feed_next<Element, Stored, kDim, kLead>(args_, feed, free, side());
      if (now >= 0) {
        if (feed.now.tile < 0) {
          derived.begin(stage(now));
        } else if (feed.now.tile < feed.now.tiles) {
          derived.take(numbers(now));
        } else {
          derived.finish(numbers(now));
        }
      }
      if (++now == args_.stages) now = 0;
    }
  }

 protected:
  static constexpr int kRow = kBothPlanes ? 1 : 0;  // the row plane's index among the planes that a block does

  // The tile under work.
  __device__ const Position& now() const { return notes_.feeds[warp_].now; }
  __device__ const Work& work() const { return notes_.feeds[warp_].work(); }
  __device__ int side() const { return kSide == 0 ? args_.side : kSide; }
  __device__ int line() const { return pitch(side()); }  // places of one
  __device__ int values() const { return static_cast<int>(tile_bytes(args_.lines, side(), kDim)); }
  __device__ char* stage(int index) const { return tiles_ + index * args_.stage_bytes; }
  // Tiles that are kept while an item lasts.
  __device__ int query_bytes() const { return static_cast<int>(tile_bytes(side(), side(), kDim)); }
  __device__ char* queries(int index = 0) const { return stage(args_.stages) + index * query_bytes(); }
  // Keys and values of the tile under work, or the room of one, as the planes read them.
  __device__ char* numbers(int now) const {
    if constexpr (kCoded) {
      const int turn = kTurns ? notes_.feeds[warp_].turn : 0;
      return tiles_ +
             (ptx::anew(args_.stages) * args_.stage_bytes + kLead * query_bytes() + turn * args_.decoded_bytes);
    } else {
      return stage(now);
    }
  }

  __device__ bool does(int plane) const { return kBothPlanes || work().plane == plane; }
  // The row whose keys this warp's line holds.
  __device__ int row() const { return work().row; }
  __device__ bool has_row() const { return does(1) && row() >= 0; }
  __device__ bool has_column() const { return does(0) && warp_ < work().real_columns; }

  // Where a lane reads its queries, in the first of the kept tiles.
  __device__ uint32_t column_queries() const {
    const int last = side() - 1;
    return ptx::shared_address(queries()) + key_places<kDim>(min(warp_, last), line(), last).as_rows;
  }
  __device__ uint32_t row_queries() const {
    const int last = side() - 1;
    return ptx::shared_address(queries()) + key_places<kDim>(max(row(), 0) * line(), 1, last).as_rows;
  }
  // Where it reads its keys, less the tile's start.
  __device__ KeyPlaces column_keys() const { return key_places<kDim>(warp_, line(), args_.lines - 1); }
  __device__ KeyPlaces row_keys() const { return key_places<kDim>(ptx::anew(warp_) * line(), 1, side() - 1); }

  // Padded keys of a plane's line in all frames, where this warp counts them.
  __device__ int padded(int plane) const {
    const bool counts = plane == 0 ? work().split == 0 : work().place == 0;
    const int lines = side() - (plane == 0 ? work().real_rows : work().real_columns);
    return counts ? lines * work().pass.frames : 0;
  }

  // The logit of the virtual key that `padded` keys make.
  __device__ Two virtual_logit(uint32_t queries, int padded) const {
    const Two product = products_with<Element, kDim>(queries, notes_.pads[0]);
    const float count = log2f(static_cast<float>(padded));
    return {product.low * args_.scale + count, product.high * args_.scale + count};
  }

  // Which lines of this tile hold keys, a bit a line.
  __device__ uint32_t lines_there() const {
    const Work& work = this->work();
    if (args_.group == 1) {
      const bool there = is_attended(place_of(work.pass, now().tile, 1));
      return there ? (1u << (work.row_end - work.row_begin)) - 1 : 0;
    }
    const int lane = lane_id();
    const Place place = place_of(work.pass, now().tile * args_.group + lane % args_.group, args_.group);
    const bool there = lane < args_.lines && work.row_begin + lane / args_.group < work.row_end;
    return __ballot_sync(kAllLanes, there && is_attended(place));
  }
  __device__ uint32_t columns_there() const { return (1u << work().real_columns) - 1; }

  const AttendArgs& args_;
  Notes& notes_;
  char* tiles_;
  int warp_;

 private:
  // Makes numbers of this warp's line. Where there is one tile of numbers everybody must be done with it.
  __device__ void decode(const char* codes) {
    __syncwarp();  // what other lanes have copied is here
    if (!kTurns || args_.decoded_bytes == 0) __syncthreads();
    if (now().tile < 0 || now().tile >= now().tiles) return;
    decode_codes<kDim>(args_, codes, numbers(0), side());
  }

  // The oldest of this thread's groups of copies has landed: one is committed a tile, and stages - 1 are ahead.
  __device__ void wait_for_stage() const {
    if (args_.stages == 4) {
      ptx::wait_copies<2>();
    } else if (args_.stages == 3) {
      ptx::wait_copies<1>();
    } else {
      ptx::wait_copies<0>();
    }
  }
};

}  // namespace svm::cuda
