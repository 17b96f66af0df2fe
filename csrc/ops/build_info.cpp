// What was built, what this CPU can run, and how fast it can multiply.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "../check.h"
#include "cpu/kernels.h"

// The arches of the compiled CUDA kernels as the build names them, "80 90a"; empty without CUDA.
#if !defined(SVM_CUDA_ARCHS)
#define SVM_CUDA_ARCHS ""
#endif

namespace svm {
namespace {

// Raised when a schema or a pool layout changes, so that Python code and library of different builds are told apart.
constexpr int kSchemaVersion = 2;

std::string cpu_isas() {
  int count = 0;
  const cpu::Kernels* const* sets = cpu::usable_sets(&count);
  std::string names;
  for (int i = 0; i < count; ++i) names += (i ? "," : "") + std::string(sets[i]->name);
  return names;
}

std::string cpu_isa(const std::optional<std::string>& select) {
  if (select) {
    SVM_CHECK(cpu::select_set(select->c_str()), "select: expected one of %s, got '%s'; this CPU runs no other set",
              cpu_isas().c_str(), select->c_str());
  }
  return cpu::selected_set().name;
}

double cpu_peak(bool dot, int64_t rounds) {
  SVM_CHECK(rounds > 0, "rounds: expected at least 1, got %lld; ten thousand take about a millisecond",
            static_cast<long long>(rounds));
  const cpu::Kernels& set = cpu::selected_set();
  const auto multiply_adds = dot ? set.dot_multiply_adds : set.multiply_adds;
  if (!multiply_adds) return 0.0;
  const int64_t threads = torch::stable::get_num_threads();
  std::vector<double> operations(threads, 0.0);
  const auto start = std::chrono::steady_clock::now();
  torch::stable::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) operations[i] = multiply_adds(rounds);
  });
  const std::chrono::duration<double, std::nano> nanoseconds = std::chrono::steady_clock::now() - start;
  double sum = 0.0;
  for (const double part : operations) sum += part;
  return sum / nanoseconds.count();
}

std::string quoted_list(const std::string& words) {
  std::string list;
  for (size_t begin = 0; begin < words.size();) {
    const size_t end = std::min(words.find(' ', begin), words.size());
    if (end > begin) list += (list.empty() ? "\"" : ", \"") + words.substr(begin, end - begin) + "\"";
    begin = end + 1;
  }
  return "[" + list + "]";
}

std::string build_info() {
  constexpr uint64_t target = TORCH_TARGET_VERSION;
  return "{\"schema\": " + std::to_string(kSchemaVersion) + ", \"torch_target\": \"" + std::to_string(target >> 56) +
         "." + std::to_string(target >> 48 & 0xff) + "\", \"cuda_archs\": " + quoted_list(SVM_CUDA_ARCHS) +
         ", \"compiler\": \"" + __VERSION__ + "\"}";
}

}  // namespace
}  // namespace svm

STABLE_TORCH_LIBRARY_IMPL(svm_ext, CompositeExplicitAutograd, m) {
  m.impl("cpu_isa", TORCH_BOX(&svm::cpu_isa));
  m.impl("cpu_isas", TORCH_BOX(&svm::cpu_isas));
  m.impl("cpu_peak", TORCH_BOX(&svm::cpu_peak));
  m.impl("build_info", TORCH_BOX(&svm::build_info));
}
