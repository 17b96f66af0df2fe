// Plays kernels/cuda/ptx/mma.h by the fragments that the PTX manual draws.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

namespace svm::cuda::ptx {

template <typename Element>
float half_of(uint32_t word, int which) {
  const uint16_t bits = static_cast<uint16_t>(word >> (16 * which));
  Element element;
  std::memcpy(&element, &bits, 2);
  return static_cast<float>(element);
}

template <typename Element>
void exchange_products(fibers::Exchange& e) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane / 4, in_group = lane % 4;
    for (int half = 0; half < 2; ++half) {
      for (int i = 0; i < 4; ++i) {
        a[group + i % 2 * 8][2 * in_group + half + i / 2 * 8] = half_of<Element>(e.in[lane][4 + i], half);
      }
      for (int i = 0; i < 2; ++i) b[2 * in_group + half + 8 * i][group] = half_of<Element>(e.in[lane][8 + i], half);
    }
  }
  float products[16][8] = {};
  for (int row = 0; row < 16; ++row) {
    for (int k = 0; k < 16; ++k) {
      for (int column = 0; column < 8; ++column) products[row][column] += a[row][k] * b[k][column];
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      float sum;
      std::memcpy(&sum, &e.in[lane][i], 4);
      sum += products[lane / 4 + i / 2 * 8][2 * (lane % 4) + i % 2];
      std::memcpy(&e.out[lane][i], &sum, 4);
    }
  }
}

template <typename Element>
void multiply(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  uint32_t words[10] = {0, 0, 0, 0, a[0], a[1], a[2], a[3], b0, b1};
  std::memcpy(words, sums, 16);
  std::memcpy(sums, fibers::meet("mma", words, 10, exchange_products<Element>), 16);
}

}  // namespace svm::cuda::ptx
