// Plays kernels/cuda/ptx/async_copy.h.
#pragma once

#include <cuda_runtime.h>

#include "async_copies.h"
#include "cuda/ptx/shared.h"

namespace svm::cuda::ptx {

inline void copy_async(uint32_t target, const void* source, bool there) {
  if (reinterpret_cast<uintptr_t>(source) % 16 != 0) fibers::fail("the source of a copy is not aligned");
  const async_copies::Copy copy = {shared_pointer(target), source, there};
  if (async_copies::at_once) {
    async_copies::land(copy);
  } else {
    std::memset(copy.target, 0xff, 16);  // whatever was there must not be read any more
    async_copies::queues[threadIdx.x].open.push_back(copy);
  }
}

inline void commit_copies() {
  async_copies::Queue& mine = async_copies::queues[threadIdx.x];
  mine.groups.push_back(std::move(mine.open));
  mine.open.clear();
}

template <int kLeft>
void wait_copies() {
  async_copies::Queue& mine = async_copies::queues[threadIdx.x];
  while (static_cast<int>(mine.groups.size()) > kLeft) {
    for (const async_copies::Copy& copy : mine.groups.front()) async_copies::land(copy);
    mine.groups.pop_front();
  }
}

}  // namespace svm::cuda::ptx
