#include "cuda/attend_kernel.cuh"
#include "cuda/attend_run.cuh"

namespace svm::cuda {

template <>
cudaError_t attend_on_tensor_cores<Fp8>(const AttendArgs& args, const Grid& grid) {
  return run_sizes<Attend, __nv_bfloat16, Fp8>(args, grid);
}

}  // namespace svm::cuda
