#include "cuda/attend_launch.h"
#include "cuda/memory_append.h"
#include "cuda/stream_step.h"

namespace svm::cuda {

const char* stream_step(const StepParams& params, Target target) {
  const PoolView& pool = params.attend.pool;
  AttendArgs args = args_of(params.attend);
  args.k_new = frames_of(params.append.k, pool.windows, pool.side);
  args.v_new = frames_of(params.append.v, pool.windows, pool.side);
  args.step = params.append.step;
  args.evict = params.append.evict;
  return attend(args, target, {memory_append, &params.append});
}

}  // namespace svm::cuda
