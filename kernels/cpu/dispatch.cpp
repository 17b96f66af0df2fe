// Which kernels run: the best instruction set that this CPU has, unless somebody names another.
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

#include "cpu/kernels.h"

namespace svm::cpu {
namespace {

struct Sets {
  const Kernels* list[8];
  int count = 0;

  void add(const Kernels& set) { list[count++] = &set; }
};

Sets find_usable_sets() {
  Sets sets;
  sets.add(kGeneric);
  sets.add(kPortable);
#if defined(SVM_X86)
  __builtin_cpu_init();
  // These ask the operating system, too, whether it saves the registers.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (avx2) sets.add(kAvx2);
  if (avx512) sets.add(kAvx512);
  if (avx512 && __builtin_cpu_supports("avx512bf16")) sets.add(kAvx512Bf16);
#endif
  return sets;
}

const Sets& sets() {
  static const Sets found = find_usable_sets();
  return found;
}

const Kernels* find(const char* name) {
  for (int i = 0; i < sets().count; ++i) {
    if (std::strcmp(sets().list[i]->name, name) == 0) return sets().list[i];
  }
  return nullptr;
}

const Kernels& first_choice() {
  const char* name = std::getenv("SVM_EXT_CPU_ISA");
  if (!name || !*name) return *sets().list[sets().count - 1];
  if (const Kernels* set = find(name)) return *set;
  std::string message = "SVM_EXT_CPU_ISA: expected one of ";
  for (int i = 0; i < sets().count; ++i) message += std::string(i ? ", " : "") + sets().list[i]->name;
  throw std::invalid_argument(message + " on this CPU, got '" + name + "'; unset it to have the last of them");
}

std::atomic<const Kernels*> selected{nullptr};

}  // namespace

const Kernels* const* usable_sets(int* count) {
  *count = sets().count;
  return sets().list;
}

const Kernels& selected_set() {
  const Kernels* set = selected.load(std::memory_order_relaxed);
  if (!set) {
    set = &first_choice();
    selected.store(set, std::memory_order_relaxed);
  }
  return *set;
}

bool select_set(const char* name) {
  const Kernels* set = find(name);
  if (set) selected.store(set, std::memory_order_relaxed);
  return set != nullptr;
}

const Kernels& kernels_for(Dtype pool, Dtype io, int64_t side, int64_t dim) {
  const Kernels& set = selected_set();  // first: a wrong choice is an error for every shape
  const auto fast = [](Dtype dtype) { return dtype == Dtype::kFloat32 || dtype == Dtype::kBFloat16; };
  return fast(pool) && fast(io) && side <= 16 && dim % 32 == 0 && dim <= 256 ? set : kGeneric;
}

void out_of_memory() { throw std::bad_alloc(); }

}  // namespace svm::cpu
