// Append and attend of one unit in one visit: the new frame and the merged one are still in the cache when they are
// read.
#pragma once

#include "cpu/memory_append.h"
#include "cpu/memory_attend.h"

namespace svm::cpu::SVM_ISA {

template <class Bf16Format>
inline void stream_step(const StepParams& p, int64_t begin, int64_t end) {
  for (int64_t unit = begin; unit < end; ++unit) {
    memory_append(p.append, unit, unit + 1);
    memory_attend<Bf16Format>(p.attend, unit, unit + 1);
  }
}

}  // namespace svm::cpu::SVM_ISA
