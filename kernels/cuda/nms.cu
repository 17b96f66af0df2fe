// Greedy suppression, group by group, best score first. Two launches: every box finds its place in the order, then one
// block goes through each group, 64 boxes at a time: a table of bits says which of them overlap, one thread walks down
// that table, and all threads strike from the rest of the group what the survivors overlap.
#include <cuda_runtime.h>

#include "cuda/heuristics.h"
#include "cuda/nms.h"
#include "cuda/plane.h"

namespace svm::cuda {
namespace {

constexpr int kBunch = 64;  // boxes at a time: the bits of a word

__device__ double score_of(const NmsArgs& args, int64_t i) {
  const int64_t at = i * args.score_stride;
  return args.score_dtype == Dtype::kFloat64 ? static_cast<const double*>(args.scores)[at]
                                             : static_cast<const float*>(args.scores)[at];
}

__device__ int64_t group_of(const NmsArgs& args, int64_t i) { return args.groups[i * args.group_stride]; }

// One order for one input.
__device__ bool precedes(int64_t group_a, double a, int64_t i, int64_t group_b, double b, int64_t j) {
  if (group_a != group_b) return group_a < group_b;
  if (a > b) return true;
  if (a < b) return false;
  const bool a_is_nan = a != a, b_is_nan = b != b;
  return a_is_nan != b_is_nan ? b_is_nan : i < j;
}

// A warp a box counts those before it.
__global__ void __launch_bounds__(nms_threads()) order_kernel(const __grid_constant__ NmsArgs args) {
  const int64_t box = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kWarp;
  if (box >= args.count) return;
  const int64_t group = group_of(args, box);
  const double score = score_of(args, box);
  int before = 0;
  for (int64_t i = lane_id(); i < args.count; i += kWarp) {
    before += precedes(group_of(args, i), score_of(args, i), i, group, score, box);
  }
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) before += __shfl_xor_sync(kAllLanes, before, step);
  if (lane_id() != 0) return;
  args.order[before] = static_cast<int32_t>(box);
  args.keep[box] = true;
}

template <typename Number>
struct Box {
  Number x1, y1, x2, y2, area;
};

template <typename Number>
__device__ Box<Number> read_box(const NmsArgs& args, int64_t index) {
  const Number* corner = static_cast<const Number*>(args.boxes) + 4 * index;
  const Number width = corner[2] - corner[0], height = corner[3] - corner[1];
  const Number area = (width < 0 ? 0 : width) * (height < 0 ? 0 : height);  // NaN is not < 0
  return {corner[0], corner[1], corner[2], corner[3], area};
}

// IoU > threshold, multiplied out: exact for whole numbers, and there is nothing that could be contracted to a fused
// multiply-add. A NaN anywhere in a box makes its area NaN and the comparison false.
template <typename Number>
__device__ bool overlap(const Box<Number>& a, const Box<Number>& b, Number threshold) {
  const Number left = a.x1 > b.x1 ? a.x1 : b.x1;
  const Number top = a.y1 > b.y1 ? a.y1 : b.y1;
  const Number right = a.x2 < b.x2 ? a.x2 : b.x2;
  const Number bottom = a.y2 < b.y2 ? a.y2 : b.y2;
  const Number across = right - left, down = bottom - top;
  const Number width = across > 0 ? across : 0, height = down > 0 ? down : 0;
  return width * height * (1 + threshold) > threshold * (a.area + b.area);
}

template <typename Number>
struct Bunch {
  Box<Number> boxes[kBunch];
  uint64_t overlaps[kBunch];  // bit j of word i: box j comes after box i and overlaps it
  int32_t keep[kBunch];       // whether nobody has struck it so far; in the end, whether it stays
};

// The block whose 64 places a group begins in goes through the group.
template <typename Number>
class Suppression {
 public:
  __device__ Suppression(const NmsArgs& args, Bunch<Number>& bunch)
      : args_(args), bunch_(bunch), threshold_(static_cast<Number>(args.threshold)) {}

  __device__ void run() {
    const int64_t begin = int64_t{blockIdx.x} * kBunch;
    for (int64_t place = begin; place < begin + kBunch && place < args_.count; ++place) {
      if (place == 0 || group_at(place) != group_at(place - 1)) go_through(place);
    }
  }

 private:
  __device__ int64_t group_at(int64_t place) const { return group_of(args_, args_.order[place]); }
  __device__ bool is_in(int64_t place, int64_t group) const { return place < args_.count && group_at(place) == group; }

  __device__ void go_through(int64_t place) {
    const int64_t group = group_at(place);
    for (int number = kBunch; number == kBunch; place += kBunch) {
      const int mine = static_cast<int>(threadIdx.x);
      number = __syncthreads_count(mine < kBunch && is_in(place + mine, group));  // what was struck is seen
      if (mine < number) read(place, mine);
      __syncthreads();
      if (mine < number) compare(mine, number);
      __syncthreads();
      if (mine == 0) decide(number);
      __syncthreads();
      if (mine < number) args_.keep[args_.order[place + mine]] = bunch_.keep[mine] != 0;
      if (number == kBunch) strike(place + kBunch, group);
    }
  }

  __device__ void read(int64_t place, int mine) {
    const int32_t index = args_.order[place + mine];
    bunch_.boxes[mine] = read_box<Number>(args_, index);
    bunch_.keep[mine] = args_.keep[index];
  }

  // One box of the bunch with those behind it.
  __device__ void compare(int mine, int number) {
    uint64_t bits = 0;
    for (int i = mine + 1; i < number; ++i) {
      bits |= uint64_t{overlap(bunch_.boxes[mine], bunch_.boxes[i], threshold_)} << i;
    }
    bunch_.overlaps[mine] = bits;
  }

  // Who stays: the best, and whom nobody who stays overlaps.
  __device__ void decide(int number) {
    uint64_t struck = 0;
    for (int i = 0; i < number; ++i) {
      bunch_.keep[i] = bunch_.keep[i] != 0 && (struck >> i & 1) == 0;
      if (bunch_.keep[i] != 0) struck |= bunch_.overlaps[i];
    }
  }

  // The rest of the group, against those who stay.
  __device__ void strike(int64_t place, int64_t group) {
    for (place += threadIdx.x; is_in(place, group); place += blockDim.x) {
      const int32_t index = args_.order[place];
      if (!args_.keep[index]) continue;
      const Box<Number> box = read_box<Number>(args_, index);
      for (int i = 0; i < kBunch; ++i) {
        if (bunch_.keep[i] != 0 && overlap(bunch_.boxes[i], box, threshold_)) {
          args_.keep[index] = false;
          break;
        }
      }
    }
  }

  const NmsArgs& args_;
  Bunch<Number>& bunch_;
  Number threshold_;
};

}  // namespace

template <typename Number>
__global__ void __launch_bounds__(nms_threads()) suppress_kernel(const __grid_constant__ NmsArgs args) {
  extern __shared__ __align__(kTileAlign) char dynamic_shared[];
  Suppression<Number>(args, *reinterpret_cast<Bunch<Number>*>(dynamic_shared)).run();
}

namespace {

template <typename Number>
cudaError_t launch(const NmsArgs& args, Target target) {
  cudaLaunchConfig_t config = {};
  config.blockDim = dim3(nms_threads());
  config.stream = static_cast<cudaStream_t>(target.stream);
  config.gridDim = dim3(static_cast<unsigned>((args.count * kWarp + nms_threads() - 1) / nms_threads()));
  const cudaError_t error = cudaLaunchKernelEx(&config, order_kernel, args);
  if (error != cudaSuccess) return error;
  config.gridDim = dim3(static_cast<unsigned>((args.count + kBunch - 1) / kBunch));
  config.dynamicSmemBytes = sizeof(Bunch<Number>);
  return cudaLaunchKernelEx(&config, suppress_kernel<Number>, args);
}

}  // namespace

const char* nms(const NmsArgs& given, Target target) {
  if (given.count == 0) return nullptr;
  NmsArgs args = given;
  args.order = static_cast<int32_t*>(target.scratch(target.owner, args.count * static_cast<int64_t>(sizeof(int32_t))));
  cudaError_t error = args.order ? cudaSetDevice(target.device) : cudaErrorMemoryAllocation;
  if (error == cudaSuccess) {
    error = args.dtype == Dtype::kFloat64 ? launch<double>(args, target) : launch<float>(args, target);
  }
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace svm::cuda
