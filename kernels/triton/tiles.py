"""Tokens and tiles of keys in the shapes in which the two planes take them.

Letters as in planes.py.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .fp8 import load_units, numbers_of

LANES = tl.constexpr(16)
HALF = tl.constexpr(8)


@triton.jit
def wide(stride):
    """A stride in 64 bits: tensors may have more numbers than 32 bits can count."""
    return tl.full((), 0, tl.int64) + stride


@triton.jit
def transposed(x):
    """Keys [*, keys, D] as the right side of a product with queries."""
    return tl.permute(x, (0, 2, 1))


@triton.jit
def with_dims(there, dims, PLAN: tl.constexpr):
    """A mask of tokens [*, *] as one of numbers [*, *, dims]: the head dim may end before its padding does."""
    if PLAN.dim == PLAN.width:
        return there[:, :, None]
    else:
        return there[:, :, None] & (dims < PLAN.dim)[None, None, :]


@triton.jit
def near(stride, PLAN: tl.constexpr):
    """A stride as offsets within one window or tile take it: 64 bits fill twice the registers, and few need them."""
    if PLAN.far:
        return wide(stride)
    else:
        return wide(stride).to(tl.int32)


@triton.jit
def token_rows(tokens, row, ROWS: tl.constexpr, dims, side, PLAN: tl.constexpr):
    """Pointers [ROWS, C, dims] to some rows of a window's tokens (pointer, strides of (token, dim))."""
    base, strides = tokens
    token = near(strides[0], PLAN)
    lines = ((tl.arange(0, ROWS) + row) * side * token)[:, None] + (tl.arange(0, LANES) * token)[None, :]
    return base + (lines[:, :, None] + (dims * near(strides[1], PLAN))[None, None, :])


@triton.jit
def token_columns(tokens, column, dims, side, PLAN: tl.constexpr):
    """Pointers [HALF, R, dims] to half of a window's tokens, from a column on."""
    base, strides = tokens
    token = near(strides[0], PLAN)
    lines = ((tl.arange(0, HALF) + column) * token)[:, None] + (tl.arange(0, LANES) * (side * token))[None, :]
    return base + (lines[:, :, None] + (dims * near(strides[1], PLAN))[None, None, :])


@triton.jit
def rows_there(row, ROWS: tl.constexpr, ends):
    """Which tokens of some rows there are before the ends of (rows, columns), [ROWS, C]."""
    return (tl.arange(0, ROWS) + row < ends[0])[:, None] & (tl.arange(0, LANES) < ends[1])[None, :]


@triton.jit
def load_rows(tokens, row, ROWS: tl.constexpr, dims, ends, side, PLAN: tl.constexpr):
    """Load some rows of a unit's tokens, [ROWS, C, dims]; zero beyond the ends of (rows, columns)."""
    pointers = token_rows(tokens, row, ROWS, dims, side, PLAN)
    return tl.load(pointers, mask=with_dims(rows_there(row, ROWS, ends), dims, PLAN), other=0.0)


@triton.jit
def load_columns(tokens, column, dims, ends, side, PLAN: tl.constexpr):
    """Load half of a unit's tokens, from a column on, [HALF, R, dims]; zero beyond the ends of (rows, columns)."""
    columns = tl.arange(0, HALF) + column
    there = (columns < ends[1])[:, None] & (tl.arange(0, LANES) < ends[0])[None, :]
    pointers = token_columns(tokens, column, dims, side, PLAN)
    return tl.load(pointers, mask=with_dims(there, dims, PLAN), other=0.0)


@triton.jit
def place_in(frames, slot, row, ROWS: tl.constexpr, dims):
    """Pointers [ROWS, C, D] to some rows of one slot of a unit."""
    base, strides = frames
    lines = (tl.arange(0, ROWS) * strides[0])[:, None] + (tl.arange(0, LANES) * strides[2])[None, :]
    return base + (row * strides[0] + slot * wide(strides[1])) + (lines[:, :, None] + dims[None, None, :])


@triton.jit
def from_column(lines, column, OF: tl.constexpr):
    """Tokens or frames (pointer, strides, of which one is a column's) from a column on."""
    base, strides = lines
    return base + column * wide(strides[OF]), strides


@triton.jit
def load_half(keys, row, frame, column, dims, ends, PLAN: tl.constexpr, TYPE: tl.constexpr):
    """Load half a tile of keys or values, [HALF, K, dims]; zero beyond the ends of (rows, columns, frames)."""
    base, strides = keys
    lines = tl.arange(0, LANES)
    columns = tl.arange(0, HALF)
    first = base + row * wide(strides[0])
    offsets = (lines % PLAN.frames + frame) * near(strides[1], PLAN)
    if PLAN.rows > 1:
        offsets += lines // PLAN.frames * near(strides[0], PLAN)
    offsets = ((columns + column) * near(strides[2], PLAN))[:, None] + offsets[None, :]
    there = (columns + column < ends[1])[:, None] & seen_by_columns(row, frame, ends, PLAN)[None, :]
    pointers = first + (offsets[:, :, None] + (dims * near(strides[3], PLAN))[None, None, :])
    return numbers_of(tl.load(pointers, mask=with_dims(there, dims, PLAN), other=0), TYPE)


@triton.jit
def units_of_keys(exponents, frame, ends, PLAN: tl.constexpr):
    """What the codes of a tile's K and V count, [K] each, in whichever plane."""
    frames = frame + tl.arange(0, LANES) % PLAN.frames
    return load_units(exponents, frames, frames < ends[2])


@triton.jit
def in_units(x, units):
    """Numbers [*, queries, keys] times what the codes of these keys count; units are None where there are no codes."""
    if units is None:
        return x
    else:
        return x * units[None, None, :]


@triton.jit
def seen_by_columns(row, frame, ends, PLAN: tl.constexpr):
    """Which keys of a tile there are in the column plane, [K]."""
    lines = tl.arange(0, LANES)
    return (row + lines // PLAN.frames < ends[0]) & (frame + lines % PLAN.frames < ends[2])


@triton.jit
def seen_by_rows(row, frame, column, ends, PLAN: tl.constexpr):
    """Which keys of half a tile there are in the row plane, [(row, group), keys of the group]."""
    groups: tl.constexpr = HALF // PLAN.rows
    lines, keys = tl.arange(0, HALF), tl.arange(0, LANES)
    columns = (lines % groups * PLAN.rows + column)[:, None] + (keys // PLAN.frames)[None, :]
    rows_there, frames_there = row + lines // groups < ends[0], frame + keys % PLAN.frames < ends[2]
    return rows_there[:, None] & (columns < ends[1]) & frames_there[None, :]


@triton.jit
def by_rows(x, PLAN: tl.constexpr):
    """Half a tile [HALF, K, dims] as the row plane takes it: [(row, group), keys of the group, dims]."""
    if PLAN.rows == 1:
        return x
    else:
        x = tl.reshape(x, (HALF // PLAN.rows, PLAN.rows, PLAN.rows, PLAN.frames, x.shape[2]))
        return tl.reshape(tl.permute(x, (2, 0, 1, 3, 4)), (HALF, LANES, x.shape[4]))


@triton.jit
def for_groups(x, PLAN: tl.constexpr):
    """Queries of a tile's rows [rows, C, D] once for each group, [(row, group), C, D]."""
    if PLAN.rows == 1:
        return tl.broadcast_to(x, (HALF, LANES, x.shape[2]))
    elif PLAN.rows == HALF:
        return x
    else:
        x = tl.broadcast_to(x[:, None, :, :], (PLAN.rows, HALF // PLAN.rows, LANES, x.shape[2]))
        return tl.reshape(x, (HALF, LANES, x.shape[3]))


@triton.jit
def each_group(x, PLAN: tl.constexpr):
    """Numbers of a tile's rows [rows, C] once for each group, [(row, group), C]."""
    if PLAN.rows == HALF:
        return x
    else:
        x = tl.broadcast_to(x[:, None, :], (PLAN.rows, HALF // PLAN.rows, LANES))
        return tl.reshape(x, (HALF, LANES))


@triton.jit
def sum_of_groups(x, PLAN: tl.constexpr):
    """Add up the groups of each row: [(row, group), C, P] -> [rows, C, P].

    By halves, and not as one reduction: that would hand every number from lane to lane.
    """
    if x.shape[0] == PLAN.rows:
        return x
    else:
        pairs = tl.reshape(x, (x.shape[0] // 2, 2, LANES, x.shape[2]))
        even, odd = tl.split(tl.permute(pairs, (0, 2, 3, 1)))
        return sum_of_groups(even + odd, PLAN)
