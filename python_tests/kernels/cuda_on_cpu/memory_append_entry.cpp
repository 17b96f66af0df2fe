// memory_append's kernel behind a C function, for ctypes.
#include "cuda/memory_append.cu"

extern "C" const char* memory_append_on_cpu(void* k_pool, void* v_pool, void* cursor, const int64_t* pool_sizes,
                                            void* k, const int64_t* k_strides, void* v, const int64_t* v_strides,
                                            const int64_t* step, const int64_t* streams, int64_t batch,
                                            const int32_t* real, const int32_t* codes) {
  using namespace svm;
  const auto [frame_type, pool_type, evict] = reinterpret_cast<const int32_t (&)[3]>(*codes);
  const auto view = [&](void* data, const int64_t* s) {
    return TokenView{data, static_cast<Dtype>(frame_type), s[0], s[1], s[2], s[3]};
  };
  AppendParams params;
  params.pool = {k_pool,
                 v_pool,
                 static_cast<RingCursor*>(cursor),
                 static_cast<Dtype>(pool_type),
                 pool_sizes[0],
                 pool_sizes[1],
                 pool_sizes[2],
                 pool_sizes[3],
                 pool_sizes[4],
                 pool_sizes[5]};
  params.k = view(k, k_strides);
  params.v = view(v, v_strides);
  params.step = step;
  params.streams = streams;
  params.batch = batch;
  params.real = real;
  params.evict = static_cast<Evict>(evict);
  return cuda::memory_append(params, {0, nullptr});
}
