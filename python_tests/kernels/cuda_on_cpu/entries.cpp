// The CUDA entries behind C functions, for ctypes; and how the CPU plays the GPU.
#include <cuda_runtime.h>

#include <cstdlib>
#include <memory>
#include <vector>

#include "cuda/clip_attend.h"
#include "cuda/memory_append.h"
#include "cuda/memory_attend.h"
#include "cuda/nms.h"
#include "cuda/ptx/async_copy.h"
#include "cuda/ptx/ldmatrix.h"
#include "cuda/stream_step.h"
#include "svm/fp8.h"

namespace {

// Scratch memory, NaN before its first use, freed when a call is over.
struct Scratch {
  std::vector<std::unique_ptr<char[]>> pieces;

  static void* take(void* owner, int64_t bytes) {
    auto& pieces = static_cast<Scratch*>(owner)->pieces;
    pieces.emplace_back(new char[bytes + 256]);
    std::memset(pieces.back().get(), 0xff, bytes + 256);
    return reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(pieces.back().get()) + 255) / 256 * 256);
  }
};

template <typename Params>
const char* call(const char* (*entry)(const Params&, svm::cuda::Target), const Params* params) {
  Scratch scratch;
  return entry(*params, {0, nullptr, Scratch::take, &scratch});
}

}  // namespace

extern "C" {

const char* memory_append(const svm::AppendParams* params) { return call(svm::cuda::memory_append, params); }
const char* memory_attend(const svm::AttendParams* params) { return call(svm::cuda::memory_attend, params); }
const char* memory_attend_backward(const svm::AttendBackwardParams* params) {
  return call(svm::cuda::memory_attend_backward, params);
}
const char* stream_step(const svm::StepParams* params) { return call(svm::cuda::stream_step, params); }
const char* clip_attend(const svm::ClipParams* params) { return call(svm::cuda::clip_attend, params); }
const char* clip_attend_backward(const svm::ClipBackwardParams* params) {
  return call(svm::cuda::clip_attend_backward, params);
}
const char* nms(const svm::cuda::NmsArgs* args) { return call(svm::cuda::nms, args); }

// svm/fp8.h by itself.
void codes_of(const float* numbers, int64_t count, int32_t exponent, uint8_t* codes) {
  for (int64_t i = 0; i < count; ++i) codes[i] = svm::code_of(numbers[i], exponent).code;
}
void values_of(const uint8_t* codes, int64_t count, int32_t exponent, float* values) {
  for (int64_t i = 0; i < count; ++i) values[i] = svm::value_of({codes[i]}) * svm::unit_of(exponent);
}
void exponents_for(const float* greatest, int64_t count, int32_t* exponents) {
  for (int64_t i = 0; i < count; ++i) exponents[i] = svm::exponent_for(svm::magnitude_of(greatest[i]));
}

void play(int processors, int shared_bytes, int order, int copies_land_at_once, uint64_t dice, int deaf) {
  device::processors = processors;
  device::shared_bytes = shared_bytes;
  fibers::order = static_cast<fibers::Order>(order);
  fibers::dice = dice;
  fibers::deaf = deaf != 0;
  async_copies::at_once = copies_land_at_once != 0;
}

// Launches, matrices that ldmatrix loaded and passes that it took, since the last call.
void count(uint64_t* counts) {
  counts[0] = device::launches;
  counts[1] = svm::cuda::ptx::matrices_loaded;
  counts[2] = svm::cuda::ptx::matrix_passes;
  device::launches = svm::cuda::ptx::matrices_loaded = svm::cuda::ptx::matrix_passes = 0;
}

}  // extern "C"
