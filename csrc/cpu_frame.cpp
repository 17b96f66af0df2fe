#include "cpu_frame.h"

namespace svm {

CpuFrame::CpuFrame(const Tensor& k_pool, const Tensor& v_pool, const Tensor& cursor,
                   const std::optional<Tensor>& streams, const std::optional<Tensor>& real)
    : Frame(k_pool, v_pool, cursor, streams, real, PoolLayout::kColumns) {
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

void CpuFrame::check_frame(const Arg& tokens) const { check_cpu_dtype(tokens, pool.view.dtype); }

void CpuFrame::check_query(const Arg& q, const std::optional<Tensor>&) const { check_cpu_dtype(q, pool.view.dtype); }

void CpuFrame::check_values(const AppendParams& params) const {
  check_distinct(rows, pool.view);
  check_step(params.step, rows, pool.view);
}

}  // namespace svm
