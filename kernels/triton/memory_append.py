"""memory_append_: one frame's keys and values of the given streams into their ring slots."""

from __future__ import annotations

import triton
import triton.language as tl

from .memory_append_fp8 import append_codes
from .ring import plan_append
from .tiles import LANES, from_column, load_rows, place_in, rows_there, with_dims
from .units import cursor_of, exponents_of, frames_of, real_of, tokens_of, unit_of


@triton.jit
def store_frame(tokens, frames, slot, merge_slot, row, ROWS: tl.constexpr, ends, side, PLAN: tl.constexpr):
    """Write some rows of one frame to its slot, whose old contents first go halfway into the merge slot, if any."""
    dims = tl.arange(0, PLAN.width)
    there = with_dims(rows_there(row, ROWS, ends), dims, PLAN)
    new = load_rows(tokens, row, ROWS, dims, ends, side, PLAN)
    newest = place_in(frames, slot, row, ROWS, dims)
    if merge_slot >= 0:
        merged = place_in(frames, merge_slot, row, ROWS, dims)
        oldest = tl.load(newest, mask=there, other=0.0).to(tl.float32)
        next_oldest = tl.load(merged, mask=there, other=0.0).to(tl.float32)
        # Averaged in fp32 and rounded once.
        tl.store(merged, ((oldest + next_oldest) * 0.5).to(frames[0].dtype.element_ty), mask=there)
    tl.store(newest, new.to(frames[0].dtype.element_ty), mask=there)


@triton.jit
def append_plan(cursor, step, unit, stream, exists, sizes, EVICT: tl.constexpr):
    """Return (slot, merge slot, cursor after, step, whether anything is to be stored) of a unit.

    A stream that does not exist, a step older than the newest and a cursor that no append has left are ignored.
    """
    mine = cursor_of(cursor, unit, sizes)
    count, mark = tl.load(mine), tl.load(mine + 1)
    now = tl.load(step + stream)
    valid = exists & (count >= 0) & (now >= 0) & (now >= mark)
    slot, merge_slot, after = plan_append(count, mark, now, sizes[3], EVICT)
    return slot, merge_slot, after, now, valid


@triton.jit
def store_cursor(mine, after, now):
    """Let a unit's cursor follow an append."""
    tl.store(mine, after)
    tl.store(mine + 1, now)


@triton.jit
def memory_append_kernel(
    k_pool,
    v_pool,
    cursor,
    k,
    v,
    step,
    streams,
    real,
    sizes,
    ROWS: tl.constexpr,
    EVICT: tl.constexpr,
    PLAN: tl.constexpr,
):
    """One program appends one unit: it alone touches the unit's slots and cursor."""
    batch_window, window, head, stream, unit, exists = unit_of(tl.program_id(0), streams, sizes)
    slot, merge_slot, after, now, valid = append_plan(cursor, step, unit, stream, exists, sizes, EVICT)
    if valid:
        real_size = real_of(real, window, PLAN)
        k_tokens, v_tokens = tokens_of(k, batch_window, head), tokens_of(v, batch_window, head)
        k_frames, v_frames = frames_of(k_pool, unit, sizes, PLAN), frames_of(v_pool, unit, sizes, PLAN)
        if k_pool.dtype.element_ty == tl.uint8:
            exponents = exponents_of(cursor, unit, sizes)
            append_codes(
                k_tokens, v_tokens, k_frames, v_frames, exponents, slot, merge_slot, ROWS, real_size, PLAN.side, PLAN
            )
        else:
            for column in range(0, PLAN.side, LANES):
                ends = real_size[0], real_size[1] - column
                k_from, k_to = from_column(k_tokens, column, 0), from_column(k_frames, column, 2)
                v_from, v_to = from_column(v_tokens, column, 0), from_column(v_frames, column, 2)
                for row in range(0, real_size[0], ROWS):
                    store_frame(k_from, k_to, slot, merge_slot, row, ROWS, ends, PLAN.side, PLAN)
                    store_frame(v_from, v_to, slot, merge_slot, row, ROWS, ends, PLAN.side, PLAN)
        tl.debug_barrier()  # everybody has read the cursor
        store_cursor(cursor_of(cursor, unit, sizes), after, now)
