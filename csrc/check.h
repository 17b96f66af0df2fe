// Argument checks, at the one border between Python and the kernels.
// A message is one line: the argument's name, what was expected, what came, what to do. It is built only when a check
// fails.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <initializer_list>
#include <string>

namespace svm {

using torch::stable::Tensor;

// Raise ValueError and IndexError in Python; the format is printf's.
[[noreturn]] void fail_value(const char* format, ...) __attribute__((format(printf, 1, 2)));
[[noreturn]] void fail_index(const char* format, ...) __attribute__((format(printf, 1, 2)));

#define SVM_CHECK(condition, ...)                                                           \
  do {                                                                                      \
    if (!__builtin_expect(static_cast<bool>(condition), 1)) ::svm::fail_value(__VA_ARGS__); \
  } while (0)

// A tensor argument under its name in the schema, with what checks and kernels ask of it, read once.
struct Arg {
  Arg(const char* name, const Tensor& tensor);

  const char* name;
  const int64_t* sizes;
  const int64_t* strides;
  int64_t rank;
  int32_t dtype;  // as torch's C interface numbers types
  int32_t device_type;
  int32_t device_index;
  void* data;
  AtenTensorHandle handle;

  bool is_contiguous() const;
  bool is_cpu() const;
};

// One expected size under the letter that the documentation uses for it.
struct Dim {
  const char* letter;
  int64_t size;
};

void check_shape(const Arg& arg, std::initializer_list<Dim> dims, const char* remedy);
void check_dtype(const Arg& arg, int32_t dtype, const char* remedy);
void check_contiguous(const Arg& arg, const char* remedy);
void check_same_device(const Arg& arg, const Arg& other);

// For messages: "[2, 3]", "float32", "cuda:1".
std::string shape_text(const Arg& arg);
const char* dtype_text(int32_t dtype);
std::string device_text(const Arg& arg);

}  // namespace svm
