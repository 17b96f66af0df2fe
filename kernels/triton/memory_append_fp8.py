"""How memory_append_ stores to a pool of fp8: keys and values as codes, and the exponents that make them numbers.

Twice through the frame, the second time out of the caches: an exponent needs all numbers, a code its exponent.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .fp8 import bits_of_magnitude, codes_of, exponent_for, load_units, numbers_of
from .tiles import LANES, from_column, load_rows, place_in, rows_there, with_dims


@triton.jit
def merged_rows(frames, slots, units, row, ROWS: tl.constexpr, dims, there):
    """The average of two stored frames, some rows of it in fp32: what a merge makes of the oldest and the next."""
    oldest = tl.load(place_in(frames, slots[0], row, ROWS, dims), mask=there, other=0)
    next_oldest = tl.load(place_in(frames, slots[1], row, ROWS, dims), mask=there, other=0)
    return (numbers_of(oldest, tl.float32) * units[0] + numbers_of(next_oldest, tl.float32) * units[1]) * 0.5


@triton.jit
def exponents_for(tokens, frames, slots, units, ROWS: tl.constexpr, ends, side, PLAN: tl.constexpr):
    """The exponents of a new frame and of what a merge, if there is one, leaves."""
    dims = tl.arange(0, PLAN.width)
    most = tl.full((ROWS, LANES, PLAN.width), 0, tl.int32)
    most_merged = tl.full((ROWS, LANES, PLAN.width), 0, tl.int32)
    for column in range(0, side, LANES):
        new, held, left = from_column(tokens, column, 0), from_column(frames, column, 2), (ends[0], ends[1] - column)
        for row in range(0, ends[0], ROWS):
            most = tl.maximum(most, bits_of_magnitude(load_rows(new, row, ROWS, dims, left, side, PLAN)))
            if slots[1] >= 0:
                there = with_dims(rows_there(row, ROWS, left), dims, PLAN)
                merged = merged_rows(held, slots, units, row, ROWS, dims, there)
                most_merged = tl.maximum(most_merged, bits_of_magnitude(merged))
    return exponent_for(tl.max(most)), exponent_for(tl.max(most_merged))


@triton.jit
def store_codes(tokens, frames, slots, units, ROWS: tl.constexpr, ends, side, PLAN: tl.constexpr):
    """Write a frame to its slot, whose old contents first go halfway into the next, if any; return the exponents."""
    exponents = exponents_for(tokens, frames, slots, units, ROWS, ends, side, PLAN)
    dims = tl.arange(0, PLAN.width)
    for column in range(0, side, LANES):
        new, held, left = from_column(tokens, column, 0), from_column(frames, column, 2), (ends[0], ends[1] - column)
        for row in range(0, ends[0], ROWS):
            there = with_dims(rows_there(row, ROWS, left), dims, PLAN)
            if slots[1] >= 0:
                merged = merged_rows(held, slots, units, row, ROWS, dims, there)
                tl.store(place_in(held, slots[1], row, ROWS, dims), codes_of(merged, exponents[1]), mask=there)
            codes = codes_of(load_rows(new, row, ROWS, dims, left, side, PLAN), exponents[0])
            tl.store(place_in(held, slots[0], row, ROWS, dims), codes, mask=there)
    return exponents


@triton.jit
def store_exponents(exponents, slot, of_k, of_v):
    """Keep the exponents of a slot's K and V."""
    tl.store(exponents + slot, (of_v.to(tl.int64) << 32) | (of_k.to(tl.int64) & 0xFFFFFFFF))


@triton.jit
def append_codes(
    k_tokens,
    v_tokens,
    k_frames,
    v_frames,
    exponents,
    slot,
    merge_slot,
    ROWS: tl.constexpr,
    ends,
    side,
    PLAN: tl.constexpr,
):
    """Write one unit's frame to its slot, after what a merge keeps of the slot's old contents; and the exponents."""
    slots = slot, merge_slot
    of_oldest = load_units(exponents, slot, merge_slot >= 0)
    of_next = load_units(exponents, merge_slot, merge_slot >= 0)
    of_k = store_codes(k_tokens, k_frames, slots, (of_oldest[0], of_next[0]), ROWS, ends, side, PLAN)
    of_v = store_codes(v_tokens, v_frames, slots, (of_oldest[1], of_next[1]), ROWS, ends, side, PLAN)
    tl.debug_barrier()  # everybody has read the exponents
    store_exponents(exponents, slot, of_k[0], of_v[0])
    if merge_slot >= 0:
        store_exponents(exponents, merge_slot, of_k[1], of_v[1])
