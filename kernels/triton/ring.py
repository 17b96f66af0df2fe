"""The ring of one unit's frames: where an append goes and how many frames an attend sees, as svm/ring.h says."""

from __future__ import annotations

import triton
import triton.language as tl

MERGE = tl.constexpr(0)
FIFO = tl.constexpr(1)
CLEAR = tl.constexpr(2)


@triton.jit
def held_frames(count, capacity):
    """Frames that an attend sees: always the slots 0 .. held - 1."""
    return tl.maximum(tl.minimum(count, capacity), 0)


@triton.jit
def plan_append(count, mark, step, capacity, EVICT: tl.constexpr):
    """Return the slot of the new frame, the slot that first takes an average (or -1), and the cursor to store.

    A second append of the same step rewrites the newest slot and merges nothing.
    """
    again = (count > 0) & (mark == step)
    full = (count >= capacity) & (again == 0)
    slot = tl.where(again, count - 1, count) % capacity
    count_after = tl.where(again, count, count + 1)
    merge_slot = tl.full((), -1, tl.int64)
    if EVICT == CLEAR:
        slot = tl.where(full, 0, slot)
        count_after = tl.where(full, 1, count_after)
    if EVICT == MERGE:
        merge_slot = tl.where(full & (capacity > 1), (slot + 1) % capacity, merge_slot)
    return slot, merge_slot, count_after
