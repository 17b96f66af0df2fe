// 2^x for the softmax, in additions and multiplications that every instruction set has.
#pragma once

namespace svm::cpu::SVM_ISA {

// Relative error below 2e-7 for -126 <= x < 127.5, which a softmax never leaves above; smaller x give 2^-126, and a NaN
// stays one. The polynomial is the minimax one of degree 5 on [-1/2, 1/2].
inline Vec exp2(Vec x) {
  const Vec inside = max(broadcast(-126.0f), x);  // max gives its second operand where one is NaN
  // In fp32, adding 1.5 * 2^23 rounds to the nearest whole number and leaves it in the last bits; 127 more makes those
  // the biased exponent of 2^whole.
  const Vec magic = broadcast(12582912.0f + 127.0f);
  const Vec shifted = add(inside, magic);
  const Vec fraction = sub(inside, sub(shifted, magic));
  Vec p = broadcast(1.3276482e-3f);
  p = fma(p, fraction, broadcast(9.6755465e-3f));
  p = fma(p, fraction, broadcast(5.5507135e-2f));
  p = fma(p, fraction, broadcast(2.4022120e-1f));
  p = fma(p, fraction, broadcast(6.9314694e-1f));
  p = fma(p, fraction, broadcast(1.0000001f));
  return mul(p, power_of_two(shifted));
}

}  // namespace svm::cpu::SVM_ISA
