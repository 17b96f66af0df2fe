// Plays kernels/cuda/ptx/async_copy.h.
#pragma once

#include <cuda_runtime.h>

#include "async_copies.h"
#include "cuda/ptx/shared.h"

namespace svm::cuda::ptx {

inline void start_copy(uint32_t target, const void* source, bool there, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(source) % bytes != 0) fibers::fail("the source of a copy is not aligned");
  const async_copies::Copy copy = {shared_pointer(target, bytes), source, there, bytes};
  if (async_copies::at_once) {
    async_copies::land(copy);
  } else {
    std::memset(copy.target, 0xff, bytes);  // whatever was there must not be read any more
    async_copies::queues[threadIdx.x].open.push_back(copy);
  }
}

inline void copy_async(uint32_t target, const void* source, bool there) { start_copy(target, source, there, 16); }
inline void copy_async_pair(uint32_t target, const void* source, bool there) { start_copy(target, source, there, 8); }

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
