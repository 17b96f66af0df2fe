// The kernels for AVX-512 (F, BW, VL, DQ).
#define SVM_ISA avx512

#include "cpu/simd_avx512.h"
#include "cpu/table.h"

namespace svm::cpu {

const Kernels kAvx512 = avx512::make_table("avx512");

}  // namespace svm::cpu
