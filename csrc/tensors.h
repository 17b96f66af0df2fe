// From torch tensors to the plain structs of svm/params.h, checked on the way.
#pragma once

#include <optional>
#include <tuple>

#include "check.h"
#include "svm/params.h"

namespace svm {

// The two memory layouts of params.h; told apart by the rank of k_pool.
enum class PoolLayout { kColumns, kTokens };

// A memory pool and its cursor: device, layout, types, sizes and contiguity are checked by the constructor.
struct PoolArgs {
  PoolArgs(const Tensor& k_pool, const Tensor& v_pool, const Tensor& cursor, PoolLayout layout);

  Arg k;
  PoolView view;

  int64_t units(int64_t batch) const { return batch * view.windows * view.heads; }
};

// Who takes part in a frame: row b is stream streams[b], or stream b where streams is nullptr.
struct Rows {
  const int64_t* streams;
  int64_t batch;

  int64_t stream(int64_t row) const { return streams ? streams[row] : row; }
};

// Type, shape and device only: the values may lie on a GPU.
Rows rows_of(const std::optional<Tensor>& streams, const PoolArgs& pool);
const int64_t* step_of(const Tensor& step, const PoolArgs& pool);
const int32_t* real_of(const std::optional<Tensor>& real, const Arg& like, int64_t windows);

// The values, on the CPU.
void check_streams(const Rows& rows, const PoolView& pool);   // in range
void check_distinct(const Rows& rows, const PoolView& pool);  // where two rows would write to one stream
void check_cursor(const Rows& rows, const PoolView& pool);    // counts that no append has left would point anywhere
void check_step(const int64_t* step, const Rows& rows, const PoolView& pool);  // time does not run backwards
void check_real(const int32_t* real, int64_t windows, int64_t side);

Dtype dtype_of(const Arg& arg);
Evict evict_of(int64_t code);

// k, v, q and their relatives, [B*W, H, N, D] with any strides.
TokenView token_view(const Arg& arg, const PoolArgs& pool, int64_t batch);
// The CPU kernels take fp32 and bf16 in any combination with the pool, and fp64 with fp64.
void check_cpu_dtype(const Arg& arg, Dtype pool);
void check_like(const Arg& arg, const Arg& other);

// pad_k and pad_v are given together or not at all.
Padding padding_of(const int32_t* real, const std::optional<Tensor>& pad_k, const std::optional<Tensor>& pad_v,
                   const Arg& like, int64_t heads, int64_t dim);

// What an attend returns: out; out_column and lse where the backward is to follow.
using Saved = std::tuple<Tensor, std::optional<Tensor>, std::optional<Tensor>>;

// New tensors on the device of `like`.
Tensor new_tensor(const Arg& like, int32_t dtype, std::initializer_list<int64_t> sizes);
// The transpose [.., a, b, D] of a new contiguous [.., b, a, D]: tokens outside of heads, so that merging heads is
// free.
Tensor new_transposed(const Arg& like, std::initializer_list<int64_t> sizes);
int32_t lse_dtype(const Arg& q);
// The lse that a forward has returned, for its backward.
const void* lse_of(const Tensor& lse, const Arg& q, std::initializer_list<Dim> dims);

}  // namespace svm
