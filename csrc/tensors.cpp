#include "tensors.h"

#include <algorithm>
#include <new>
#include <vector>

namespace svm {
namespace {

constexpr int kMaxRank = 6;

PoolView columns_view(const Arg& k, const Arg& v, const Arg& cursor) {
  SVM_CHECK(
      k.dtype != aoti_torch_dtype_float8_e4m3fn(),
      "k_pool: expected float32, bfloat16 or float64 on the CPU, got float8_e4m3fn; make a bfloat16 pool, or call "
      "svm_ext.use_backend(\"reference\")");
  SVM_CHECK(k.rank == 8,
            "k_pool: expected the CPU's 8 dimensions [S, W, H, n, T, D/g, n, g], got shape %s; make a pool on the CPU",
            shape_text(k).c_str());
  const Dtype dtype = dtype_of(k);
  SVM_CHECK(dtype != Dtype::kFloat16,
            "k_pool: expected float32, bfloat16 or float64 on the CPU, got float16; use bfloat16");
  const int64_t* size = k.sizes;
  const int64_t group = dtype == Dtype::kBFloat16 ? 2 : 1;
  SVM_CHECK(size[7] == group, "k_pool: expected a last dimension of %lld for %s, got shape %s; make a new pool",
            static_cast<long long>(group), dtype_text(k.dtype), shape_text(k).c_str());
  SVM_CHECK(size[3] == size[6], "k_pool: expected the window side in dimensions 3 and 6, got shape %s; make a new pool",
            shape_text(k).c_str());
  return {k.data,  v.data,         static_cast<RingCursor*>(cursor.data), dtype, size[0], size[1], size[2], size[3],
          size[4], size[5] * group};
}

PoolView tokens_view(const Arg& k, const Arg& v, const Arg& cursor) {
  SVM_CHECK(k.rank == 7,
            "k_pool: expected the GPU's 7 dimensions [S, W, H, n, T, n, D], got shape %s; make a pool on the GPU",
            shape_text(k).c_str());
  const Dtype dtype = k.dtype == aoti_torch_dtype_float8_e4m3fn() ? Dtype::kFloat8 : dtype_of(k);
  const int64_t* size = k.sizes;
  SVM_CHECK(size[3] == size[5], "k_pool: expected the window side in dimensions 3 and 5, got shape %s; make a new pool",
            shape_text(k).c_str());
  return {k.data,  v.data, static_cast<RingCursor*>(cursor.data), dtype, size[0], size[1], size[2], size[3],
          size[4], size[6]};
}

int64_t checked_pad_stride(const Arg& pad, const Arg& like, int64_t heads, int64_t dim) {
  check_same_device(pad, like);
  check_shape(pad, {{"H", heads}, {"D", dim}}, "it is the projection's bias, one row a head");
  SVM_CHECK(dim == 1 || pad.strides[1] == 1,
            "%s: expected rows that are contiguous, got a stride of %lld; call .contiguous()", pad.name,
            static_cast<long long>(pad.strides[1]));
  return pad.strides[0];
}

// MemoryError in Python.
struct OutOfMemory : std::bad_alloc {
  const char* what() const noexcept override {
    return "out: expected memory for the result, got none; take a smaller batch or fewer windows at once";
  }
};

Tensor new_strided(const Arg& like, int32_t dtype, const int64_t* sizes, const int64_t* strides, int64_t rank) {
  AtenTensorHandle handle = nullptr;
  if (aoti_torch_empty_strided(rank, sizes, strides, dtype, like.device_type, like.device_index, &handle)) {
    throw OutOfMemory();
  }
  return Tensor(handle);
}

}  // namespace

PoolArgs::PoolArgs(const Tensor& k_pool, const Tensor& v_pool, const Tensor& cursor_tensor, PoolLayout layout)
    : k("k_pool", k_pool) {
  const Arg v("v_pool", v_pool);
  const Arg cursor("cursor", cursor_tensor);
  view = layout == PoolLayout::kColumns ? columns_view(k, v, cursor) : tokens_view(k, v, cursor);
  SVM_CHECK(view.side > 0 && view.frames > 0 && view.dim > 0,
            "k_pool: expected at least one token, frame and channel, got shape %s; make a new pool",
            shape_text(k).c_str());
  check_same_device(v, k);
  check_same_device(cursor, k);
  check_dtype(v, k.dtype, "k_pool and v_pool have one type");
  check_dtype(cursor, aoti_torch_dtype_int64(), "use the cursor that was made with the pool");
  check_shape(v,
              {{"S", view.streams},
               {"W", view.windows},
               {"H", view.heads},
               {"n", view.side},
               {"T", view.frames},
               {"n", view.side},
               {"D", view.dim}},
              "k_pool and v_pool are made together");
  const Dim width = view.dtype == Dtype::kFloat8 ? Dim{"2+T", 2 + view.frames} : Dim{"pair", 2};
  check_shape(cursor, {{"S", view.streams}, {"W", view.windows}, {"H", view.heads}, width},
              "use the cursor that was made with the pool");
  check_contiguous(k, "pools are used as they were made");
  check_contiguous(v, "pools are used as they were made");
  check_contiguous(cursor, "pass the whole cursor of one layer");
}

Rows rows_of(const std::optional<Tensor>& streams, const PoolArgs& pool) {
  if (!streams) return {nullptr, pool.view.streams};
  const Arg arg("streams", *streams);
  check_dtype(arg, aoti_torch_dtype_int64(), "convert it with .long()");
  SVM_CHECK(arg.rank == 1, "streams: expected shape [B], got %s; pass one stream id a row", shape_text(arg).c_str());
  check_same_device(arg, pool.k);
  check_contiguous(arg, "call .contiguous()");
  return {static_cast<const int64_t*>(arg.data), arg.sizes[0]};
}

const int64_t* step_of(const Tensor& step, const PoolArgs& pool) {
  const Arg arg("step", step);
  check_dtype(arg, aoti_torch_dtype_int64(), "convert it with .long()");
  check_shape(arg, {{"S", pool.view.streams}}, "it holds the step of every stream of the pool");
  check_same_device(arg, pool.k);
  check_contiguous(arg, "call .contiguous()");
  return static_cast<const int64_t*>(arg.data);
}

const int32_t* real_of(const std::optional<Tensor>& real, const Arg& like, int64_t windows) {
  if (!real) return nullptr;
  const Arg arg("real", *real);
  check_dtype(arg, aoti_torch_dtype_int32(), "convert it with .int()");
  check_shape(arg, {{"W", windows}, {"pair", 2}}, "it holds the real rows and columns of every window");
  check_same_device(arg, like);
  check_contiguous(arg, "call .contiguous()");
  return static_cast<const int32_t*>(arg.data);
}

void check_streams(const Rows& rows, const PoolView& pool) {
  if (!rows.streams) return;
  for (int64_t row = 0; row < rows.batch; ++row) {
    const int64_t stream = rows.streams[row];
    if (stream < 0 || stream >= pool.streams) {
      fail_index("streams: expected ids from 0 to %lld, got %lld in row %lld; the pool has %lld streams",
                 static_cast<long long>(pool.streams - 1), static_cast<long long>(stream), static_cast<long long>(row),
                 static_cast<long long>(pool.streams));
    }
  }
}

void check_distinct(const Rows& rows, const PoolView& pool) {
  if (!rows.streams || rows.batch < 2) return;
  static thread_local std::vector<bool> seen;
  seen.assign(pool.streams, false);
  for (int64_t row = 0; row < rows.batch; ++row) {
    const int64_t stream = rows.streams[row];
    SVM_CHECK(!seen[stream],
              "streams: expected every id once, got %lld again in row %lld; a stream has one frame a step",
              static_cast<long long>(stream), static_cast<long long>(row));
    seen[stream] = true;
  }
}

void check_cursor(const Rows& rows, const PoolView& pool) {
  const int64_t units = pool.windows * pool.heads;
  for (int64_t row = 0; row < rows.batch; ++row) {
    const RingCursor* cursor = pool.cursor + rows.stream(row) * units;
    bool whole = true;
    for (int64_t unit = 0; unit < units; ++unit) whole &= cursor[unit].count >= 0;
    SVM_CHECK(whole, "cursor: expected counts of at least 0, got a negative one for stream %lld; reset the stream",
              static_cast<long long>(rows.stream(row)));
  }
}

void check_step(const int64_t* step, const Rows& rows, const PoolView& pool) {
  const int64_t units = pool.windows * pool.heads;
  for (int64_t row = 0; row < rows.batch; ++row) {
    const int64_t stream = rows.stream(row);
    const int64_t now = step[stream];
    const RingCursor* cursor = pool.cursor + stream * units;
    int64_t newest = 0;
    for (int64_t unit = 0; unit < units; ++unit) newest = std::max(newest, cursor[unit].mark);
    SVM_CHECK(now >= newest,
              "step: expected at least %lld for stream %lld, whose newest frame that is, got %lld; "
              "reset the stream to start again",
              static_cast<long long>(newest), static_cast<long long>(stream), static_cast<long long>(now));
  }
}

void check_real(const int32_t* real, int64_t windows, int64_t side) {
  if (!real) return;
  for (int64_t i = 0; i < 2 * windows; ++i) {
    SVM_CHECK(real[i] >= 0 && real[i] <= side,
              "real: expected 0 to %lld rows and columns, got %d for window %lld; count tokens, not pixels",
              static_cast<long long>(side), real[i], static_cast<long long>(i / 2));
  }
}

Dtype dtype_of(const Arg& arg) {
  if (arg.dtype == aoti_torch_dtype_float32()) return Dtype::kFloat32;
  if (arg.dtype == aoti_torch_dtype_bfloat16()) return Dtype::kBFloat16;
  if (arg.dtype == aoti_torch_dtype_float16()) return Dtype::kFloat16;
  if (arg.dtype == aoti_torch_dtype_float64()) return Dtype::kFloat64;
  fail_value("%s: expected a floating point type, got %s; convert it with .float()", arg.name, dtype_text(arg.dtype));
}

Evict evict_of(int64_t code) {
  SVM_CHECK(code >= 0 && code <= 2, "evict: expected 0 (merge), 1 (fifo) or 2 (clear), got %lld; pass one of them",
            static_cast<long long>(code));
  return static_cast<Evict>(code);
}

TokenView token_view(const Arg& arg, const PoolArgs& pool, int64_t batch) {
  check_same_device(arg, pool.k);
  check_shape(arg,
              {{"B*W", batch * pool.view.windows},
               {"H", pool.view.heads},
               {"n*n", pool.view.side * pool.view.side},
               {"D", pool.view.dim}},
              "B is the length of streams, or all streams without it; the rest follows the pool");
  return {arg.data, dtype_of(arg), arg.strides[0], arg.strides[1], arg.strides[2], arg.strides[3]};
}

void check_cpu_dtype(const Arg& arg, Dtype pool) {
  const Dtype dtype = dtype_of(arg);
  if (pool == Dtype::kFloat64) {
    SVM_CHECK(dtype == Dtype::kFloat64, "%s: expected float64 like the pool, got %s; convert it with .double()",
              arg.name, dtype_text(arg.dtype));
  } else {
    SVM_CHECK(dtype == Dtype::kFloat32 || dtype == Dtype::kBFloat16,
              "%s: expected float32 or bfloat16, got %s; convert it or make a pool of another type", arg.name,
              dtype_text(arg.dtype));
  }
}

void check_like(const Arg& arg, const Arg& other) {
  SVM_CHECK(arg.dtype == other.dtype, "%s: expected %s like %s, got %s; convert it", arg.name, dtype_text(other.dtype),
            other.name, dtype_text(arg.dtype));
}

Padding padding_of(const int32_t* real, const std::optional<Tensor>& pad_k, const std::optional<Tensor>& pad_v,
                   const Arg& like, int64_t heads, int64_t dim) {
  Padding padding = {real, nullptr, nullptr, Dtype::kFloat32, 0, 0};
  SVM_CHECK(pad_k.has_value() == pad_v.has_value(), "%s: expected it together with %s, got None; pass both or none",
            pad_k ? "pad_v" : "pad_k", pad_k ? "pad_k" : "pad_v");
  if (!pad_k) return padding;
  const Arg key("pad_k", *pad_k);
  const Arg value("pad_v", *pad_v);
  check_like(value, key);
  padding.k = key.data;
  padding.v = value.data;
  padding.dtype = dtype_of(key);
  padding.stride_k_head = checked_pad_stride(key, like, heads, dim);
  padding.stride_v_head = checked_pad_stride(value, like, heads, dim);
  return padding;
}

Tensor new_tensor(const Arg& like, int32_t dtype, std::initializer_list<int64_t> sizes) {
  int64_t strides[kMaxRank];
  int64_t stride = 1;
  for (int64_t i = static_cast<int64_t>(sizes.size()) - 1; i >= 0; --i) {
    strides[i] = stride;
    stride *= std::max<int64_t>(sizes.begin()[i], 1);
  }
  return new_strided(like, dtype, sizes.begin(), strides, static_cast<int64_t>(sizes.size()));
}

Tensor new_transposed(const Arg& like, std::initializer_list<int64_t> sizes) {
  const int64_t rank = static_cast<int64_t>(sizes.size());
  int64_t strides[kMaxRank];
  int64_t stride = 1;
  const auto place = [&](int64_t i) {
    strides[i] = stride;
    stride *= std::max<int64_t>(sizes.begin()[i], 1);
  };
  place(rank - 1);
  place(rank - 3);  // the two that are exchanged
  place(rank - 2);
  for (int64_t i = rank - 4; i >= 0; --i) place(i);
  return new_strided(like, like.dtype, sizes.begin(), strides, rank);
}

int32_t lse_dtype(const Arg& q) { return q.dtype == aoti_torch_dtype_float64() ? q.dtype : aoti_torch_dtype_float32(); }

const void* lse_of(const Tensor& lse, const Arg& q, std::initializer_list<Dim> dims) {
  const Arg arg("lse", lse);
  check_same_device(arg, q);
  check_dtype(arg, lse_dtype(q), "pass what the forward has returned with for_backward");
  check_shape(arg, dims, "pass what the forward has returned with for_backward");
  check_contiguous(arg, "pass what the forward has returned with for_backward");
  return arg.data;
}

}  // namespace svm
