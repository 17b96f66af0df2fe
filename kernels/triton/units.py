"""What every attention over a pool starts with: which unit a program does, and where its tensors lie."""

from __future__ import annotations

import triton
import triton.language as tl

from .planes import NONE, finish, level_of
from .ring import held_frames
from .tiles import HALF, LANES, wide


@triton.jit
def share_of(program, SPLITS: tl.constexpr, PLAN: tl.constexpr):
    """What a program does: (index of the unit, its split of the rows, first dim of its part of the head dim)."""
    parts: tl.constexpr = PLAN.width // PLAN.part
    return program // (SPLITS * parts), program // parts % SPLITS, program % parts * PLAN.part


@triton.jit
def unit_of(index, streams, sizes):
    """Return (row of batch and windows, window, head, stream, unit of the pool, whether the stream exists).

    Nobody can check ids that lie on the GPU: a stream that does not exist is read as empty and never written.
    """
    stream_count, windows, heads = sizes[0], sizes[1], sizes[2]
    head = index % heads
    batch_window = (index // heads).to(tl.int64)
    window = batch_window % windows
    stream = batch_window // windows
    if streams is not None:
        stream = tl.load(streams + stream)
    exists = (stream >= 0) & (stream < stream_count)
    stream = tl.where(exists, stream, 0)
    return batch_window, window, head, stream, (stream * windows + window) * heads + head, exists


@triton.jit
def cursor_of(cursor, unit, sizes):
    """Pointer to a unit's cursor: frames appended, step of the last append, and of fp8 its slots' exponents."""
    return cursor + unit * sizes[4]


@triton.jit
def exponents_of(cursor, unit, sizes):
    """Pointer to the exponents of a unit's slots."""
    return cursor_of(cursor, unit, sizes) + 2


@triton.jit
def held_of(cursor, unit, exists, sizes):
    """Frames in a unit's memory."""
    return tl.where(exists, held_frames(tl.load(cursor_of(cursor, unit, sizes)), sizes[3]), 0).to(tl.int32)


@triton.jit
def real_of(real, window, PLAN: tl.constexpr):
    """Real rows and columns of a window."""
    if real is None:
        return PLAN.side, PLAN.side
    else:
        return tl.load(real + 2 * window), tl.load(real + 2 * window + 1)


@triton.jit
def pads_of(pads, head, PLAN: tl.constexpr):
    """Pointers to the key and the value of a head's padded tokens."""
    return pads[0] + head * PLAN.dim, pads[1] + head * PLAN.dim


@triton.jit
def tokens_of(tensor, batch_window, head):
    """The tokens of one unit of a tensor (pointer, strides of [B*W, H, N, D]): (pointer, strides of (token, dim))."""
    base, strides = tensor
    return base + batch_window * strides[0] + head * wide(strides[1]), (strides[2], strides[3])


@triton.jit
def frames_of(pool, unit, sizes, PLAN: tl.constexpr):
    """The frames of one unit of a pool [.., n (row), T, n (column), D]."""
    row = wide(sizes[3]) * (PLAN.side * PLAN.dim)
    return pool + unit * PLAN.side * row, (row, PLAN.side * PLAN.dim, PLAN.dim, 1)


@triton.jit
def lse_of(lse, batch_window, head, sizes, PLAN: tl.constexpr):
    """The log-sum-exps [2, N] of one unit."""
    return lse + (batch_window * sizes[2] + head) * 2 * PLAN.side * PLAN.side


@triton.jit
def rows_of_split(split, real_rows, SPLITS: tl.constexpr, PLAN: tl.constexpr):
    """The rows that one of several programs of a unit does, whole tiles of them: (first, after the last)."""
    tiles = tl.cdiv(real_rows, PLAN.rows)
    first, last = tiles * split // SPLITS * PLAN.rows, tiles * (split + 1) // SPLITS * PLAN.rows
    return first, tl.minimum(last, real_rows)


@triton.jit
def part_of(splits, index, split, column, part, SPLITS: tl.constexpr, PLAN: tl.constexpr):
    """Pointers to one split's share of half a column plane: its results [HALF, R, P] and their log-sum-exps."""
    columns = tl.arange(0, HALF) + column
    token = columns[:, None] * LANES + tl.arange(0, LANES)[None, :]
    first = (index.to(tl.int64) * SPLITS + split) * (LANES * LANES)
    dims = part + tl.arange(0, PLAN.part)
    results = splits[0] + first * PLAN.width + (token[:, :, None] * PLAN.width + dims[None, None, :])
    return results, splits[1] + first + token


@triton.jit
def store_part(splits, index, split, state, column, part, SPLITS: tl.constexpr, PLAN: tl.constexpr):
    """Leave one split's share of half the column plane to the merge."""
    result, lse = finish(state)
    results, lses = part_of(splits, index, split, column, part, SPLITS, PLAN)
    tl.store(results, result)
    tl.store(lses, lse)


@triton.jit
def merge_parts(splits, index, column, part, SPLITS: tl.constexpr, PLAN: tl.constexpr):
    """Half the column plane [HALF, R, P] of a unit from its splits' shares, and its log-sum-exps."""
    top = tl.full((HALF, LANES), NONE, tl.float32)
    weight = tl.zeros((HALF, LANES), tl.float32)
    sums = tl.full((HALF, LANES, PLAN.part), 0.0, tl.float32)
    for split in range(SPLITS):
        results, lses = part_of(splits, index, split, column, part, SPLITS, PLAN)
        lse = tl.load(lses)
        higher = tl.maximum(top, lse)
        level = level_of(higher)
        fade, share = tl.exp2(top - level), tl.exp2(lse - level)
        sums = sums * fade[:, :, None] + tl.load(results) * share[:, :, None]
        weight = weight * fade + share
        top = higher
    return finish((top, weight, sums))
