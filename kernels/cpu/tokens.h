// Token rows in and out of the callers' tensors: any dtype, any strides.
#pragma once

#include <cstdint>
#include <cstring>

#include "svm/params.h"

namespace svm::cpu::SVM_ISA {

inline float bf16_to_float(uint16_t x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}

// Round to nearest even; NaN stays NaN.
inline uint16_t float_to_bf16(float f) {
  uint32_t bits;
  std::memcpy(&bits, &f, sizeof bits);
  if (f != f) return 0x7fc0;
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// One unit's tokens in a caller's tensor: token i starts at data + i * stride_token.
struct TokenRows {
  void* data;
  Dtype dtype;
  int64_t stride_token, stride_dim;
  explicit operator bool() const { return data != nullptr; }
};

inline int64_t size_of(Dtype dtype) { return dtype == Dtype::kFloat32 ? 4 : dtype == Dtype::kFloat64 ? 8 : 2; }

inline TokenRows rows_of(const TokenView& view, int64_t window, int64_t head) {
  if (view.data == nullptr) return {nullptr, view.dtype, 0, 0};
  const int64_t at = window * view.stride_window + head * view.stride_head;
  return {static_cast<char*>(view.data) + at * size_of(view.dtype), view.dtype, view.stride_token, view.stride_dim};
}

inline TokenRows rows_of(const ClipView& view, int64_t batch, int64_t frame, int64_t window, int64_t head) {
  if (view.data == nullptr) return {nullptr, view.dtype, 0, 0};
  const int64_t at =
      batch * view.stride_batch + frame * view.stride_frame + window * view.stride_window + head * view.stride_head;
  return {static_cast<char*>(view.data) + at * size_of(view.dtype), view.dtype, view.stride_token, view.stride_dim};
}

// to[dim] = the token in fp32. `dim` is a multiple of 16 wherever the fast kernels run.
inline void read_token(const TokenRows& rows, int64_t token, int dim, float* to) {
  if (rows.dtype == Dtype::kFloat32) {
    const float* from = static_cast<const float*>(rows.data) + token * rows.stride_token;
    if (rows.stride_dim == 1) {
      for (int d = 0; d < dim; d += kWidth) store(to + d, load(from + d));
    } else {
      for (int d = 0; d < dim; ++d) to[d] = from[d * rows.stride_dim];
    }
  } else {
    const uint16_t* from = static_cast<const uint16_t*>(rows.data) + token * rows.stride_token;
    if (rows.stride_dim == 1) {
      for (int d = 0; d < dim; d += kWidth) store(to + d, load(from + d));
    } else {
      for (int d = 0; d < dim; ++d) to[d] = bf16_to_float(from[d * rows.stride_dim]);
    }
  }
}

// The same, rounded to bf16 where it is not bf16 already.
inline void read_token_bf16(const TokenRows& rows, int64_t token, int dim, uint16_t* to) {
  if (rows.dtype == Dtype::kBFloat16) {
    const uint16_t* from = static_cast<const uint16_t*>(rows.data) + token * rows.stride_token;
    if (rows.stride_dim == 1) {
      for (int d = 0; d < dim; d += 32) std::memcpy(to + d, from + d, 64);  // of a known size: no call
    } else {
      for (int d = 0; d < dim; ++d) to[d] = from[d * rows.stride_dim];
    }
  } else {
    const float* from = static_cast<const float*>(rows.data) + token * rows.stride_token;
    if (rows.stride_dim == 1) {
      for (int d = 0; d < dim; d += kWidth) store(to + d, load(from + d));
    } else {
      for (int d = 0; d < dim; ++d) to[d] = float_to_bf16(from[d * rows.stride_dim]);
    }
  }
}

inline void write_token(const TokenRows& rows, int64_t token, int dim, const float* from) {
  if (rows.dtype == Dtype::kFloat32) {
    float* to = static_cast<float*>(rows.data) + token * rows.stride_token;
    if (rows.stride_dim == 1) {
      for (int d = 0; d < dim; d += kWidth) store(to + d, load(from + d));
    } else {
      for (int d = 0; d < dim; ++d) to[d * rows.stride_dim] = from[d];
    }
  } else {
    uint16_t* to = static_cast<uint16_t*>(rows.data) + token * rows.stride_token;
    if (rows.stride_dim == 1) {
      for (int d = 0; d < dim; d += kWidth) store(to + d, load(from + d));
    } else {
      for (int d = 0; d < dim; ++d) to[d * rows.stride_dim] = float_to_bf16(from[d]);
    }
  }
}

inline void write_zero_token(const TokenRows& rows, int64_t token, int dim) {
  for (int d = 0; d < dim; ++d) {
    const int64_t at = token * rows.stride_token + d * rows.stride_dim;
    if (rows.dtype == Dtype::kFloat32) {
      static_cast<float*>(rows.data)[at] = 0.0f;
    } else {
      static_cast<uint16_t*>(rows.data)[at] = 0;
    }
  }
}

// Asks for memory ahead of time.
template <class T>
[[gnu::always_inline]] inline void fetch(const T* from, int64_t count) {
  const char* at = reinterpret_cast<const char*>(from);
  for (int64_t byte = 0; byte < count * static_cast<int64_t>(sizeof(T)); byte += 64) prefetch(at + byte);
}

// Asks for a token; of use for tensors whose dims lie side by side.
[[gnu::always_inline]] inline void fetch_token(const TokenRows& rows, int64_t token, int dim) {
  const int64_t size = size_of(rows.dtype);
  fetch(static_cast<const char*>(rows.data) + token * rows.stride_token * size, dim * size);
}

// to[dim] = one head's padded-token key or value in fp32.
inline void read_bias(const void* data, Dtype dtype, int64_t at, int dim, float* to) {
  for (int d = 0; d < dim; ++d) {
    to[d] = dtype == Dtype::kFloat32   ? static_cast<const float*>(data)[at + d]
            : dtype == Dtype::kFloat64 ? static_cast<float>(static_cast<const double*>(data)[at + d])
                                       : bf16_to_float(static_cast<const uint16_t*>(data)[at + d]);
  }
}

}  // namespace svm::cpu::SVM_ISA
