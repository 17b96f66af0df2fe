// The kernels for AVX2 with FMA.
#define SVM_ISA avx2

#include "cpu/simd_avx2.h"
#include "cpu/table.h"

namespace svm::cpu {

const Kernels kAvx2 = avx2::make_table("avx2");

}  // namespace svm::cpu
