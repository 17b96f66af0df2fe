// All frames of a clip at once, on the GPU.
#pragma once

#include "cuda/launch.h"
#include "svm/params.h"

namespace svm::cuda {

// As memory_attend; need scratch.
const char* clip_attend(const ClipParams& params, Target target);
const char* clip_attend_backward(const ClipBackwardParams& params, Target target);

}  // namespace svm::cuda
