// The CPU kernels, one table per instruction set. The torch side picks a table and splits the units over threads.
#pragma once

#include "svm/params.h"

namespace svm::cpu {

// All functions but nms and the peaks work on the units [begin, end), numbered as in params.h.
struct Kernels {
  const char* name;
  void (*memory_append)(const AppendParams&, int64_t begin, int64_t end);
  void (*memory_attend)(const AttendParams&, int64_t begin, int64_t end);
  void (*memory_attend_backward)(const AttendBackwardParams&, int64_t begin, int64_t end);
  void (*stream_step)(const StepParams&, int64_t begin, int64_t end);
  void (*clip_attend)(const ClipParams&, int64_t begin, int64_t end);
  void (*clip_attend_backward)(const ClipBackwardParams&, int64_t begin, int64_t end);
  void (*nms)(const NmsParams&, int64_t group_begin, int64_t group_end);
  // Runs `rounds` rounds of independent multiply-adds on registers and returns the floating point operations done.
  double (*multiply_adds)(int64_t rounds);      // fp32 fused multiply-add
  double (*dot_multiply_adds)(int64_t rounds);  // bf16 dot product where the set has one, else nullptr
};

// Instruction sets, best last. `portable` runs on every machine that the compiler targets.
extern const Kernels kPortable;
#if defined(SVM_X86)
extern const Kernels kAvx2;
extern const Kernels kAvx512;
extern const Kernels kAvx512Bf16;
#endif
// Plain scalar loops for the types and shapes that the tables above do not take (fp64, windows beyond 16 x 16,
// head dims that are no multiple of 32). Slow and simple: it is the one to read first.
extern const Kernels kGeneric;

// The sets that this CPU can run, best last; `count` receives their number.
const Kernels* const* usable_sets(int* count);

// The set in use: the best usable one, unless SVM_EXT_CPU_ISA or select_set names another.
const Kernels& selected_set();
bool select_set(const char* name);  // false: no such set on this CPU

// The table for these types and shapes: the selected set or kGeneric.
const Kernels& kernels_for(Dtype pool, Dtype io, int64_t side, int64_t dim);

}  // namespace svm::cpu
