// Copies under way from global to shared memory. One may land at any time between its start and the wait: as late as it
// can, or at once, as the test wants.
#pragma once

#include <cstring>
#include <deque>
#include <vector>

#include "fibers.h"

namespace async_copies {

struct Copy {
  char* target;
  const void* source;
  bool there;
  size_t bytes;
};

struct Queue {
  std::vector<Copy> open;
  std::deque<std::vector<Copy>> groups;
};

inline bool at_once = false;
inline std::vector<Queue> queues;

inline void land(const Copy& copy) {
  if (copy.there) {
    std::memcpy(copy.target, copy.source, copy.bytes);
  } else {
    std::memset(copy.target, 0, copy.bytes);
  }
}

inline void forget() { queues.assign(fibers::all.size() > 1024 ? fibers::all.size() : 1024, Queue()); }

}  // namespace async_copies
