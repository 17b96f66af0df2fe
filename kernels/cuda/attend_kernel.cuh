// Both axial softmax attentions in one pass over the keys, and the append that may come with it.
#pragma once

#include "cuda/attend_block.cuh"

namespace svm::cuda {

template <typename Element, typename Stored, int kDim, int kSide, bool kBothPlanes>
class Attend : public AttendBlock<Attend<Element, Stored, kDim, kSide, kBothPlanes>, Element, Stored, kDim, kSide,
                                  kBothPlanes, 1> {
  using Base = AttendBlock<Attend, Element, Stored, kDim, kSide, kBothPlanes, 1>;
  using Base::args_, Base::notes_, Base::warp_, Base::kRow;
  using Base::does, Base::has_column, Base::has_row, Base::row, Base::work, Base::now, Base::side, Base::line;

 public:
  using Base::Base;
  static auto kernel();

  // Brings the new frame and the merged one into the pool when their tiles are here. A line is read, changed and stored
  // by one warp alone, which had loaded it.
  __device__ void append(char* tile, const char* before) const {
    if constexpr (kBothPlanes && !Base::kCoded) {
      const Pass& pass = work().pass;
      if (pass.newest < 0 || now().tile < 0 || now().tile >= now().tiles) return;
      const Place place = place_in(args_, work(), now().tile);
      if (place.origin == Origin::kNew || place.origin == Origin::kMerged) {
        const int first = warp_ * line();
#pragma unroll 1
        for (int i = 0; i < 2; ++i) {
          char* tokens = tile + i * this->values();
          if (place.origin == Origin::kMerged) {
            merge_line<Element, kDim>(tokens, first, before + i * this->values(), first, side());
          }
          const FramesView& pool = args_.k;  // the values' is alike
          Element* line = static_cast<Element*>(i == 0 ? args_.k.data : args_.v.data) + work().k_line;
          store_line<Element, kDim>(tokens, first, line + place.frame * pool.stride_frame, pool.stride_column,
                                    work().real_columns, side());
        }
      }
      if (pass.merged >= 0 && now().tile == 1) __syncthreads();  // everybody reads the averages
    }
  }

  // Keeps the queries, for their stage is wanted again, and starts both planes.
  __device__ void begin(const char* tile) {
    keep(tile, this->queries(), this->query_bytes(), args_.negative ? 0x80008000u : 0u);
    if (args_.padding.k) read_pads<kDim>(args_.padding, work().head, notes_.pads);
    __syncthreads();
    if (does(0)) {
      queries_[0] = this->column_queries();
      start_plane(softmax_[0], queries_[0], this->padded(0));
    }
    if (does(1)) {
      queries_[kRow] = this->row_queries();
      start_plane(softmax_[kRow], queries_[kRow], this->padded(1));
    }
  }

  __device__ void take(const char* tile) {
    const uint32_t keys = ptx::shared_address(tile);
    const uint32_t values = keys + this->values();
    const uint32_t lines = this->lines_there();
    if (has_column() && lines != 0) {
      const KeyPlaces places = this->column_keys();
      softmax_[0].template take<Element>(queries_[0], keys + places.as_columns, values + places.as_rows, lines,
                                         args_.scale);
    }
    if (has_row() && (lines >> warp_ & 1) != 0) {
      const KeyPlaces places = this->row_keys();
      softmax_[kRow].template take<Element>(queries_[kRow], keys + places.as_columns, values + places.as_rows,
                                            this->columns_there(), args_.scale);
    }
  }

  // The results of an item, all of whose keys were taken.
  __device__ void finish(char* tile) {
    float* exchange = reinterpret_cast<float*>(tile);
    if (kBothPlanes && args_.direct) {
      finish_unit(exchange);
    } else {
      if (does(0)) share_column();
      if (does(1)) share_rows(exchange);
    }
  }

 private:
  // Starts one plane, with the virtual key if there is one.
  __device__ void start_plane(Softmax<kDim>& softmax, uint32_t queries, int padded) const {
    softmax.start();
    if (args_.padding.k && padded > 0) softmax.start_with(this->virtual_logit(queries, padded), notes_.pads[1]);
  }

  // A whole unit: column sums cross over to the warps that have the row sums.
  __device__ void finish_unit(float* exchange) {
    const int tokens = side() * side();
    float* lse = args_.lse == nullptr ? nullptr : args_.lse + work().unit * 2 * tokens;
    const Two column_lse = softmax_[0].finish();
    const Two row_lse = softmax_[kRow].finish();
    if (has_column()) {
      put_sums<kDim>(exchange, softmax_[0].sums, warp_, line(), work().real_rows);
      if (lse) share_lse(lse, column_lse, warp_, side(), work().real_rows, kLn2);
    }
    __syncthreads();
    if (args_.out_column.data) {
      store_tokens<Element, kDim>(args_.out_column, work(), exchange, side());
      __syncthreads();
    }
    if (has_row()) {
      add_sums<kDim>(exchange, softmax_[kRow].sums, warp_ * line(), 1, work().real_columns);
      if (lse) share_lse(lse + tokens, row_lse, warp_ * side(), 1, work().real_columns, kLn2);
    }
    __syncthreads();
    store_tokens<Element, kDim>(args_.out, work(), exchange, side());
    if (lse) store_lse_beyond(lse, work(), side());
    follow();
  }

  // The cursor follows the append; every warp has read it when it opened the item.
  __device__ void follow() const {
    AppendPlan plan;
    if (work().pass.newest < 0 || threadIdx.x != 0 || !plan_of(args_, work(), plan)) return;
    *cursor_of(args_, work()) = plan.after;
  }

  __device__ void share_column() {
    const int tokens = side() * side();
    const Two lse = softmax_[0].finish();
    if (!has_column()) return;
    const int64_t share = (work().unit * args_.splits + work().split) * tokens;
    share_sums<kDim>(args_.shares.column + share * kDim, softmax_[0].sums, warp_, side(), work().real_rows);
    share_lse(args_.shares.column_lse + share, lse, warp_, side(), work().real_rows, 1.f);
  }

  __device__ void share_rows(float* exchange) {
    Softmax<kDim>& softmax = softmax_[kRow];
    if (args_.group == 1) {
      const Two lse = softmax.finish();
      if (!has_row()) return;
      const int64_t first = work().unit * side() * side() + row() * side();
      share_sums<kDim>(args_.shares.row + first * kDim, softmax.sums, 0, 1, work().real_columns);
      share_lse(args_.shares.row_lse + first, lse, 0, 1, work().real_columns, 1.f);
      return;
    }
    if (has_row()) {
      put_sums<kDim>(exchange, softmax.sums, warp_ * line(), 1, work().real_columns);
      const Two weight = {sum_of_four(softmax.weight[0]), sum_of_four(softmax.weight[1])};
      share_lse(notes_.numbers[0] + warp_ * kKeys, {softmax.level[0], softmax.level[1]}, 0, 1, kKeys, 1.f);
      share_lse(notes_.numbers[1] + warp_ * kKeys, weight, 0, 1, kKeys, 1.f);
    }
    __syncthreads();
    join_rows(args_, work(), notes_, exchange, side());
  }

  uint32_t queries_[kRow + 1];  // where a lane reads them
  Softmax<kDim> softmax_[kRow + 1];
};

template <typename Element, typename Stored, int kDim, int kSide, bool kBothPlanes>
__global__ void __launch_bounds__(attend_threads(kSide), 1) attend_kernel(const __grid_constant__ AttendArgs args) {
  extern __shared__ __align__(kTileAlign) char dynamic_shared[];
  Attend<Element, Stored, kDim, kSide, kBothPlanes> attend(args, dynamic_shared);
  attend.run();
}

template <typename Element, typename Stored, int kDim, int kSide, bool kBothPlanes>
auto Attend<Element, Stored, kDim, kSide, kBothPlanes>::kernel() {
  return attend_kernel<Element, Stored, kDim, kSide, kBothPlanes>;
}

}  // namespace svm::cuda
