"""memory_attend and its backward: every unit's queries over the frames in its memory.

Tensors come as (pointer, strides of [B*W, H, N, D]), sizes as (streams, windows, heads, capacity, entries of a
cursor), pools of fp8 as bytes, and what is not there as None. `scale` comes multiplied by log2(e).
"""

from __future__ import annotations

import triton
import triton.language as tl

from .gradients import store_gradient
from .planes import attend_unit, finish, store_columns
from .tiles import HALF
from .units import (
    exponents_of,
    frames_of,
    held_of,
    lse_of,
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
def memory_attend_kernel(
    q,
    k_pool,
    v_pool,
    cursor,
    streams,
    real,
    pads,  # (pad_k, pad_v), or None
    out,
    out_column,  # a pointer, with out's strides
    lse,
    splits,  # where several programs share a unit: ([units, splits, 16, 16, D], [units, splits, 16, 16]) in fp32
    sizes,
    scale,
    SPLITS: tl.constexpr,
    PLAN: tl.constexpr,
    TYPE: tl.constexpr,
):
    """One program attends one unit, or some rows of it, or some dims of its results."""
    index, split, part = share_of(tl.program_id(0), SPLITS, PLAN)
    batch_window, window, head, _, unit, exists = unit_of(index, streams, sizes)
    held = held_of(cursor, unit, exists, sizes)
    real_size = real_of(real, window, PLAN)
    unit_out = tokens_of(out, batch_window, head)
    unit_lse = lse_of(lse, batch_window, head, sizes, PLAN) if lse is not None else None
    unit_exponents = exponents_of(cursor, unit, sizes) if k_pool.dtype.element_ty == tl.uint8 else None
    unit_pads = pads_of(pads, head, PLAN) if pads is not None else None
    left, right = attend_unit(
        tokens_of(q, batch_window, head),
        frames_of(k_pool, unit, sizes, PLAN),
        frames_of(v_pool, unit, sizes, PLAN),
        unit_exponents,
        unit_out,
        unit_lse,
        unit_pads,
        (0, held),
        rows_of_split(split, real_size[0], SPLITS, PLAN),
        real_size,
        PLAN.side,
        scale,
        split == 0,
        part,
        PLAN,
        TYPE,
    )
    if SPLITS > 1:
        store_part(splits, index, split, left, 0, part, SPLITS, PLAN)
        store_part(splits, index, split, right, HALF, part, SPLITS, PLAN)
    else:
        unit_column = tokens_of((out_column, out[1]), batch_window, head)[0] if out_column is not None else None
        tl.debug_barrier()  # the row plane's results were stored by other threads
        result, column_lse = finish(left)
        store_columns(result, column_lse, 0, unit_out, unit_column, unit_lse, held, real_size, PLAN.side, part, PLAN)
        result, column_lse = finish(right)
        store_columns(result, column_lse, HALF, unit_out, unit_column, unit_lse, held, real_size, PLAN.side, part, PLAN)


@triton.jit
def memory_attend_merge_kernel(
    cursor,
    streams,
    real,
    out,
    out_column,
    lse,
    splits,
    sizes,
    SPLITS: tl.constexpr,
    PLAN: tl.constexpr,
):
    """Merge the column planes of a unit's splits and add them to the row plane; one program does half a unit."""
    index, half, part = share_of(tl.program_id(0), 2, PLAN)
    batch_window, window, head, _, unit, exists = unit_of(index, streams, sizes)
    held = held_of(cursor, unit, exists, sizes)
    result, column_lse = merge_parts(splits, index, half * HALF, part, SPLITS, PLAN)
    unit_out = tokens_of(out, batch_window, head)
    unit_column = tokens_of((out_column, out[1]), batch_window, head)[0] if out_column is not None else None
    unit_lse = lse_of(lse, batch_window, head, sizes, PLAN) if lse is not None else None
    real_size = real_of(real, window, PLAN)
    store_columns(
        result, column_lse, half * HALF, unit_out, unit_column, unit_lse, held, real_size, PLAN.side, part, PLAN
    )


@triton.jit
def memory_attend_backward_kernel(
    dout,
    q,
    k_pool,
    v_pool,
    cursor,
    streams,
    real,
    pads,
    out,
    out_column,
    lse,
    dq,
    sizes,
    scale,
    PLAN: tl.constexpr,
    TYPE: tl.constexpr,
):
    """One program writes dq of one unit, or some dims of it."""
    index, _, part = share_of(tl.program_id(0), 1, PLAN)
    batch_window, window, head, _, unit, exists = unit_of(index, streams, sizes)
    unit_exponents = exponents_of(cursor, unit, sizes) if k_pool.dtype.element_ty == tl.uint8 else None
    unit_pads = pads_of(pads, head, PLAN) if pads is not None else None
    store_gradient(
        tokens_of(q, batch_window, head),
        tokens_of(dout, batch_window, head),
        tokens_of(out, batch_window, head),
        tokens_of((out_column, out[1]), batch_window, head)[0],
        tokens_of(dq, batch_window, head),
        frames_of(k_pool, unit, sizes, PLAN),
        frames_of(v_pool, unit, sizes, PLAN),
        unit_exponents,
        lse_of(lse, batch_window, head, sizes, PLAN),
        unit_pads,
        (0, held_of(cursor, unit, exists, sizes)),
        real_of(real, window, PLAN),
        PLAN.side,
        scale,
        part,
        PLAN,
        TYPE,
    )
