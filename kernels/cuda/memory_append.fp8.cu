#include "cuda/memory_append.cuh"

namespace svm::cuda {
namespace {

// What becomes of a frame's K and V: how great their numbers are, and from that the exponents.
struct Greatest {
  uint32_t k, v;  // magnitude_of

  __device__ SlotExponents exponents() const { return {exponent_for(k), exponent_for(v)}; }
};

// The average of the two stored frames that a merge makes one of.
template <int kCount>
struct Merge {
  const Fp8 *merged, *oldest;
  float merged_unit, oldest_unit;

  __device__ void read(int64_t place, float (&average)[kCount]) const {
    const auto a = *reinterpret_cast<const Pack<Fp8, kCount>*>(merged + place);
    const auto b = *reinterpret_cast<const Pack<Fp8, kCount>*>(oldest + place);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      average[i] = 0.5f * (merged_unit * to_float(a.value[i]) + oldest_unit * to_float(b.value[i]));
    }
  }

  __device__ uint32_t greatest(int64_t place) const {
    float average[kCount];
    read(place, average);
    uint32_t most = 0;
#pragma unroll
    for (float x : average) most = max(most, magnitude_of(x));
    return most;
  }
};

template <typename T, int kCount>
__device__ uint32_t greatest_of(const Pack<T, kCount>& pack) {
  uint32_t most = 0;
#pragma unroll
  for (T x : pack.value) most = max(most, magnitude_of(to_float(x)));
  return most;
}

template <int kCount>
__device__ void store_codes(Fp8* slot, const float (&numbers)[kCount], int32_t exponent) {
  Pack<Fp8, kCount> codes;
#pragma unroll
  for (int i = 0; i < kCount; ++i) codes.value[i] = code_of(numbers[i], exponent);
  *reinterpret_cast<Pack<Fp8, kCount>*>(slot) = codes;
}

template <typename T, int kCount>
__device__ void store_codes(Fp8* slot, const Pack<T, kCount>& pack, int32_t exponent) {
  float numbers[kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i) numbers[i] = to_float(pack.value[i]);
  store_codes(slot, numbers, exponent);
}

// The greatest of a block, left in shared memory that was 0; a barrier must follow.
__device__ inline void gather(uint32_t* into, uint32_t mine) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) mine = max(mine, __shfl_xor_sync(0xffffffffu, mine, step));
  if (threadIdx.x % kWarp == 0) atomicMax(into, mine);
}

}  // namespace

// Twice through the frame, the second time out of the caches: an exponent needs all numbers, a code its exponent.
template <typename In, int kCount>
__global__ void __launch_bounds__(kMaxThreads, 1) append_fp8_kernel(const __grid_constant__ AppendParams params) {
  extern __shared__ __align__(kTileAlign) char dynamic_shared[];
  Greatest* found = reinterpret_cast<Greatest*>(dynamic_shared);  // of the new frame and of the merged one
  AppendUnit<In, Fp8, kCount> unit(params);
  if (!unit.find()) return;
  const AppendPlan& plan = unit.plan;
  const bool merges = plan.merge_slot >= 0;
  const int64_t newest = unit.slot(plan.slot), merged = unit.slot(plan.merge_slot);
  SlotExponents* exponents = slot_exponents(unit.cursor());
  const SlotExponents oldest_of = merges ? exponents[plan.slot] : SlotExponents{};
  const SlotExponents merged_of = merges ? exponents[plan.merge_slot] : SlotExponents{};
  const Merge<kCount> merge_k = {unit.k_unit + merged, unit.k_unit + newest, unit_of(merged_of.k),
                                 unit_of(oldest_of.k)};
  const Merge<kCount> merge_v = {unit.v_unit + merged, unit.v_unit + newest, unit_of(merged_of.v),
                                 unit_of(oldest_of.v)};
  if (threadIdx.x < 2) found[threadIdx.x] = {};
  __syncthreads();

  Greatest mine = {}, mine_merged = {};
  unit.for_packs([&](const Pack<In, kCount>& k, const Pack<In, kCount>& v, int64_t place) {
    mine = {max(mine.k, greatest_of(k)), max(mine.v, greatest_of(v))};
    if (!merges) return;
    mine_merged = {max(mine_merged.k, merge_k.greatest(place)), max(mine_merged.v, merge_v.greatest(place))};
  });
  gather(&found[0].k, mine.k);
  gather(&found[0].v, mine.v);
  gather(&found[1].k, mine_merged.k);
  gather(&found[1].v, mine_merged.v);
  __syncthreads();

  const SlotExponents of_new = found[0].exponents(), of_merged = found[1].exponents();
  unit.for_packs([&](const Pack<In, kCount>& k, const Pack<In, kCount>& v, int64_t place) {
    if (merges) {
      float average[kCount];
      merge_k.read(place, average);
      store_codes(unit.k_unit + merged + place, average, of_merged.k);
      merge_v.read(place, average);
      store_codes(unit.v_unit + merged + place, average, of_merged.v);
    }
    store_codes(unit.k_unit + newest + place, k, of_new.k);
    store_codes(unit.v_unit + newest + place, v, of_new.v);
  });
  if (threadIdx.x != 0) return;  // everybody has read cursor and exponents before the barrier
  *unit.cursor() = plan.after;
  exponents[plan.slot] = of_new;
  if (merges) exponents[plan.merge_slot] = of_merged;
}

namespace {

template <typename In, typename, int kCount>
struct AppendFp8Kernel {
  static constexpr int64_t kSharedBytes = 2 * sizeof(Greatest);
  static auto get() { return append_fp8_kernel<In, kCount>; }
};

}  // namespace

template <typename In>
cudaError_t append_codes(const AppendParams& params, Target target) {
  return launch_append<AppendFp8Kernel, In, Fp8>(params, target);
}

template cudaError_t append_codes<float>(const AppendParams&, Target);
template cudaError_t append_codes<__nv_bfloat16>(const AppendParams&, Target);
template cudaError_t append_codes<__half>(const AppendParams&, Target);

}  // namespace svm::cuda
