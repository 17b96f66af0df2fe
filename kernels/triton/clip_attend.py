"""clip_attend and its backward: all frames of a clip at once, each over those that a memory would hold then.

Tensors come as (pointer, strides of [B, T, W, H, N, D]), sizes as (batch, windows, heads, frames of the clip),
and what is not there as None. `scale` comes multiplied by log2(e).
"""

from __future__ import annotations

import triton
import triton.language as tl

from .gradients import store_gradient
from .planes import attend_unit, finish, store_columns
from .ring import CLEAR
from .tiles import HALF, wide
from .units import pads_of, real_of, share_of


@triton.jit
def place_of(index, sizes):
    """Return (batch, frame, window, head) of a program: later frames, which have more to do, come first."""
    _, windows, heads, frames = sizes
    rest = index // (heads * windows)
    return rest % sizes[0], frames - 1 - rest // sizes[0], index // heads % windows, index % heads


@triton.jit
def tokens_of_clip(tensor, place):
    """The tokens of one unit and frame: (pointer, strides of (token, dim))."""
    base, strides = tensor
    batch, frame, window, head = place
    at = batch * wide(strides[0]) + frame * wide(strides[1]) + window * wide(strides[2]) + head * wide(strides[3])
    return base + at, (strides[4], strides[5])


@triton.jit
def frames_of_clip(tensor, place, side):
    """All frames of one unit: (pointer, strides of (row, frame, column, dim))."""
    base, strides = tensor
    batch, _, window, head = place
    at = batch * wide(strides[0]) + window * wide(strides[2]) + head * wide(strides[3])
    return base + at, (side * wide(strides[4]), strides[1], strides[4], strides[5])


@triton.jit
def seen_by(frame, memory_frames, EVICT: tl.constexpr):
    """The frames that a frame sees, (first, after the last): of its block (clear) or of a sliding window (fifo)."""
    first = tl.maximum(frame - memory_frames + 1, 0)
    if EVICT == CLEAR:
        first = frame - frame % memory_frames
    return first, frame + 1


@triton.jit
def lse_of_clip(lse, place, sizes, PLAN: tl.constexpr):
    """The log-sum-exps [2, N] of one unit and frame, of [B, T, W, H, 2, N]."""
    batch, frame, window, head = place
    at = ((batch.to(tl.int64) * sizes[3] + frame) * sizes[1] + window) * sizes[2] + head
    return lse + at * (2 * PLAN.side * PLAN.side)


@triton.jit
def clip_attend_kernel(
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
    PLAN: tl.constexpr,
    TYPE: tl.constexpr,
):
    """One program attends one unit of one frame, or some dims of its results."""
    index, _, part = share_of(tl.program_id(0), 1, PLAN)
    place = place_of(index, sizes)
    side: tl.constexpr = PLAN.side
    real_size = real_of(real, place[2], PLAN)
    seen = seen_by(place[1], memory_frames, EVICT)
    unit_out = tokens_of_clip(out, place)
    unit_lse = lse_of_clip(lse, place, sizes, PLAN) if lse is not None else None
    unit_pads = pads_of(pads, place[3], PLAN) if pads is not None else None
    left, right = attend_unit(
        tokens_of_clip(q, place),
        frames_of_clip(k, place, side),
        frames_of_clip(v, place, side),
        None,
        unit_out,
        unit_lse,
        unit_pads,
        seen,
        (0, real_size[0]),
        real_size,
        side,
        scale,
        True,
        part,
        PLAN,
        TYPE,
    )
    unit_column = tokens_of_clip((out_column, out[1]), place)[0] if out_column is not None else None
    frames = seen[1] - seen[0]
    tl.debug_barrier()  # the row plane's results were stored by other threads
    result, column_lse = finish(left)
    store_columns(result, column_lse, 0, unit_out, unit_column, unit_lse, frames, real_size, side, part, PLAN)
    result, column_lse = finish(right)
    store_columns(result, column_lse, HALF, unit_out, unit_column, unit_lse, frames, real_size, side, part, PLAN)


@triton.jit
def clip_attend_backward_kernel(
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
    PLAN: tl.constexpr,
    TYPE: tl.constexpr,
):
    """One program writes dq of one unit of one frame, or some dims of it."""
    index, _, part = share_of(tl.program_id(0), 1, PLAN)
    place = place_of(index, sizes)
    side: tl.constexpr = PLAN.side
    unit_pads = pads_of(pads, place[3], PLAN) if pads is not None else None
    store_gradient(
        tokens_of_clip(q, place),
        tokens_of_clip(dout, place),
        tokens_of_clip(out, place),
        tokens_of_clip((out_column, out[1]), place)[0],
        tokens_of_clip(dq, place),
        frames_of_clip(k, place, side),
        frames_of_clip(v, place, side),
        None,
        lse_of_clip(lse, place, sizes, PLAN),
        unit_pads,
        seen_by(place[1], memory_frames, EVICT),
        real_of(real, place[2], PLAN),
        side,
        scale,
        part,
        PLAN,
        TYPE,
    )
