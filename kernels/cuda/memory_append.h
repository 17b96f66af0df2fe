// One frame's K and V of the given streams into their ring slots, on the GPU.
#pragma once

#include "cuda/launch.h"
#include "svm/params.h"

namespace svm::cuda {

// Launches and returns at once; nothing is read back, so it can be captured in a graph. fp32, bf16 and fp16, in any
// combination of the frame's type and the pool's, which may be fp8 too. Nobody can check values that lie on the GPU: a
// stream id out of range, a step older than the stream's newest and a cursor that no append has left are ignored, each
// unit for itself. Returns nullptr, or CUDA's words for what kept the launch from starting.
const char* memory_append(const AppendParams& params, Target target);

}  // namespace svm::cuda
