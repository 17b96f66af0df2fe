#include "cuda/attend_launch.h"
#include "cuda/clip_attend.h"

namespace svm::cuda {

const char* clip_attend(const ClipParams& params, Target target) {
  const int64_t side = params.shape.side;
  AttendArgs args = args_of(params.shape, params.padding, params.scale);
  args.q = frames_of(params.q, side);
  args.k = frames_of(params.k, side);
  args.v = frames_of(params.v, side);
  args.out = frames_of(params.out, side);
  args.out_column = frames_of(params.out_column, side);
  args.lse = static_cast<float*>(params.lse);
  return attend(args, target);
}

const char* clip_attend_backward(const ClipBackwardParams& params, Target target) {
  const int64_t side = params.shape.side;
  AttendArgs args = args_of(params.shape, params.padding, params.scale);
  args.q = frames_of(params.q, side);
  args.k = frames_of(params.k, side);
  args.v = frames_of(params.v, side);
  args.dout = frames_of(params.dout, side);
  args.out_saved = frames_of(params.out, side);
  args.out_column = frames_of(params.out_column, side);
  args.out = frames_of(params.dq, side);
  args.lse = static_cast<float*>(const_cast<void*>(params.lse));
  return attend_backward(args, target);
}

}  // namespace svm::cuda
