// Which of overlapping boxes stay, on the GPU.
#pragma once

#include "cuda/launch.h"
#include "svm/params.h"

namespace svm::cuda {

// As NmsParams, with the boxes in any order: the GPU sorts them itself.
struct NmsArgs {
  const void* boxes;   // [count, 4] x1 y1 x2 y2, contiguous
  const void* scores;  // [count]
  const int64_t* groups;
  Dtype dtype, score_dtype;  // fp32 or fp64 each
  int64_t score_stride, group_stride;
  int64_t count;
  double threshold;
  bool* keep;      // [count], by box index
  int32_t* order;  // [count] scratch: boxes by group, best score first, NaN last, then first come first
};

// Launches and returns at once; needs scratch, `order` may be nullptr. Returns nullptr, or CUDA's words for what kept
// the launch from starting.
const char* nms(const NmsArgs& args, Target target);

}  // namespace svm::cuda
