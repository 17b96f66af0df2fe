// ldmatrix: four matrices of 8 x 8 numbers of 16 bits, as mma takes them. All 32 lanes take part.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace svm::cuda::ptx {

// Lane l names the row l % 8 of matrix l / 8, 16 bytes at a shared address aligned to 16. It receives of every matrix
// the numbers 2 (l % 4) and 2 (l % 4) + 1 of row l / 4.
// NOTE: conflict-free where the eight rows of a matrix lie in different sixteenths of 128 bytes.
__device__ inline void load_matrices(uint32_t (&out)[4], uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(row));
}

// The same of the transposed matrices: of column l / 4 the numbers in rows 2 (l % 4) and 2 (l % 4) + 1.
__device__ inline void load_transposed(uint32_t (&out)[4], uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(row));
}

}  // namespace svm::cuda::ptx
