// Memory that a thread keeps between calls, so that the steady state allocates nothing.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace svm::cpu {

// Throws; defined once for all instruction sets, since code of the standard library that is compiled for one of them
// must not end up being linked for all.
[[noreturn]] void out_of_memory();

}  // namespace svm::cpu

namespace svm::cpu::SVM_ISA {

class Scratch {
 public:
  ~Scratch() { std::free(block_); }

  // Forgets what was handed out and makes room for `bytes` in all (take() rounds each piece up to a cache line).
  void begin(size_t bytes) {
    if (bytes > size_) {
      std::free(block_);
      size_ = 0;
      block_ = static_cast<char*>(std::aligned_alloc(kCacheLine, (bytes + kCacheLine - 1) / kCacheLine * kCacheLine));
      if (block_ == nullptr) out_of_memory();
      size_ = bytes;
    }
    used_ = 0;
  }

  template <class T>
  T* take(int64_t count) {
    char* piece = block_ + used_;
    used_ += room<T>(count);
    return reinterpret_cast<T*>(piece);
  }

  template <class T>
  static size_t room(int64_t count) {
    return (static_cast<size_t>(count) * sizeof(T) + kCacheLine - 1) / kCacheLine * kCacheLine;
  }

 private:
  static constexpr size_t kCacheLine = 64;
  char* block_ = nullptr;
  size_t size_ = 0;
  size_t used_ = 0;
};

// Two blocks: a clip keeps its packed frames in one while each frame works in the other.
template <int kBlock = 0>
inline Scratch& thread_scratch() {
  static thread_local Scratch scratch;
  return scratch;
}

}  // namespace svm::cpu::SVM_ISA
