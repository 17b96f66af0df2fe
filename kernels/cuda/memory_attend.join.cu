// Adds what several blocks have left of one unit: the column plane over the keys of each split, and the row plane.
#include <algorithm>

#include "cuda/attend_any.cuh"
#include "cuda/attend_launch.h"

namespace svm::cuda {
namespace {

// How much each split counts: all splits' softmax weights brought to one level, 1 in sum.
struct Counts {
  float level = kNone, sum = 0.f;

  __device__ void find(const float* lse, int splits, int64_t stride) {
    for (int i = 0; i < splits; ++i) level = fmaxf(level, lse[i * stride]);
    if (level == kNone) return;
    for (int i = 0; i < splits; ++i) sum += exp2f(lse[i * stride] - level);
  }
  __device__ float of(float lse) const { return level == kNone ? 0.f : exp2f(lse - level) / sum; }
  __device__ float lse() const { return level == kNone ? kNone : level + log2f(sum); }
};

// A warp a token, lanes along the head dim.
template <bool kBackward>
__global__ void __launch_bounds__(join_threads()) join_kernel(const __grid_constant__ AttendArgs args) {
  const int64_t tokens = int64_t{args.side} * args.side;
  const int64_t warp = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kWarp;
  if (warp >= args.items / (args.splits * args.planes) * tokens) return;
  const int token = static_cast<int>(warp % tokens);
  Work work = place_of_item(args, static_cast<uint32_t>(warp / tokens) * args.splits * args.planes);
  const int row = token / args.side, column = token % args.side;
  const bool there = work.in_picture(row, column);

  const float* lse = args.shares.column_lse + work.unit * args.splits * tokens + token;  // one a split, tokens apart
  Counts counts;
  if (!kBackward && there) counts.find(lse, args.splits, tokens);
  for (int dim = lane_id(); dim < args.dim; dim += kWarp) {
    float of_column = 0.f, of_row = 0.f;
    for (int split = 0; there && split < args.splits; ++split) {
      const float part = args.shares.column[((work.unit * args.splits + split) * tokens + token) * args.dim + dim];
      of_column += kBackward ? part : counts.of(lse[split * tokens]) * part;
    }
    if (there) of_row = args.shares.row[(work.unit * tokens + token) * args.dim + dim];
    const auto store = [&](const FramesView& view, float x) {
      const int64_t offset = line_offset(view, work, work.batch, work.frame, row) + column * view.stride_column;
      write_number(view.data, view.dtype, offset + dim * view.stride_dim, x);
    };
    store(args.out, of_column + of_row);
    if (!kBackward && args.out_column.data) store(args.out_column, of_column);
  }
  if (kBackward || lane_id() != 0) return;
  if (args.lse) {
    float* both = args.lse + work.unit * 2 * tokens + token;
    both[0] = there ? counts.lse() * kLn2 : kNone;
    both[tokens] = there ? args.shares.row_lse[work.unit * tokens + token] * kLn2 : kNone;
  }
  AppendPlan plan;
  if (token == 0 && args.appends && find_source(args, work) && plan_of(args, work, plan)) {
    *cursor_of(args, work) = plan.after;  // nobody else of this launch reads it
  }
}

}  // namespace

cudaError_t join_shares(const AttendArgs& args, bool backward, Target target) {
  const int64_t units = args.items / static_cast<uint32_t>(args.splits * args.planes);
  const int64_t threads = units * args.side * args.side * kWarp;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>((threads + join_threads() - 1) / join_threads()));
  config.blockDim = dim3(join_threads());
  config.stream = static_cast<cudaStream_t>(target.stream);
  return cudaLaunchKernelEx(&config, backward ? join_kernel<true> : join_kernel<false>, args);
}

}  // namespace svm::cuda
