// The gradient of both planes with respect to the queries, in one more pass over the keys.
//
// dS = P * (dP - delta), dq = scale * dS K: P from the logits and the log-sum-exp that the forward has left, dP the
// product of the gradient with the values, delta the product of the gradient with the plane's output. The products run
// as in the forward, with the gradients in place of the queries and the values in place of the keys for dP, and the
// keys in place of the values for dq.
#pragma once

#include "cuda/attend_block.cuh"

namespace svm::cuda {

// The deltas of a lane's queries g and g + 8, left in shared memory: registers are short. For a query that there is
// not, any number of the table, which only its own sums meet.
struct Deltas {
  const float* first;
  int step;

  __device__ float of(int i) const { return first[(lane_id() / 4 + 8 * i) * step]; }
};

// The gradient of 16 queries so far, for the queries g and g + 8 of a lane.
template <int kDim>
struct Gradient {
  float sums[kDim / 8][4];
  float lse[2];  // in powers of two; +inf where there was no key, which makes every probability 0

  template <typename Element>
  __device__ void take(uint32_t queries, uint32_t gradients, const KeyPlaces& keys, const KeyPlaces& values,
                       const Deltas& deltas, uint32_t there, float scale) {
    float logits[2][4], products[2][4];
    start_logits(logits, there);
#pragma unroll
    for (int i = 0; i < 4; ++i) products[0][i] = products[1][i] = -deltas.of(i / 2);
    multiply_keys<Element, kDim>(logits, queries, keys.as_columns);
    multiply_keys<Element, kDim>(products, gradients, values.as_columns);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        logits[half][i] = products[half][i] * ptx::exp2(fmaf(logits[half][i], scale, -lse[i / 2]));
      }
    }
    multiply_values<Element, kDim>(sums, logits, keys.as_rows);
  }

  __device__ void start() {
#pragma unroll
    for (auto& fragment : sums) fragment[0] = fragment[1] = fragment[2] = fragment[3] = 0.f;
  }

  // Starts with one key of this logit and of this product of its value with the gradient.
  __device__ void start_with(Two logit, Two product, const Deltas& deltas, const float* key) {
    const float factor[2] = {ptx::exp2(logit.low - lse[0]) * (product.low - deltas.of(0)),
                             ptx::exp2(logit.high - lse[1]) * (product.high - deltas.of(1))};
    const int dim = lane_id() % 4 * 2;
#pragma unroll
    for (int i = 0; i < kDim / 8; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) sums[i][j] = factor[j / 2] * key[8 * i + dim + j % 2];
    }
  }

  __device__ void multiply(float factor) {
#pragma unroll
    for (auto& fragment : sums) {
#pragma unroll
      for (float& sum : fragment) sum *= factor;
    }
  }
};

template <typename Element, typename Stored, int kDim, int kSide, bool kBothPlanes>
class AttendBackward : public AttendBlock<AttendBackward<Element, Stored, kDim, kSide, kBothPlanes>, Element, Stored,
                                          kDim, kSide, kBothPlanes, 2> {
  using Base = AttendBlock<AttendBackward, Element, Stored, kDim, kSide, kBothPlanes, 2>;
  using Base::args_, Base::notes_, Base::warp_, Base::kRow;
  using Base::does, Base::has_column, Base::has_row, Base::row, Base::work, Base::now, Base::side, Base::line;

 public:
  using Base::Base;
  static auto kernel();

  __device__ void append(char*, const char*) const {}

  // First the queries, then their gradients.
  __device__ void begin(const char* tile) {
    if (now().tile == -2) {
      keep(tile, this->queries(), this->query_bytes(), args_.negative ? 0x80008000u : 0u);
      return;
    }
    keep(tile, this->queries(1), this->query_bytes(), 0u);
    if (args_.padding.k) read_pads<kDim>(args_.padding, work().head, notes_.pads);
    __syncthreads();
    find_deltas();
    __syncthreads();
    if (does(0)) read_saved(0, gradient_[0]);
    if (does(1)) read_saved(1, gradient_[kRow]);
    if (does(0)) start_plane(0, gradient_[0], column_deltas(), queries_ = this->column_queries());
    if (does(1)) {
      const uint32_t queries = this->row_queries();
      if (!kBothPlanes) queries_ = queries;
      start_plane(1, gradient_[kRow], row_deltas(), queries);
    }
  }

  __device__ void take(const char* tile) {
    const uint32_t start = ptx::shared_address(tile);
    const uint32_t lines = this->lines_there();
    const auto take = [&](Gradient<kDim>& gradient, uint32_t queries, KeyPlaces keys, const Deltas& deltas,
                          uint32_t there) {
      keys = {keys.as_columns + start, keys.as_rows + start};
      const uint32_t values = static_cast<uint32_t>(this->values());
      gradient.template take<Element>(queries, queries + this->query_bytes(), keys, {keys.as_columns + values, 0},
                                      deltas, there, args_.scale);
    };
    if (has_column() && lines != 0) take(gradient_[0], first_queries(), this->column_keys(), column_deltas(), lines);
    if (has_row() && (lines >> warp_ & 1) != 0) {
      take(gradient_[kRow], kBothPlanes ? this->row_queries() : first_queries(), this->row_keys(), row_deltas(),
           this->columns_there());
    }
  }

  __device__ void finish(char* tile) {
    float* exchange = reinterpret_cast<float*>(tile);
#pragma unroll
    for (Gradient<kDim>& gradient : gradient_) gradient.multiply(args_.gradient_scale);
    if (kBothPlanes && args_.direct) {
      if (has_column()) put_sums<kDim>(exchange, gradient_[0].sums, warp_, line(), work().real_rows);
      __syncthreads();
      if (has_row()) add_sums<kDim>(exchange, gradient_[kRow].sums, warp_ * line(), 1, work().real_columns);
      __syncthreads();
      store_tokens<Element, kDim>(args_.out, work(), exchange, side());
    } else {
      if (does(0)) share_column();
      if (does(1)) share_rows(exchange);
    }
  }

 private:
  // The deltas of all tokens, a warp a token: nothing of them stays in registers.
  __device__ void find_deltas() {
    const auto read = [&](const FramesView& view, int token_row, int token_column, int dim) {
      const int64_t offset = line_offset(view, work(), ptx::anew(work().batch), work().frame, token_row);
      return read_number(view.data, view.dtype, offset + token_column * view.stride_column + dim * view.stride_dim);
    };
#pragma unroll 1
    for (int token = ptx::anew(warp_); token < side() * side(); token += Base::kWarps) {
      const int token_row = token / side(), token_column = token % side();
      if (!work().in_picture(token_row, token_column)) continue;
      float of_column = 0.f, of_both = 0.f;
#pragma unroll 1
      for (int dim = ptx::anew(lane_id()); dim < kDim; dim += kWarp) {
        const char* gradients = this->queries(1) + TokenLayout<kDim>::place(token_row * line() + token_column, dim / 8);
        const float dout = to_float(reinterpret_cast<const Element*>(gradients)[dim % kChunkNumbers]);
        of_column += dout * read(args_.out_column, token_row, token_column, dim);
        of_both += dout * read(args_.out_saved, token_row, token_column, dim);
      }
#pragma unroll
      for (int step = kWarp / 2; step > 0; step /= 2) {
        of_column += __shfl_xor_sync(kAllLanes, of_column, step);
        of_both += __shfl_xor_sync(kAllLanes, of_both, step);
      }
      if (lane_id() != 0) continue;
      notes_.numbers[0][token] = of_column;
      notes_.numbers[1][token] = of_both - of_column;
    }
  }

  __device__ Deltas column_deltas() const { return {notes_.numbers[0] + ptx::anew(warp_), side()}; }
  __device__ Deltas row_deltas() const { return {notes_.numbers[1] + max(row(), 0) * side(), 1}; }

  // What the forward has left of this warp's queries of a plane.
  __device__ void read_saved(int plane, Gradient<kDim>& gradient) const {
    const float* saved = args_.lse + (work().unit * 2 + plane) * side() * side();
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int query = lane_id() / 4 + 8 * i;
      const int token_row = plane == 0 ? query : row(), token_column = plane == 0 ? warp_ : query;
      const bool there = token_row >= 0 && work().in_picture(token_row, token_column);
      const int token = there ? token_row * side() + token_column : 0;
      const float lse = there ? saved[token] * kLog2e : kNone;
      gradient.lse[i] = lse == kNone ? -kNone : lse;
    }
  }

  // Starts the sums of a plane, with the virtual key if there is one.
  __device__ void start_plane(int plane, Gradient<kDim>& gradient, const Deltas& deltas, uint32_t queries) const {
    gradient.start();
    const int padded = this->padded(plane);
    if (args_.padding.k == nullptr || padded == 0) return;
    const Two product = products_with<Element, kDim>(queries + this->query_bytes(), notes_.pads[1]);
    gradient.start_with(this->virtual_logit(queries, padded), product, deltas, notes_.pads[0]);
  }

  __device__ void share_column() {
    if (!has_column()) return;
    const int64_t share = (work().unit * args_.splits + work().split) * side() * side();
    share_sums<kDim>(args_.shares.column + share * kDim, gradient_[0].sums, warp_, side(), work().real_rows);
  }

  __device__ void share_rows(float* exchange) {
    const Gradient<kDim>& gradient = gradient_[kRow];
    if (args_.group == 1) {
      if (!has_row()) return;
      const int64_t first = work().unit * side() * side() + row() * side();
      share_sums<kDim>(args_.shares.row + first * kDim, gradient.sums, 0, 1, work().real_columns);
      return;
    }
    if (has_row()) put_sums<kDim>(exchange, gradient.sums, warp_ * line(), 1, work().real_columns);
    __syncthreads();
    add_rows<kDim>(args_, work(), exchange, side());
  }

  // Where a lane reads those of the column plane, or of the only plane; their gradients lie a tile further. The row
  // plane's are named anew each time, for want of a register; with codes to decode, both.
  uint32_t queries_;

  __device__ uint32_t first_queries() const {
    if constexpr (Base::kCoded) {
      return does(0) ? this->column_queries() : this->row_queries();
    } else {
      return queries_;
    }
  }

  Gradient<kDim> gradient_[kRow + 1];
};

template <typename Element, typename Stored, int kDim, int kSide, bool kBothPlanes>
__global__ void __launch_bounds__(attend_threads(kSide), 1)
    attend_backward_kernel(const __grid_constant__ AttendArgs args) {
  extern __shared__ __align__(kTileAlign) char dynamic_shared[];
  AttendBackward<Element, Stored, kDim, kSide, kBothPlanes> attend(args, dynamic_shared);
  attend.run();
}

template <typename Element, typename Stored, int kDim, int kSide, bool kBothPlanes>
auto AttendBackward<Element, Stored, kDim, kSide, kBothPlanes>::kernel() {
  return attend_backward_kernel<Element, Stored, kDim, kSide, kBothPlanes>;
}

}  // namespace svm::cuda
