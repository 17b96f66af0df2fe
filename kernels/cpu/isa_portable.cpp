// The kernels for any machine: no flag beyond the compiler's own baseline.
#define SVM_ISA portable

#include "cpu/simd_portable.h"
#include "cpu/table.h"

namespace svm::cpu {

const Kernels kPortable = portable::make_table("portable");

}  // namespace svm::cpu
