// Append and attend of one frame on the GPU, in one launch where tensor cores do it; in two with a pool of fp8, whose
// exponents come from all of a frame.
#pragma once

#include "cuda/launch.h"
#include "svm/params.h"

namespace svm::cuda {

// As memory_append and memory_attend; needs scratch.
const char* stream_step(const StepParams& params, Target target);

}  // namespace svm::cuda
