// Plays kernels/cuda/ptx/ldmatrix.h, and counts bank conflicts.
#pragma once

#include <cuda_runtime.h>

#include "cuda/ptx/shared.h"

namespace svm::cuda::ptx {

inline uint64_t matrices_loaded = 0, matrix_passes = 0;  // equal where nothing conflicts

inline void count_passes(const fibers::Exchange& e, int matrix) {
  int passes = 1;
  for (int group = 0; group < 8; ++group) {
    int different = 0;
    for (int i = 0; i < 8; ++i) {
      const uint32_t address = e.in[8 * matrix + i][0];
      bool first = address / 16 % 8 == static_cast<uint32_t>(group);
      for (int j = 0; j < i; ++j) first = first && e.in[8 * matrix + j][0] != address;
      different += first;
    }
    passes = std::max(passes, different);
  }
  ++matrices_loaded;
  matrix_passes += passes;
}

template <bool kTransposed>
void exchange_matrices(fibers::Exchange& e) {
  for (int matrix = 0; matrix < 4; ++matrix) {
    count_passes(e, matrix);
    for (int lane = 0; lane < 32; ++lane) {
      uint16_t pair[2];
      for (int i = 0; i < 2; ++i) {
        const int major = kTransposed ? 2 * (lane % 4) + i : lane / 4;
        const int minor = kTransposed ? lane / 4 : 2 * (lane % 4) + i;
        std::memcpy(&pair[i], device::shared + e.in[8 * matrix + major][0] + 2 * minor, 2);
      }
      std::memcpy(&e.out[lane][matrix], pair, 4);
    }
  }
}

inline void load_matrices(uint32_t (&out)[4], uint32_t row) {
  shared_pointer(row);
  std::memcpy(out, fibers::meet("ldmatrix", &row, 1, exchange_matrices<false>), 16);
}

inline void load_transposed(uint32_t (&out)[4], uint32_t row) {
  shared_pointer(row);
  std::memcpy(out, fibers::meet("ldmatrix.trans", &row, 1, exchange_matrices<true>), 16);
}

}  // namespace svm::cuda::ptx
