// The kernels for AVX-512 with the bf16 dot product.
#define SVM_ISA avx512_bf16

#include "cpu/simd_avx512.h"
#include "cpu/table.h"

namespace svm::cpu {

const Kernels kAvx512Bf16 = avx512_bf16::make_table("avx512_bf16");

}  // namespace svm::cpu
