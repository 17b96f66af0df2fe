// One frame's queries over the frames in memory, on the GPU.
#pragma once

#include "cuda/launch.h"
#include "svm/params.h"

namespace svm::cuda {

// Both launch and return at once; nothing is read back, so they can be captured in a graph. fp32, bf16 and fp16, in any
// combination of the queries' type and the pool's: queries are rounded to a pool of 16 bits, whose tensor-core kernels
// compute in fp32 sums, and to bf16 for a pool of fp8 unless they are fp32. Need scratch. As in memory_append, values
// that make no sense are ignored: a stream id out of range and a broken cursor are an empty memory. The same call gives
// the same bits; few units are split between blocks, so that a unit's last bits depend on how many others come with it.
// Return nullptr, or CUDA's words for what kept the launch from starting.
const char* memory_attend(const AttendParams& params, Target target);
const char* memory_attend_backward(const AttendBackwardParams& params, Target target);

// The head dims that are not too wide even for the slow kernels.
constexpr int64_t kMostAttendDim = 512;

}  // namespace svm::cuda
