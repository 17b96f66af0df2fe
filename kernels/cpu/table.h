// The table of one instruction set; the including unit defines SVM_ISA and includes its simd header first.
#pragma once

#include "cpu/clip_attend.h"
#include "cpu/clip_attend_backward.h"
#include "cpu/kernels.h"
#include "cpu/memory_append.h"
#include "cpu/memory_attend.h"
#include "cpu/memory_attend_backward.h"
#include "cpu/nms.h"
#include "cpu/peak.h"
#include "cpu/stream_step.h"

namespace svm::cpu::SVM_ISA {

#if defined(__AVX512BF16__)
using Bf16 = Bf16Dot;
constexpr double (*kDotMultiplyAdds)(int64_t) = run_multiply_adds<Bf16Dot>;
#else
using Bf16 = Bf16Wide;
constexpr double (*kDotMultiplyAdds)(int64_t) = nullptr;
#endif

constexpr Kernels make_table(const char* name) {
  return {name,
          memory_append,
          memory_attend<Bf16>,
          memory_attend_backward<Bf16>,
          stream_step<Bf16>,
          clip_attend<Bf16>,
          clip_attend_backward<Bf16>,
          nms,
          run_multiply_adds<Float32>,
          kDotMultiplyAdds};
}

}  // namespace svm::cpu::SVM_ISA
