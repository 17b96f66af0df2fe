// cp.async: from global to shared memory past the registers, landing later.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace svm::cuda::ptx {

// 16 bytes, both ends aligned to 16; zeros where `there` is false, and then `source` is not read.
// NOTE: .cg passes by L1: nothing is read twice by one multiprocessor.
__device__ inline void copy_async(uint32_t target, const void* source, bool there) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(target), "l"(source), "r"(there ? 16 : 0)
               : "memory");
}

// Eight bytes, aligned to 8.
// NOTE: fewer than 16 come by way of L1 only.
__device__ inline void copy_async_pair(uint32_t target, const void* source, bool there) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(target), "l"(source), "r"(there ? 8 : 0)
               : "memory");
}

// Ends the group of this thread's copies since the last one; a group may be empty.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most kLeft of this thread's groups are under way. What other threads have copied is there only after a
// barrier that they pass after a wait of their own.
template <int kLeft>
__device__ inline void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

}  // namespace svm::cuda::ptx
