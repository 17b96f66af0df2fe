"""stream_step_: append and attend in one launch; the new keys and values go into the memory on the way.

Only where one program computes all dims of a result (PLAN.part is PLAN.width): two programs must not both append. And
not for fp8, where an append must know all of a frame first.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .memory_append import append_plan, store_cursor, store_frame
from .planes import attend_unit, finish, store_columns
from .ring import held_frames
from .tiles import HALF
from .units import (
    cursor_of,
    frames_of,
    merge_parts,
    pads_of,
    real_of,
    rows_of_split,
    share_of,
    store_part,
    tokens_of,
    unit_of,
)


@triton.jit
def held_after(cursor, unit, after, valid, exists, sizes):
    """Frames in a unit's memory once this frame is in it; a frame that is ignored leaves what was there."""
    count = tl.where(valid, after, tl.load(cursor_of(cursor, unit, sizes)))
    return tl.where(exists, held_frames(count, sizes[3]), 0).to(tl.int32)


@triton.jit
def stream_step_kernel(
    k_pool,
    v_pool,
    cursor,
    q,
    k,
    v,
    step,
    streams,
    real,
    pads,  # (pad_k, pad_v), or None
    out,
    splits,  # as in memory_attend.py
    sizes,
    scale,
    ROWS: tl.constexpr,
    EVICT: tl.constexpr,
    SPLITS: tl.constexpr,
    PLAN: tl.constexpr,
    TYPE: tl.constexpr,
):
    """One program steps one unit, or with SPLITS > 1 some rows of it, which nobody else reads or writes."""
    tl.static_assert(PLAN.part == PLAN.width)
    index, split, _ = share_of(tl.program_id(0), SPLITS, PLAN)
    batch_window, window, head, stream, unit, exists = unit_of(index, streams, sizes)
    slot, merge_slot, after, now, valid = append_plan(cursor, step, unit, stream, exists, sizes, EVICT)
    held = held_after(cursor, unit, after, valid, exists, sizes)
    real_size = real_of(real, window, PLAN)
    mine = rows_of_split(split, real_size[0], SPLITS, PLAN)
    k_frames, v_frames = frames_of(k_pool, unit, sizes, PLAN), frames_of(v_pool, unit, sizes, PLAN)
    if valid:
        k_tokens, v_tokens = tokens_of(k, batch_window, head), tokens_of(v, batch_window, head)
        ends = mine[1], real_size[1]
        for row in range(mine[0], mine[1], ROWS):
            store_frame(k_tokens, k_frames, slot, merge_slot, row, ROWS, ends, PLAN.side, PLAN)
            store_frame(v_tokens, v_frames, slot, merge_slot, row, ROWS, ends, PLAN.side, PLAN)
    tl.debug_barrier()  # the frame was stored by other threads than will read it; and everybody has read the cursor
    unit_out = tokens_of(out, batch_window, head)
    unit_pads = pads_of(pads, head, PLAN) if pads is not None else None
    left, right = attend_unit(
        tokens_of(q, batch_window, head),
        k_frames,
        v_frames,
        None,
        unit_out,
        None,
        unit_pads,
        (0, held),
        mine,
        real_size,
        PLAN.side,
        scale,
        split == 0,
        0,
        PLAN,
        TYPE,
    )
    if SPLITS > 1:
        store_part(splits, index, split, left, 0, 0, SPLITS, PLAN)
        store_part(splits, index, split, right, HALF, 0, SPLITS, PLAN)
    else:
        # Read again, for to keep it would take registers from the loop.
        _, _, after, now, valid = append_plan(cursor, step, unit, stream, exists, sizes, EVICT)
        tl.debug_barrier()  # the row plane's results were stored by other threads; and everybody has read the cursor
        if valid:
            store_cursor(cursor_of(cursor, unit, sizes), after, now)
        result, result_lse = finish(left)
        store_columns(result, result_lse, 0, unit_out, None, None, held, real_size, PLAN.side, 0, PLAN)
        result, result_lse = finish(right)
        store_columns(result, result_lse, HALF, unit_out, None, None, held, real_size, PLAN.side, 0, PLAN)


@triton.jit
def stream_step_merge_kernel(
    cursor,
    step,
    streams,
    real,
    out,
    splits,
    sizes,
    EVICT: tl.constexpr,
    SPLITS: tl.constexpr,
    PLAN: tl.constexpr,
):
    """Merge the column planes of a unit's splits, and let the cursor follow, which all of them had to read."""
    index = tl.program_id(0)
    batch_window, window, head, stream, unit, exists = unit_of(index, streams, sizes)
    _, _, after, now, valid = append_plan(cursor, step, unit, stream, exists, sizes, EVICT)
    held = held_after(cursor, unit, after, valid, exists, sizes)
    unit_out, real_size = tokens_of(out, batch_window, head), real_of(real, window, PLAN)
    result, result_lse = merge_parts(splits, index, 0, 0, SPLITS, PLAN)
    store_columns(result, result_lse, 0, unit_out, None, None, held, real_size, PLAN.side, 0, PLAN)
    result, result_lse = merge_parts(splits, index, HALF, 0, SPLITS, PLAN)
    store_columns(result, result_lse, HALF, unit_out, None, None, held, real_size, PLAN.side, 0, PLAN)
    tl.debug_barrier()  # everybody has read the cursor
    if valid:
        store_cursor(cursor_of(cursor, unit, sizes), after, now)
