// A GPU's block of threads on one CPU thread: every thread is a fiber with a stack of its own, and one runs until it
// has to wait for others, at a barrier of the block or of its warp. Who runs next is a choice of the test: an order in
// which a result changes is an order in which a barrier is missing.
#pragma once

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

namespace fibers {

constexpr int kLanes = 32;
constexpr size_t kStack = 256 << 10;

// In which order warps and the lanes within one take turns.
enum class Order { kUp, kDown, kRandom };

struct Exchange {
  uint32_t in[kLanes][12];
  uint32_t out[kLanes][8];
};

struct Warp {
  int arrived = 0, alive = 0;
  uint64_t round = 0;
  const char* what = nullptr;  // the instruction that the lanes wait at
  Exchange exchange[2];        // by round: who is ahead is so by one round at most
};

enum class State { kReady, kAtWarp, kAtBlock, kDone };

struct Fiber {
  ucontext_t start;
  jmp_buf place;
  void* stack = nullptr;
  bool begun = false;
  State state = State::kDone;
};

inline std::vector<Fiber> all;
inline std::vector<Warp> warps;
inline int count = 0, current = 0, at_block = 0, alive = 0;
inline int votes = 0, counted = 0;  // of the threads at the block's barrier; of the round before
inline jmp_buf scheduler;
inline std::function<void()> body;
inline std::string fault;
inline Order order = Order::kUp;
inline uint64_t dice = 1;
inline bool deaf = false;                       // to the block's barriers
inline std::function<void(int)> before_resume;  // makes threadIdx the fiber's own

inline uint64_t throw_dice() {
  dice ^= dice << 13;
  dice ^= dice >> 7;
  return dice ^= dice << 17;
}

// Back to the scheduler, for good if something is wrong.
inline void leave() { _longjmp(scheduler, 1); }

inline void fail(const std::string& words) {
  if (fault.empty()) fault = "thread " + std::to_string(current) + ": " + words;
  leave();
}

inline void wait(State state) {
  all[current].state = state;
  if (_setjmp(all[current].place) == 0) leave();
}

inline void wake(int begin, int end, State from) {
  for (int i = begin; i < end; ++i) {
    if (all[i].state == from) all[i].state = State::kReady;
  }
}

inline void finish_block_round() {
  counted = votes;
  at_block = votes = 0;
  wake(0, count, State::kAtBlock);
}

inline void block_barrier() {
  if (deaf) return;
  if (++at_block == alive) {
    finish_block_round();
  } else {
    wait(State::kAtBlock);
  }
}

// All lanes of a warp meet; the last to come computes for all. What a lane brings and takes are words.
inline const uint32_t* meet(const char* what, const uint32_t* words, int number, void (*compute)(Exchange&)) {
  const int lane = current % kLanes;
  Warp& warp = warps[current / kLanes];
  if (warp.alive != kLanes) fail(std::string(what) + ": some lanes of the warp have left");
  if (warp.arrived > 0 && warp.what != what) fail(std::string(what) + " here, " + warp.what + " in other lanes");
  warp.what = what;
  Exchange& exchange = warp.exchange[warp.round % 2];
  std::memcpy(exchange.in[lane], words, number * sizeof(uint32_t));
  if (++warp.arrived == kLanes) {
    if (compute) compute(exchange);
    warp.arrived = 0;
    ++warp.round;
    wake(current - lane, current - lane + kLanes, State::kAtWarp);
  } else {
    wait(State::kAtWarp);
  }
  return exchange.out[lane];
}

inline void enter() {
  for (;;) {
    body();
    Fiber& fiber = all[current];
    fiber.state = State::kDone;
    --warps[current / kLanes].alive;
    if (--alive > 0 && at_block == alive) finish_block_round();
    if (_setjmp(fiber.place) == 0) leave();
  }
}

inline void resume(int index) {
  current = index;
  before_resume(index);
  Fiber& fiber = all[index];
  if (_setjmp(scheduler) != 0) return;
  if (fiber.begun) _longjmp(fiber.place, 1);
  fiber.begun = true;
  setcontext(&fiber.start);
}

inline void prepare(int threads) {
  if (static_cast<int>(all.size()) < threads) {
    all.resize(threads);
  }
  for (int i = 0; i < threads; ++i) {
    Fiber& fiber = all[i];
    if (fiber.stack == nullptr) {
      fiber.stack = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    if (!fiber.begun) {
      getcontext(&fiber.start);
      fiber.start.uc_stack.ss_sp = fiber.stack;
      fiber.start.uc_stack.ss_size = kStack;
      fiber.start.uc_link = nullptr;
      makecontext(&fiber.start, enter, 0);
    }
    fiber.state = State::kReady;
  }
  count = alive = threads;
  at_block = votes = 0;
  warps.assign((threads + kLanes - 1) / kLanes, Warp());
  for (int i = 0; i < threads; ++i) ++warps[i / kLanes].alive;
}

// Whether a lane of this warp could be resumed.
inline bool run_warp(int warp) {
  const int begin = warp * kLanes, end = begin + kLanes < count ? begin + kLanes : count;
  const int turn = order == Order::kRandom ? static_cast<int>(throw_dice() % kLanes) : 0;
  bool ran = false;
  for (int i = 0; i < end - begin; ++i) {
    const int lane = order == Order::kDown ? end - 1 - i : begin + (i + turn) % (end - begin);
    if (all[lane].state != State::kReady) continue;
    resume(lane);
    ran = true;
    if (!fault.empty()) return true;
  }
  return ran;
}

// Runs a block; false, with `fault`, when it goes wrong.
inline bool run_block(int threads) {
  prepare(threads);
  const int number = static_cast<int>(warps.size());
  while (alive > 0 && fault.empty()) {
    bool ran = false;
    const int turn = order == Order::kRandom ? static_cast<int>(throw_dice() % number) : 0;
    for (int i = 0; i < number && fault.empty(); ++i) {
      const int warp = order == Order::kDown ? number - 1 - i : (i + turn) % number;
      while (fault.empty() && run_warp(warp)) {
        ran = true;
        if (order == Order::kRandom && throw_dice() % 8 == 0) break;  // another warp overtakes
      }
    }
    if (!ran && fault.empty()) fault = "deadlock: threads wait for others that never come";
  }
  if (!fault.empty()) {
    for (Fiber& fiber : all) fiber.begun = false;  // their stacks are used again from the start
  }
  return fault.empty();
}

}  // namespace fibers
