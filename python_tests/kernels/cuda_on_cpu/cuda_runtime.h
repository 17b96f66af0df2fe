// CUDA's names, as far as the kernels need them, for a C++ compiler: the kernels' own source runs on the CPU, block
// after block, its threads as fibers. Shared memory is poisoned before every block.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "async_copies.h"
#include "fibers.h"

#define __CUDA_ON_CPU__
#define __global__
#define __device__
#define __host__
#define __shared__
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __grid_constant__
#define __launch_bounds__(...)

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned x = 1) : x(x) {}
};

inline dim3 threadIdx, blockIdx, blockDim, gridDim;
using std::max;
using std::min;

inline void __syncthreads() { fibers::block_barrier(); }
inline int __syncthreads_count(bool vote) {
  fibers::votes += vote;
  fibers::block_barrier();
  return fibers::counted;
}
inline void __syncwarp() { fibers::meet("__syncwarp", nullptr, 0, nullptr); }

template <typename Word>
Word __shfl_xor_sync(uint32_t, Word x, int mask) {
  static_assert(sizeof(Word) == 4);
  uint32_t words[2];
  std::memcpy(words, &x, 4);
  words[1] = mask;
  const uint32_t* out = fibers::meet("shfl", words, 2, [](fibers::Exchange& e) {
    for (int lane = 0; lane < 32; ++lane) e.out[lane][0] = e.in[lane ^ e.in[lane][1]][0];
  });
  std::memcpy(&x, out, 4);
  return x;
}

inline uint32_t __ballot_sync(uint32_t, bool vote) {
  const uint32_t word = vote;
  return *fibers::meet("vote", &word, 1, [](fibers::Exchange& e) {
    uint32_t votes = 0;
    for (int lane = 0; lane < 32; ++lane) votes |= e.in[lane][0] << lane;
    for (int lane = 0; lane < 32; ++lane) e.out[lane][0] = votes;
  });
}
inline bool __any_sync(uint32_t mask, bool vote) { return __ballot_sync(mask, vote) != 0; }

// Byte i of the result is the one that nibble i of the choice names, of b's and a's eight bytes.
inline uint32_t __byte_perm(uint32_t a, uint32_t b, uint32_t choice) {
  const uint64_t bytes = uint64_t{b} << 32 | a;
  uint32_t out = 0;
  for (int i = 0; i < 4; ++i) out |= static_cast<uint32_t>(bytes >> (choice >> (4 * i) & 7) * 8 & 0xff) << 8 * i;
  return out;
}
inline void atomicMax(uint32_t* place, uint32_t x) { *place = max(*place, x); }

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue, cudaErrorMemoryAllocation, cudaErrorLaunchFailure };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount, cudaDevAttrMaxSharedMemoryPerBlockOptin };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };

// The shared memory that kernels declare.
namespace svm::cuda {
alignas(1024) inline char dynamic_shared[232448];
}

// The GPU that this CPU plays.
namespace device {
inline int processors = 4;  // few, so that small tests see several items a block
inline int shared_bytes = 232448;
inline char* const shared = svm::cuda::dynamic_shared;
inline size_t shared_used = 0;
inline uint64_t launches = 0;
}  // namespace device

inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorLaunchFailure ? fibers::fault.c_str() : "invalid argument";
}
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrMultiProcessorCount ? device::processors : device::shared_bytes;
  return cudaSuccess;
}
template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel, cudaFuncAttribute, int value) {
  return value <= device::shared_bytes ? cudaSuccess : cudaErrorInvalidValue;
}

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
};

template <typename Params>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Params), const Params& params) {
  blockDim = config->blockDim;
  gridDim = config->gridDim;
  device::shared_used = config->dynamicSmemBytes;
  ++device::launches;
  fibers::fault.clear();
  fibers::body = [&] { kernel(params); };
  fibers::before_resume = [](int thread) { threadIdx.x = thread; };
  for (unsigned i = 0; i < config->gridDim.x; ++i) {
    blockIdx.x = fibers::order == fibers::Order::kDown ? config->gridDim.x - 1 - i : i;
    std::memset(device::shared, 0xff, sizeof(svm::cuda::dynamic_shared));  // NaN in every type
    async_copies::forget();
    if (!fibers::run_block(blockDim.x)) return cudaErrorLaunchFailure;
  }
  return cudaSuccess;
}
