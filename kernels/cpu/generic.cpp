// Plain scalar kernels for every type and shape: the ones to read first.
//
// They compute in double for fp64 and in float for everything else. An attend first copies the keys and values that it
// needs into scratch memory, [frame, token, dim] in the type of the arithmetic, so that the attention itself
// (generic/attention.h) knows neither memory layouts nor types.
#define SVM_ISA generic

#include "cpu/generic/attention.h"
#include "cpu/kernels.h"
#include "cpu/nms.h"
#include "cpu/scratch.h"

namespace svm::cpu::generic {
namespace {

// ---- scratch -------------------------------------------------------------------------------------------------------

template <class Number>
struct Room {
  Number* keys;    // [frames, tokens, dim]
  Number* values;  // the same
  Number* key;     // [dim] of one token
  Number* value;   // [dim]
  Number* query;   // what one query needs
};

template <class Number>
Room<Number> make_room(int64_t frames, int64_t side, int64_t dim) {
  const int64_t memory = frames * side * side * dim;
  const int64_t query = 4 * dim + frames * side + 1;
  Scratch& scratch = thread_scratch();
  scratch.begin(2 * Scratch::room<Number>(memory) + 2 * Scratch::room<Number>(dim) + Scratch::room<Number>(query));
  Room<Number> room;
  room.keys = scratch.take<Number>(memory);
  room.values = scratch.take<Number>(memory);
  room.key = scratch.take<Number>(dim);
  room.value = scratch.take<Number>(dim);
  room.query = scratch.take<Number>(query);
  return room;
}

// Whatever is not picture is not copied: nobody reads it, and in a pool it was never written.
template <class Number>
void gather(const PoolView& pool, const UnitPool& unit, int64_t frames, const Picture& picture, Room<Number>& room) {
  for (int64_t t = 0; t < frames; ++t) {
    for (int64_t r = 0; r < picture.rows; ++r) {
      for (int64_t c = 0; c < picture.columns; ++c) {
        const int64_t to = ((t * pool.side + r) * pool.side + c) * pool.dim;
        for (int64_t d = 0; d < pool.dim; ++d) {
          room.keys[to + d] = load<Number>(pool.k, pool.dtype, unit.key(r, t, c, d));
          room.values[to + d] = load<Number>(pool.v, pool.dtype, unit.value(r, t, c, d));
        }
      }
    }
  }
}

template <class Number>
void gather(const ClipShape& shape, const ClipView& k, const ClipView& v, const Unit& unit, const Picture& picture,
            Room<Number>& room) {
  const int64_t tokens = shape.side * shape.side;
  for (int64_t t = 0; t < shape.clip_frames; ++t) {
    const UnitTokens keys(k, t, unit), values(v, t, unit);
    for (int64_t token = 0; token < tokens; ++token) {
      if (!picture.has(token / shape.side, token % shape.side)) continue;
      keys.read(token, shape.dim, room.keys + (t * tokens + token) * shape.dim);
      values.read(token, shape.dim, room.values + (t * tokens + token) * shape.dim);
    }
  }
}

// The frames [first, first + count) of what was gathered.
template <class Number>
Frames<Number> frames_of(const Room<Number>& room, int64_t first, int64_t count, int64_t side, int64_t dim,
                         const Padding& padding, int64_t head) {
  const int64_t start = first * side * side * dim;
  if (!padding.k) return {room.keys + start, room.values + start, count, side, dim, nullptr, nullptr};
  for (int64_t d = 0; d < dim; ++d) {
    room.key[d] = load<Number>(padding.k, padding.dtype, head * padding.stride_k_head + d);
    room.value[d] = load<Number>(padding.v, padding.dtype, head * padding.stride_v_head + d);
  }
  return {room.keys + start, room.values + start, count, side, dim, room.key, room.value};
}

// ---- memory --------------------------------------------------------------------------------------------------------

// One number of the new frame into its place, after the eviction has made room there.
template <class Number>
void put(void* pool, Dtype dtype, int64_t place, int64_t merge_place, bool merges, Number number) {
  if (merges) {
    const Number mean = (load<Number>(pool, dtype, merge_place) + load<Number>(pool, dtype, place)) / 2;
    store(pool, dtype, merge_place, mean);
  }
  store(pool, dtype, place, number);
}

template <class Number>
void append_unit(const AppendParams& params, int64_t number) {
  const PoolView& pool = params.pool;
  const Unit unit(number, pool.windows, pool.heads);
  const UnitPool memory(pool, unit, params.streams);
  const Picture picture(params.real, unit.window, pool.side);
  const UnitTokens k(params.k, pool.windows, unit), v(params.v, pool.windows, unit);
  const AppendPlan plan = plan_append(*memory.cursor, params.step[memory.stream], pool.frames, params.evict);
  const bool merges = plan.merge_slot >= 0;
  const Room<Number> room = make_room<Number>(0, pool.side, pool.dim);
  for (int64_t r = 0; r < picture.rows; ++r) {
    for (int64_t c = 0; c < picture.columns; ++c) {
      k.read(r * pool.side + c, pool.dim, room.key);
      v.read(r * pool.side + c, pool.dim, room.value);
      for (int64_t d = 0; d < pool.dim; ++d) {
        put(pool.k, pool.dtype, memory.key(r, plan.slot, c, d), memory.key(r, plan.merge_slot, c, d), merges,
            room.key[d]);
        put(pool.v, pool.dtype, memory.value(r, plan.slot, c, d), memory.value(r, plan.merge_slot, c, d), merges,
            room.value[d]);
      }
    }
  }
  *memory.cursor = plan.after;
}

template <class Number>
void attend_unit(const AttendParams& params, int64_t number) {
  const PoolView& pool = params.pool;
  const Unit unit(number, pool.windows, pool.heads);
  const UnitPool memory(pool, unit, params.streams);
  const Picture picture(params.padding.real, unit.window, pool.side);
  const int64_t held = held_frames(memory.cursor->count, pool.frames);
  Room<Number> room = make_room<Number>(held, pool.side, pool.dim);
  gather(pool, memory, held, picture, room);
  const Frames<Number> frames = frames_of(room, 0, held, pool.side, pool.dim, params.padding, unit.head);
  const int64_t lse_start = number * 2 * pool.side * pool.side;
  const FrameOutput<Number> output = {UnitTokens(params.out, pool.windows, unit),
                                      UnitTokens(params.out_column, pool.windows, unit),
                                      params.lse ? static_cast<Number*>(params.lse) + lse_start : nullptr};
  attend_frame(UnitTokens(params.q, pool.windows, unit), frames, picture, static_cast<Number>(params.scale), room.query,
               output);
}

template <class Number>
void attend_backward_unit(const AttendBackwardParams& params, int64_t number) {
  const PoolView& pool = params.pool;
  const Unit unit(number, pool.windows, pool.heads);
  const UnitPool memory(pool, unit, params.streams);
  const Picture picture(params.padding.real, unit.window, pool.side);
  const int64_t held = held_frames(memory.cursor->count, pool.frames);
  Room<Number> room = make_room<Number>(held, pool.side, pool.dim);
  gather(pool, memory, held, picture, room);
  const Frames<Number> frames = frames_of(room, 0, held, pool.side, pool.dim, params.padding, unit.head);
  const auto tokens = [&](const TokenView& view) { return UnitTokens(view, pool.windows, unit); };
  const FrameGradient<Number> given = {tokens(params.dout), tokens(params.q), tokens(params.dq),
                                       static_cast<const Number*>(params.lse) + number * 2 * pool.side * pool.side};
  attend_frame_backward(given, frames, picture, static_cast<Number>(params.scale), room.query);
}

// ---- clips ---------------------------------------------------------------------------------------------------------

// Calls visit(t, the frames that t sees, where t's lse starts, scratch) for every frame of one unit's clip.
template <class Number, class Params, class Visit>
void for_each_frame(const Params& params, const Unit& unit, const Picture& picture, const Visit& visit) {
  const ClipShape& shape = params.shape;
  Room<Number> room = make_room<Number>(shape.clip_frames, shape.side, shape.dim);
  gather(shape, params.k, params.v, unit, picture, room);
  for (int64_t t = 0; t < shape.clip_frames; ++t) {
    const int64_t first = first_frame(t, shape.memory_frames, shape.evict);
    const Frames<Number> seen = frames_of(room, first, t + 1 - first, shape.side, shape.dim, params.padding, unit.head);
    const int64_t window = (unit.row * shape.clip_frames + t) * shape.windows + unit.window;
    visit(t, seen, (window * shape.heads + unit.head) * 2 * shape.side * shape.side, room.query);
  }
}

template <class Number>
void clip_attend_unit(const ClipParams& params, int64_t number) {
  const Unit unit(number, params.shape.windows, params.shape.heads);
  const Picture picture(params.padding.real, unit.window, params.shape.side);
  const Number scale = static_cast<Number>(params.scale);
  Number* lse = static_cast<Number*>(params.lse);
  for_each_frame<Number>(params, unit, picture, [&](int64_t t, const Frames<Number>& seen, int64_t at, Number* room) {
    const FrameOutput<Number> output = {UnitTokens(params.out, t, unit), UnitTokens(params.out_column, t, unit),
                                        lse ? lse + at : nullptr};
    attend_frame(UnitTokens(params.q, t, unit), seen, picture, scale, room, output);
  });
}

template <class Number>
void clip_attend_backward_unit(const ClipBackwardParams& params, int64_t number) {
  const Unit unit(number, params.shape.windows, params.shape.heads);
  const Picture picture(params.padding.real, unit.window, params.shape.side);
  const Number scale = static_cast<Number>(params.scale);
  const Number* lse = static_cast<const Number*>(params.lse);
  for_each_frame<Number>(params, unit, picture, [&](int64_t t, const Frames<Number>& seen, int64_t at, Number* room) {
    const auto tokens = [&](const ClipView& view) { return UnitTokens(view, t, unit); };
    const FrameGradient<Number> given = {tokens(params.dout), tokens(params.q), tokens(params.dq), lse + at};
    attend_frame_backward(given, seen, picture, scale, room);
  });
}

// ---- the table -----------------------------------------------------------------------------------------------------

void memory_append(const AppendParams& params, int64_t begin, int64_t end) {
  const bool fp64 = params.pool.dtype == Dtype::kFloat64;
  for (int64_t unit = begin; unit < end; ++unit) {
    fp64 ? append_unit<double>(params, unit) : append_unit<float>(params, unit);
  }
}

void memory_attend(const AttendParams& params, int64_t begin, int64_t end) {
  const bool fp64 = params.pool.dtype == Dtype::kFloat64;
  for (int64_t unit = begin; unit < end; ++unit) {
    fp64 ? attend_unit<double>(params, unit) : attend_unit<float>(params, unit);
  }
}

void memory_attend_backward(const AttendBackwardParams& params, int64_t begin, int64_t end) {
  const bool fp64 = params.pool.dtype == Dtype::kFloat64;
  for (int64_t unit = begin; unit < end; ++unit) {
    fp64 ? attend_backward_unit<double>(params, unit) : attend_backward_unit<float>(params, unit);
  }
}

void stream_step(const StepParams& params, int64_t begin, int64_t end) {
  for (int64_t unit = begin; unit < end; ++unit) {
    memory_append(params.append, unit, unit + 1);
    memory_attend(params.attend, unit, unit + 1);
  }
}

void clip_attend(const ClipParams& params, int64_t begin, int64_t end) {
  const bool fp64 = params.q.dtype == Dtype::kFloat64;
  for (int64_t unit = begin; unit < end; ++unit) {
    fp64 ? clip_attend_unit<double>(params, unit) : clip_attend_unit<float>(params, unit);
  }
}

void clip_attend_backward(const ClipBackwardParams& params, int64_t begin, int64_t end) {
  const bool fp64 = params.q.dtype == Dtype::kFloat64;
  for (int64_t unit = begin; unit < end; ++unit) {
    fp64 ? clip_attend_backward_unit<double>(params, unit) : clip_attend_backward_unit<float>(params, unit);
  }
}

double multiply_adds(int64_t rounds) {
  constexpr int kChains = 8;  // independent sums, so that none waits for its own last result
  float sums[kChains] = {};
  volatile float start = 0.5f;  // a value that the compiler cannot foresee
  const float a = start, b = start;
  for (int64_t round = 0; round < rounds; ++round) {
    for (float& sum : sums) sum = sum * a + b;
  }
  for (const float sum : sums) start = sum;
  return 2.0 * kChains * static_cast<double>(rounds);
}

}  // namespace
}  // namespace svm::cpu::generic

namespace svm::cpu {

const Kernels kGeneric = {
    "generic",
    generic::memory_append,
    generic::memory_attend,
    generic::memory_attend_backward,
    generic::stream_step,
    generic::clip_attend,
    generic::clip_attend_backward,
    generic::nms,
    generic::multiply_adds,
    nullptr,
};

}  // namespace svm::cpu
