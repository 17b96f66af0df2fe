"""memory_attend, clip_attend and their backwards for windows and heads that the kernels named after them do not take.

Every kernel is launched twice: for the row plane, which writes, then for the column plane, which adds to that. Tensors,
sizes and `scale` come as in memory_attend.py and clip_attend.py.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .clip_attend import frames_of_clip, lse_of_clip, place_of, seen_by, tokens_of_clip
from .lines import attend_line, block_of, store_line, store_line_gradient
from .units import exponents_of, frames_of, held_of, lse_of, pads_of, real_of, share_of, tokens_of, unit_of


@triton.jit
def memory_attend_any_kernel(
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
    sizes,
    scale,
    SPLITS: tl.constexpr,
    PLANE: tl.constexpr,
    PLAN: tl.constexpr,
    TYPE: tl.constexpr,
):
    """One program attends one plane for a block of a line's queries, or some dims of their results."""
    index, split, part = share_of(tl.program_id(0), SPLITS, PLAN)
    batch_window, window, head, _, unit, exists = unit_of(index, streams, sizes)
    block, real_size = block_of(split, PLAN), real_of(real, window, PLAN)
    unit_exponents = exponents_of(cursor, unit, sizes) if k_pool.dtype.element_ty == tl.uint8 else None
    unit_pads = pads_of(pads, head, PLAN) if pads is not None else None
    result, result_lse = attend_line(
        tokens_of(q, batch_window, head),
        frames_of(k_pool, unit, sizes, PLAN),
        frames_of(v_pool, unit, sizes, PLAN),
        unit_pads,
        unit_exponents,
        block,
        (0, held_of(cursor, unit, exists, sizes)),
        real_size,
        scale,
        part,
        PLANE,
        PLAN,
        TYPE,
    )
    unit_column = tokens_of((out_column, out[1]), batch_window, head) if out_column is not None else None
    unit_lse = lse_of(lse, batch_window, head, sizes, PLAN) if lse is not None else None
    unit_out = tokens_of(out, batch_window, head)
    store_line(result, result_lse, unit_out, unit_column, unit_lse, block, real_size, part, PLANE, PLAN)


@triton.jit
def memory_attend_any_backward_kernel(
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
    SPLITS: tl.constexpr,
    PLANE: tl.constexpr,
    PLAN: tl.constexpr,
    TYPE: tl.constexpr,
):
    """One program writes one plane's share of dq for a block of a line's queries, or some dims of it."""
    index, split, part = share_of(tl.program_id(0), SPLITS, PLAN)
    batch_window, window, head, _, unit, exists = unit_of(index, streams, sizes)
    unit_exponents = exponents_of(cursor, unit, sizes) if k_pool.dtype.element_ty == tl.uint8 else None
    unit_pads = pads_of(pads, head, PLAN) if pads is not None else None
    store_line_gradient(
        tokens_of(q, batch_window, head),
        tokens_of(dout, batch_window, head),
        tokens_of(out, batch_window, head),
        tokens_of((out_column, out[1]), batch_window, head),
        tokens_of(dq, batch_window, head),
        lse_of(lse, batch_window, head, sizes, PLAN),
        frames_of(k_pool, unit, sizes, PLAN),
        frames_of(v_pool, unit, sizes, PLAN),
        unit_pads,
        unit_exponents,
        block_of(split, PLAN),
        (0, held_of(cursor, unit, exists, sizes)),
        real_of(real, window, PLAN),
        scale,
        part,
        PLANE,
        PLAN,
        TYPE,
    )


@triton.jit
def clip_attend_any_kernel(
    q,
    k,
    v,
    real,
    pads,  # (pad_k, pad_v), or None
    out,
    out_column,  # a pointer, with out's strides
    lse,
    sizes,
    scale,
    memory_frames,
    EVICT: tl.constexpr,
    SPLITS: tl.constexpr,
    PLANE: tl.constexpr,
    PLAN: tl.constexpr,
    TYPE: tl.constexpr,
):
    """One program attends one plane of one frame for a block of a line's queries, or some dims of their results."""
    index, split, part = share_of(tl.program_id(0), SPLITS, PLAN)
    place = place_of(index, sizes)
    block, real_size = block_of(split, PLAN), real_of(real, place[2], PLAN)
    unit_pads = pads_of(pads, place[3], PLAN) if pads is not None else None
    result, result_lse = attend_line(
        tokens_of_clip(q, place),
        frames_of_clip(k, place, PLAN.side),
        frames_of_clip(v, place, PLAN.side),
        unit_pads,
        None,
        block,
        seen_by(place[1], memory_frames, EVICT),
        real_size,
        scale,
        part,
        PLANE,
        PLAN,
        TYPE,
    )
    unit_column = tokens_of_clip((out_column, out[1]), place) if out_column is not None else None
    unit_lse = lse_of_clip(lse, place, sizes, PLAN) if lse is not None else None
    unit_out = tokens_of_clip(out, place)
    store_line(result, result_lse, unit_out, unit_column, unit_lse, block, real_size, part, PLANE, PLAN)


@triton.jit
def clip_attend_any_backward_kernel(
    dout,
    q,
    k,
    v,
    real,
    pads,
    out,
    out_column,
    lse,
    dq,
    sizes,
    scale,
    memory_frames,
    EVICT: tl.constexpr,
    SPLITS: tl.constexpr,
    PLANE: tl.constexpr,
    PLAN: tl.constexpr,
    TYPE: tl.constexpr,
):
    """One program writes one plane's share of dq of one frame for a block of a line's queries, or some dims of it."""
    index, split, part = share_of(tl.program_id(0), SPLITS, PLAN)
    place = place_of(index, sizes)
    unit_pads = pads_of(pads, place[3], PLAN) if pads is not None else None
    store_line_gradient(
        tokens_of_clip(q, place),
        tokens_of_clip(dout, place),
        tokens_of_clip(out, place),
        tokens_of_clip((out_column, out[1]), place),
        tokens_of_clip(dq, place),
        lse_of_clip(lse, place, sizes, PLAN),
        frames_of_clip(k, place, PLAN.side),
        frames_of_clip(v, place, PLAN.side),
        unit_pads,
        None,
        block_of(split, PLAN),
        seen_by(place[1], memory_frames, EVICT),
        real_of(real, place[2], PLAN),
        scale,
        part,
        PLANE,
        PLAN,
        TYPE,
    )
