// How a pool of fp8 keeps numbers: e4m3 codes (a sign, 4 bits of exponent, 3 of fraction, no infinity), and one
// exponent for all of a unit's frame: a number is its code's value times 2^exponent. The rules are those of
// svm_ext/ops/_fp8.py, where they have their reasons; shared by all kernels, and tested on the CPU.
#pragma once

#include <cstdint>
#include <cstring>

#include "svm/ring.h"

namespace svm {

struct Fp8 {
  uint8_t code;
};

// Of one slot; they follow the unit's RingCursor, slot after slot.
struct SlotExponents {
  int32_t k, v;
};

constexpr int32_t kLeastExponent = -117, kMostExponent = 118;
constexpr int32_t kNotFinite = 128;  // of a frame with a number that is not finite: all of it reads as NaN

SVM_HOST_DEVICE inline uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

SVM_HOST_DEVICE inline float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

// The bits of |x|: their order is that of the magnitudes, and NaN is above all.
SVM_HOST_DEVICE inline uint32_t magnitude_of(float x) { return bits_of(x) & 0x7fffffffu; }

SVM_HOST_DEVICE inline float power_of_two(int32_t exponent) {
  return float_of(static_cast<uint32_t>(exponent + 127) << 23);
}

// What brings the greatest magnitude of a frame to (224, 448].
SVM_HOST_DEVICE inline int32_t exponent_for(uint32_t greatest) {
  if (greatest >= 0x7f800000u) return kNotFinite;
  if (greatest == 0) return 0;
  constexpr uint32_t kFraction448 = 0x600000;  // 448 is 1.75 * 2^8
  const int32_t exponent = static_cast<int32_t>(greatest >> 23) - 127 - 8 + ((greatest & 0x7fffff) > kFraction448);
  return exponent < kLeastExponent ? kLeastExponent : exponent > kMostExponent ? kMostExponent : exponent;
}

// The nearest code, of two equally near the even one; beyond 448 that of 448.
SVM_HOST_DEVICE inline Fp8 nearest_code(float x) {
  constexpr float kMost = 448.f, kLeastNormal = 0.015625f, kSteps = 16384.f;
  const uint32_t sign = bits_of(x) >> 24 & 0x80;
  const float size = float_of(magnitude_of(x));
  uint32_t code;
  if (size >= kMost) {
    code = 0x7e;
  } else if (size >= kLeastNormal) {
    const uint32_t bits = bits_of(size);
    code = ((bits + 0x7ffff + (bits >> 20 & 1)) >> 20) - (120 << 3);
  } else {
    code = bits_of(size + kSteps) - bits_of(kSteps);  // there the steps of fp32 are those of e4m3: 2^-9
  }
  return {static_cast<uint8_t>(sign | code)};
}

// The code of a number of a frame with this exponent.
SVM_HOST_DEVICE inline Fp8 code_of(float x, int32_t exponent) {
  return exponent == kNotFinite ? Fp8{0} : nearest_code(x * power_of_two(-exponent));
}

// What a code stands for under the exponent 0. There is no code of NaN in a pool.
SVM_HOST_DEVICE inline float value_of(Fp8 x) {
  const uint32_t bits = (x.code & 0x80u) << 24 | (x.code & 0x7fu) << 20;  // too small by 2^120, which has no exceptions
  return float_of(bits) * power_of_two(120);
}

// What a frame's codes count.
SVM_HOST_DEVICE inline float unit_of(int32_t exponent) {
  return exponent > kMostExponent ? float_of(0x7fc00000u) : power_of_two(exponent);
}

}  // namespace svm
