#include "frame.h"

namespace svm {

Frame::Frame(const Tensor& k_pool, const Tensor& v_pool, const Tensor& cursor, const std::optional<Tensor>& streams,
             const std::optional<Tensor>& real, PoolLayout layout)
    : pool(k_pool, v_pool, cursor, layout),
      rows(rows_of(streams, pool)),
      real(real_of(real, pool.k, pool.view.windows)) {}

AppendParams Frame::append_params(const Tensor& k, const Tensor& v, const Tensor& step, int64_t evict) const {
  const Arg key("k", k);
  const Arg value("v", v);
  AppendParams params;
  params.pool = pool.view;
  params.k = token_view(key, pool, rows.batch);
  params.v = token_view(value, pool, rows.batch);
  check_frame(key);
  check_like(value, key);
  params.step = step_of(step, pool);
  params.streams = rows.streams;
  params.batch = rows.batch;
  params.real = real;
  params.evict = evict_of(evict);
  check_values(params);
  return params;
}

AttendParams Frame::attend_params(const Arg& q, const std::optional<Tensor>& pad_k, const std::optional<Tensor>& pad_v,
                                  double scale) const {
  AttendParams params = {};
  params.pool = pool.view;
  params.q = token_view(q, pool, rows.batch);
  check_query(q, pad_k);
  params.streams = rows.streams;
  params.batch = rows.batch;
  params.padding = padding_of(real, pad_k, pad_v, pool.k, pool.view.heads, pool.view.dim);
  params.scale = scale;
  return params;
}

TokenView Frame::like_query(const char* name, const Tensor& tensor, const Arg& q) const {
  const Arg arg(name, tensor);
  check_like(arg, q);
  return token_view(arg, pool, rows.batch);
}

AttendBackwardParams Frame::backward_params(const AttendParams& forward, const Arg& q, const Tensor& dout,
                                            const Tensor& out, const Tensor& out_column, const Tensor& lse) const {
  AttendBackwardParams params = {};
  params.pool = forward.pool;
  params.dout = like_query("dout", dout, q);
  params.q = forward.q;
  params.out = like_query("out", out, q);
  params.out_column = like_query("out_column", out_column, q);
  const int64_t* size = q.sizes;
  params.lse = lse_of(lse, q, {{"B*W", size[0]}, {"H", size[1]}, {"plane", 2}, {"n*n", size[2]}});
  params.streams = forward.streams;
  params.batch = forward.batch;
  params.padding = forward.padding;
  params.scale = forward.scale;
  return params;
}

StepParams Frame::step_params(const Arg& q, const Tensor& k, const Tensor& v, const Tensor& step,
                              const std::optional<Tensor>& pad_k, const std::optional<Tensor>& pad_v, double scale,
                              int64_t evict) const {
  const StepParams params = {append_params(k, v, step, evict), attend_params(q, pad_k, pad_v, scale)};
  check_like(Arg("k", k), q);
  return params;
}

Tensor Frame::new_output(const Arg& q, TokenView& view) const {
  const int64_t tokens = pool.view.side * pool.view.side, token = pool.view.heads * pool.view.dim;
  Tensor out = new_transposed(q, {rows.batch * pool.view.windows, pool.view.heads, tokens, pool.view.dim});
  view = {out.data_ptr(), dtype_of(q), tokens * token, pool.view.dim, token, 1};
  return out;
}

Saved Frame::new_results(const Arg& q, AttendParams& params, bool for_backward) const {
  Tensor out = new_output(q, params.out);
  if (!for_backward) return {std::move(out), std::nullopt, std::nullopt};
  Tensor out_column = new_output(q, params.out_column);
  Tensor lse = new_tensor(q, lse_dtype(q), {q.sizes[0], q.sizes[1], 2, q.sizes[2]});
  params.lse = lse.data_ptr();
  return {std::move(out), std::move(out_column), std::move(lse)};
}

}  // namespace svm
