#include "check.h"

#include <cstdarg>
#include <cstdio>
#include <stdexcept>

namespace svm {
namespace {

std::string formatted(const char* format, va_list arguments) {
  char line[1024];
  std::vsnprintf(line, sizeof line, format, arguments);
  return line;
}

}  // namespace

void fail_value(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const std::string message = formatted(format, arguments);
  va_end(arguments);
  throw std::invalid_argument(message);
}

void fail_index(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const std::string message = formatted(format, arguments);
  va_end(arguments);
  throw std::out_of_range(message);
}

Arg::Arg(const char* name, const Tensor& tensor) : name(name), handle(tensor.get()) {
  int64_t* size_list = nullptr;
  int64_t* stride_list = nullptr;
  int32_t failed = aoti_torch_get_dim(handle, &rank);
  failed |= aoti_torch_get_sizes(handle, &size_list);
  failed |= aoti_torch_get_strides(handle, &stride_list);
  failed |= aoti_torch_get_dtype(handle, &dtype);
  failed |= aoti_torch_get_device_type(handle, &device_type);
  failed |= aoti_torch_get_device_index(handle, &device_index);
  failed |= aoti_torch_get_data_ptr(handle, &data);
  sizes = size_list;
  strides = stride_list;
  SVM_CHECK(!failed, "%s: expected an ordinary dense tensor with memory of its own; convert it with .to_dense()", name);
}

bool Arg::is_contiguous() const {
  bool contiguous = false;
  aoti_torch_is_contiguous(handle, &contiguous);
  return contiguous;
}

bool Arg::is_cpu() const { return device_type == aoti_torch_device_type_cpu(); }

void check_shape(const Arg& arg, std::initializer_list<Dim> dims, const char* remedy) {
  bool fits = arg.rank == static_cast<int64_t>(dims.size());
  const int64_t* size = arg.sizes;
  for (const Dim& dim : dims) fits = fits && *size++ == dim.size;
  if (fits) return;
  std::string expected;
  for (const Dim& dim : dims) {
    if (!expected.empty()) expected += ", ";
    expected += std::string(dim.letter) + "=" + std::to_string(dim.size);
  }
  fail_value("%s: expected shape [%s], got %s; %s", arg.name, expected.c_str(), shape_text(arg).c_str(), remedy);
}

void check_dtype(const Arg& arg, int32_t dtype, const char* remedy) {
  SVM_CHECK(arg.dtype == dtype, "%s: expected %s, got %s; %s", arg.name, dtype_text(dtype), dtype_text(arg.dtype),
            remedy);
}

void check_contiguous(const Arg& arg, const char* remedy) {
  SVM_CHECK(arg.is_contiguous(), "%s: expected a contiguous tensor, got shape %s with other strides; %s", arg.name,
            shape_text(arg).c_str(), remedy);
}

void check_same_device(const Arg& arg, const Arg& other) {
  SVM_CHECK(arg.device_type == other.device_type && arg.device_index == other.device_index,
            "%s: expected a tensor on %s like %s, got one on %s; move it with .to()", arg.name,
            device_text(other).c_str(), other.name, device_text(arg).c_str());
}

std::string shape_text(const Arg& arg) {
  std::string text = "[";
  for (int64_t i = 0; i < arg.rank; ++i) text += (i ? ", " : "") + std::to_string(arg.sizes[i]);
  return text + "]";
}

const char* dtype_text(int32_t dtype) {
  const struct {
    int32_t code;
    const char* name;
  } names[] = {
      {aoti_torch_dtype_float32(), "float32"},
      {aoti_torch_dtype_bfloat16(), "bfloat16"},
      {aoti_torch_dtype_float16(), "float16"},
      {aoti_torch_dtype_float64(), "float64"},
      {aoti_torch_dtype_int64(), "int64"},
      {aoti_torch_dtype_int32(), "int32"},
      {aoti_torch_dtype_int16(), "int16"},
      {aoti_torch_dtype_int8(), "int8"},
      {aoti_torch_dtype_uint8(), "uint8"},
      {aoti_torch_dtype_bool(), "bool"},
      {aoti_torch_dtype_complex64(), "complex64"},
      {aoti_torch_dtype_complex128(), "complex128"},
      {aoti_torch_dtype_float8_e4m3fn(), "float8_e4m3fn"},
  };
  for (const auto& entry : names) {
    if (entry.code == dtype) return entry.name;
  }
  return "another type";
}

std::string device_text(const Arg& arg) {
  if (arg.is_cpu()) return "cpu";
  if (arg.device_type == aoti_torch_device_type_cuda()) return "cuda:" + std::to_string(arg.device_index);
  if (arg.device_type == aoti_torch_device_type_meta()) return "meta";
  return "another device";
}

}  // namespace svm
