// One number at a time: from the type in memory to the type of the arithmetic (float, or double for fp64) and back.
#pragma once

#include <cstdint>
#include <cstring>

#include "svm/params.h"

namespace svm::cpu::generic {

inline float from_bf16(uint16_t half) {
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// To the nearest, ties to even.
inline uint16_t to_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if (value != value) return static_cast<uint16_t>((bits >> 16) | 0x40);  // rounding could turn a NaN into infinity
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

template <class Real>
Real load(const void* data, Dtype dtype, int64_t index) {
  switch (dtype) {
    case Dtype::kFloat32:
      return static_cast<Real>(static_cast<const float*>(data)[index]);
    case Dtype::kFloat64:
      return static_cast<Real>(static_cast<const double*>(data)[index]);
    default:
      return static_cast<Real>(from_bf16(static_cast<const uint16_t*>(data)[index]));
  }
}

template <class Real>
void store(void* data, Dtype dtype, int64_t index, Real value) {
  switch (dtype) {
    case Dtype::kFloat32:
      static_cast<float*>(data)[index] = static_cast<float>(value);
      break;
    case Dtype::kFloat64:
      static_cast<double*>(data)[index] = static_cast<double>(value);
      break;
    default:
      static_cast<uint16_t*>(data)[index] = to_bf16(static_cast<float>(value));
  }
}

}  // namespace svm::cpu::generic
