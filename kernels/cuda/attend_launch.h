// From parameters to launches: chooses the kernel, cuts the work, makes room for shares.
#pragma once

#include <cuda_runtime.h>

#include "cuda/attend_args.h"
#include "cuda/launch.h"

namespace svm::cuda {

// How the launch of a persistent kernel goes.
struct Grid {
  unsigned blocks;
  int64_t shared_bytes;
  void* stream;
};

// With tensor cores: keys of this type, of 16 bits or Fp8, the sizes of attend_has_kernel; the work is cut.
template <typename Element>
cudaError_t attend_on_tensor_cores(const AttendArgs& args, const Grid& grid);
template <typename Element>
cudaError_t attend_backward_on_tensor_cores(const AttendArgs& args, const Grid& grid);

// Adds the shares of several blocks; in a backward they are plain sums.
cudaError_t join_shares(const AttendArgs& args, bool backward, Target target);

// Any sizes and types, slowly. Do not append.
cudaError_t attend_anyhow(const AttendArgs& args, Target target);
cudaError_t attend_backward_anyhow(const AttendArgs& args, Target target);

// The best of these. An append that the kernel does not do itself is launched before it, by `append`.
struct Append {
  const char* (*run)(const AppendParams& params, Target target) = nullptr;
  const AppendParams* params = nullptr;
};
const char* attend(AttendArgs args, Target target, Append append = {});
const char* attend_backward(AttendArgs args, Target target);

// Parts of AttendArgs.
FramesView frames_of(const TokenView& view, int64_t windows, int64_t side);
FramesView frames_of(const ClipView& view, int64_t side);
AttendArgs args_of(const PoolView& pool, const int64_t* streams, int64_t batch, const Padding& padding, double scale);
AttendArgs args_of(const ClipShape& shape, const Padding& padding, double scale);
AttendArgs args_of(const AttendParams& params);

}  // namespace svm::cuda
