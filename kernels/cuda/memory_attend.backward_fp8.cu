#include "cuda/attend_backward_kernel.cuh"
#include "cuda/attend_run.cuh"

namespace svm::cuda {

template <>
cudaError_t attend_backward_on_tensor_cores<Fp8>(const AttendArgs& args, const Grid& grid) {
  return run_sizes<AttendBackward, __nv_bfloat16, Fp8>(args, grid);
}

}  // namespace svm::cuda
