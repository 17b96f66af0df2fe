#include "cuda/attend_any.cuh"
#include "cuda/attend_launch.h"
#include "cuda/memory_attend.h"

namespace svm::cuda {
namespace {

template <typename Memory, bool kBackward>
auto kernel_for(int64_t dim) {
  if constexpr (kBackward) {
    return dim <= 128 ? attend_any_backward_kernel<Memory, 4>
                      : attend_any_backward_kernel<Memory, kMostAttendDim / kWarp>;
  } else {
    return dim <= 128 ? attend_any_kernel<Memory, 4> : attend_any_kernel<Memory, kMostAttendDim / kWarp>;
  }
}

template <bool kBackward>
cudaError_t launch(AttendArgs args, Target target) {
  args.splits = args.planes = 1;
  args.rows = args.side;
  args.items = static_cast<uint32_t>(int64_t{args.batch} * args.clip_frames * args.windows * args.heads);
  const int64_t threads = int64_t{args.items} * args.side * args.side * kWarp;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>((threads + any_threads() - 1) / any_threads()));
  config.blockDim = dim3(any_threads());
  config.stream = static_cast<cudaStream_t>(target.stream);
  switch (args.k.dtype) {
    case Dtype::kFloat32:
      return cudaLaunchKernelEx(&config, kernel_for<float, kBackward>(args.dim), args);
    case Dtype::kBFloat16:
      return cudaLaunchKernelEx(&config, kernel_for<__nv_bfloat16, kBackward>(args.dim), args);
    case Dtype::kFloat16:
      return cudaLaunchKernelEx(&config, kernel_for<__half, kBackward>(args.dim), args);
    case Dtype::kFloat8:
      return cudaLaunchKernelEx(&config, kernel_for<Fp8, kBackward>(args.dim), args);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

cudaError_t attend_anyhow(const AttendArgs& args, Target target) { return launch<false>(args, target); }
cudaError_t attend_backward_anyhow(const AttendArgs& args, Target target) { return launch<true>(args, target); }

}  // namespace svm::cuda
