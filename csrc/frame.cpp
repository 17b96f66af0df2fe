#include "frame.h"

namespace svm {

CpuFrame::CpuFrame(const Tensor& k_pool, const Tensor& v_pool, const Tensor& cursor,
                   const std::optional<Tensor>& streams, const std::optional<Tensor>& real)
    : pool(k_pool, v_pool, cursor, PoolLayout::kColumns),
      rows(rows_of(streams, pool)),
      real(real_of(real, pool.k, pool.view.windows)) {
  check_streams(rows, pool.view);
  check_cursor(rows, pool.view);
  check_real(this->real, pool.view.windows, pool.view.side);
}

const cpu::Kernels& CpuFrame::kernels(Dtype io) const {
  return cpu::kernels_for(pool.view.dtype, io, pool.view.side, pool.view.dim);
}

double CpuFrame::append_operations() const {
  const double numbers_moved = 2.0 * static_cast<double>(pool.view.side * pool.view.side * pool.view.dim);
  return 8.0 * numbers_moved;  // moving one costs as much as several operations on it
}

double CpuFrame::attend_operations() const {
  const PoolView& view = pool.view;
  return 8.0 * static_cast<double>(view.side * view.side * view.side * view.frames * view.dim);
}

AppendParams append_params(const CpuFrame& frame, const Tensor& k, const Tensor& v, const Tensor& step, int64_t evict) {
  const Arg key("k", k);
  const Arg value("v", v);
  AppendParams params;
  params.pool = frame.pool.view;
  params.k = token_view(key, frame.pool, frame.rows.batch);
  params.v = token_view(value, frame.pool, frame.rows.batch);
  check_cpu_dtype(key, frame.pool.view.dtype);
  check_like(value, key);
  params.step = step_of(step, frame.pool);
  params.streams = frame.rows.streams;
  params.batch = frame.rows.batch;
  params.real = frame.real;
  params.evict = evict_of(evict);
  check_distinct(frame.rows, frame.pool.view);
  check_step(params.step, frame.rows, frame.pool.view);
  return params;
}

AttendParams attend_params(const CpuFrame& frame, const Arg& q, const std::optional<Tensor>& pad_k,
                           const std::optional<Tensor>& pad_v, double scale) {
  const PoolView& view = frame.pool.view;
  AttendParams params = {};
  params.pool = view;
  params.q = token_view(q, frame.pool, frame.rows.batch);
  check_cpu_dtype(q, view.dtype);
  params.streams = frame.rows.streams;
  params.batch = frame.rows.batch;
  params.padding = padding_of(frame.real, pad_k, pad_v, frame.pool.k, view.heads, view.dim);
  params.scale = scale;
  return params;
}

Tensor new_frame(const CpuFrame& frame, const Arg& q) {
  const PoolView& view = frame.pool.view;
  return new_transposed(q, {frame.rows.batch * view.windows, view.heads, view.side * view.side, view.dim});
}

TokenView frame_view(const CpuFrame& frame, const Tensor& tensor, Dtype dtype) {
  const PoolView& view = frame.pool.view;
  const int64_t token = view.heads * view.dim;
  return {tensor.data_ptr(), dtype, view.side * view.side * token, view.dim, token, 1};
}

}  // namespace svm
