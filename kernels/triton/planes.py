"""Two axial softmax attentions of one unit in one pass over its keys and values.

A query (r, c) sees in the column plane every key (t, r', c), in the row plane every key (t, r, c'). Keys come in tiles
of 16 columns with 16 keys (row, frame) each, in two halves of 8 columns; every half is read once and serves both
planes. The column plane takes it as it is: eight products, one for each column, of the queries of that column with its
16 keys. The row plane splits the keys of a row into groups that each keep a softmax of their own until the row ends,
when they are merged: eight products again, one for each (row, group). Where a tile has one row the groups are the
columns, and both planes take the very same operands: each warp reads its column from shared memory once, and needs
nothing from another warp before the row ends. Fourteen columns take sixteen lanes: 14 % of the work is padding, where
a masked product over all pairs of tokens would do fourteen times the work.

Letters: C 16 columns, R 16 rows of queries, K 16 keys of a column in a tile, D the padded head dim, P the part of it
that a program computes of the results. PLAN is a heuristics.Plan, TYPE the type of the products.
Logits are kept in powers of two: `scale` comes multiplied by log2(e).
"""

from __future__ import annotations

import triton
import triton.language as tl

from .tiles import (
    HALF,
    LANES,
    by_rows,
    for_groups,
    in_units,
    load_columns,
    load_half,
    load_rows,
    rows_there,
    seen_by_columns,
    seen_by_rows,
    sum_of_groups,
    token_columns,
    token_rows,
    transposed,
    units_of_keys,
    with_dims,
)

NONE = tl.constexpr(float("-inf"))
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def product(a, b, PLAN: tl.constexpr):
    """Multiply matrices; fp32 stays fp32."""
    return tl.dot(a, b, input_precision=PLAN.precision)


@triton.jit
def level_of(top):
    """What to subtract from logits of this maximum; where there was no key so far, not -inf: inf - inf is no number."""
    return tl.where(top == NONE, 0.0, top)


@triton.jit
def nothing(PLAN: tl.constexpr):
    """Softmaxes (top, weight, sums [HALF, 16, P]) that have seen no key."""
    top = tl.full((HALF, LANES), NONE, tl.float32)
    return top, tl.zeros((HALF, LANES), tl.float32), tl.full((HALF, LANES, PLAN.part), 0.0, tl.float32)


@triton.jit
def take(state, logits, values, v_units, PLAN: tl.constexpr):
    """Take keys into softmaxes: logits [*, queries, keys], values [*, keys, P] in units [keys]."""
    top, weight, sums = state
    higher = tl.maximum(top, tl.max(logits, axis=2))
    level = level_of(higher)
    p = tl.exp2(logits - level[:, :, None])
    fade = tl.exp2(top - level)
    shares = in_units(p, v_units).to(values.dtype)
    sums = tl.dot(shares, values, sums * fade[:, :, None], input_precision=PLAN.precision)
    return higher, weight * fade + tl.sum(p, axis=2), sums


@triton.jit
def merge_groups(state, PLAN: tl.constexpr):
    """Merge the softmaxes of each row's groups: [(row, group), C] -> [row, C]."""
    groups: tl.constexpr = HALF // PLAN.rows
    if groups == 1:
        return state
    else:
        top, weight, sums = state
        tops = tl.reshape(top, (PLAN.rows, groups, LANES))
        highest = tl.max(tops, axis=1)
        share = tl.exp2(tops - level_of(highest)[:, None, :])
        weight = tl.sum(tl.reshape(weight, (PLAN.rows, groups, LANES)) * share, axis=1)
        return highest, weight, sum_of_groups(sums * tl.reshape(share, (HALF, LANES))[:, :, None], PLAN)


@triton.jit
def log_of_padded(padded):
    """What so many padded keys of a line add to the logit of the one that stands for all."""
    return tl.where(padded > 0, tl.log2(tl.maximum(padded, 1).to(tl.float32)), NONE)


@triton.jit
def virtual_logits(q, pads, log_padded, scale, PLAN: tl.constexpr):
    """Logits of the one key that stands for all padded ones; q [*, *, D]."""
    dims = tl.arange(0, PLAN.width)
    key = tl.load(pads[0] + dims, mask=dims < PLAN.dim, other=0.0).to(tl.float32)
    return tl.sum(q.to(tl.float32) * key[None, None, :], axis=2) * scale + log_padded


@triton.jit
def take_padded(state, q, pads, part, log_padded, scale, PLAN: tl.constexpr):
    """Take the padded tokens' key, if it is given, into softmaxes of the queries q [*, *, D]."""
    if pads is None:
        return state
    else:
        top, weight, sums = state
        logit = virtual_logits(q, pads, log_padded, scale, PLAN)
        dims = part + tl.arange(0, PLAN.part)
        value = tl.load(pads[1] + dims, mask=dims < PLAN.dim, other=0.0).to(tl.float32)
        higher = tl.maximum(top, logit)
        level = level_of(higher)
        fade, p = tl.exp2(top - level), tl.exp2(logit - level)
        return higher, weight * fade + p, sums * fade[:, :, None] + p[:, :, None] * value[None, None, :]


@triton.jit
def finish(state):
    """The results of softmaxes and their log-sum-exps in powers of two; 0 and -inf where there was no key."""
    top, weight, sums = state
    empty = weight == 0.0
    safe = tl.where(empty, 1.0, weight)
    return sums * (1.0 / safe)[:, :, None], tl.where(empty, NONE, top + tl.log2(safe))


@triton.jit
def both_products(
    tokens,  # queries of this unit: (pointer, strides of (token, dim))
    queries,  # of the half's columns and of the tile's groups: not used, and so never loaded, where dims come in chunks
    keys,  # (pointer, strides of (row, frame, column, dim))
    row,
    frame,
    column,
    ends,
    real,
    side,
    PLAN: tl.constexpr,
    TYPE: tl.constexpr,
):
    """Multiply half a tile of keys with the queries of its columns and with those of its rows, [*, queries, keys]."""
    if PLAN.chunk == PLAN.width:
        half = load_half(keys, row, frame, column, tl.arange(0, PLAN.width), ends, PLAN, TYPE)
        rows = by_rows(half, PLAN)
        return product(queries[0], transposed(half), PLAN), product(queries[1], transposed(rows), PLAN)
    else:
        of_columns = tl.full((HALF, LANES, LANES), 0.0, tl.float32)
        of_rows = tl.full((HALF, LANES, LANES), 0.0, tl.float32)
        for first in range(0, PLAN.width, PLAN.chunk):
            dims = first + tl.arange(0, PLAN.chunk)
            half = load_half(keys, row, frame, column, dims, ends, PLAN, TYPE)
            q = load_columns(tokens, column, dims, real, side, PLAN).to(TYPE)
            of_columns = tl.dot(q, transposed(half), of_columns, input_precision=PLAN.precision)
            q = for_groups(load_rows(tokens, row, PLAN.rows, dims, ends, side, PLAN).to(TYPE), PLAN)
            of_rows = tl.dot(q, transposed(by_rows(half, PLAN)), of_rows, input_precision=PLAN.precision)
        return of_columns, of_rows


@triton.jit
def seen_logits(products, k_units, row, frame, column, ends, scale, PLAN: tl.constexpr):
    """Scale both planes' products of half a tile; -inf where there is no key."""
    of_columns, of_rows = in_units(products[0] * scale, k_units), in_units(products[1] * scale, k_units)
    of_columns = tl.where(seen_by_columns(row, frame, ends, PLAN)[None, None, :], of_columns, NONE)
    of_rows = tl.where(seen_by_rows(row, frame, column, ends, PLAN)[:, None, :], of_rows, NONE)
    return of_columns, of_rows


@triton.jit
def take_half(
    column_state,
    row_state,
    q,
    queries,
    k,
    v,
    units,
    row,
    frame,
    column,
    part,
    ends,
    real,
    side,
    scale,
    PLAN: tl.constexpr,
    TYPE: tl.constexpr,
):
    """Take half a tile into the softmaxes of its columns and of its rows."""
    products = both_products(q, queries, k, row, frame, column, ends, real, side, PLAN, TYPE)
    values = load_half(v, row, frame, column, part + tl.arange(0, PLAN.part), ends, PLAN, TYPE)
    of_columns, of_rows = seen_logits(products, units[0], row, frame, column, ends, scale, PLAN)
    column_state = take(column_state, of_columns, values, units[1], PLAN)
    return column_state, take(row_state, of_rows, by_rows(values, PLAN), units[1], PLAN)


@triton.jit
def attend_unit(
    q,  # tokens of this unit: (pointer, strides of (token, dim))
    k,  # keys: (pointer, strides of (row, frame, column, dim))
    v,
    exponents,  # of the slots; None where keys and values are no codes
    out,  # tokens; takes the row plane's result
    lse,  # [2, N], or None
    pads,  # pointers to (key, value) of padded tokens, [D] each, or None
    frames_seen,  # (first, after the last)
    rows_done,  # rows of keys and of row-plane queries that this program does: (first, after the last)
    real,  # (rows, columns)
    side,
    scale,
    with_virtual,  # whether this program counts the column plane's virtual key
    part,  # the first dim of the results that this program computes
    PLAN: tl.constexpr,
    TYPE: tl.constexpr,
):
    """Attend both planes; store the row plane's part, return the column plane's softmaxes, left and right half."""
    dims = tl.arange(0, PLAN.width)
    ends = rows_done[1], real[1], frames_seen[1]
    seen = tl.maximum(frames_seen[1] - frames_seen[0], 0)
    log_column = log_of_padded(tl.where(with_virtual, (side - real[0]) * seen, 0))
    log_row = log_of_padded((side - real[1]) * seen)
    q_left = load_columns(q, 0, dims, real, side, PLAN).to(TYPE)
    q_right = load_columns(q, HALF, dims, real, side, PLAN).to(TYPE)
    left = take_padded(nothing(PLAN), q_left, pads, part, log_column, scale, PLAN)
    right = take_padded(nothing(PLAN), q_right, pads, part, log_column, scale, PLAN)
    row_state = nothing(PLAN)

    # Rows and frames in one loop, so that the next tile is under way while a row ends.
    tiles = tl.cdiv(rows_done[1] - rows_done[0], PLAN.rows) * tl.cdiv(seen, PLAN.frames)
    row, frame = rows_done[0], frames_seen[0]
    for _ in tl.range(0, tiles, num_stages=PLAN.stages):
        groups = for_groups(load_rows(q, row, PLAN.rows, dims, ends, side, PLAN).to(TYPE), PLAN)
        units = (None, None)
        if exponents is not None:
            units = units_of_keys(exponents, frame, ends, PLAN)
        queries = q_left, groups
        left, row_state = take_half(
            left, row_state, q, queries, k, v, units, row, frame, 0, part, ends, real, side, scale, PLAN, TYPE
        )
        queries = q_right, groups
        right, row_state = take_half(
            right, row_state, q, queries, k, v, units, row, frame, HALF, part, ends, real, side, scale, PLAN, TYPE
        )
        row_ends = frame + PLAN.frames >= frames_seen[1]
        if row_ends:
            merged = merge_groups(row_state, PLAN)
            if pads is not None:
                q_row = load_rows(q, row, PLAN.rows, dims, ends, side, PLAN).to(TYPE)
                merged = take_padded(merged, q_row, pads, part, log_row, scale, PLAN)
            store_rows(merged, row, out, lse, ends, side, part, PLAN)
            row_state = nothing(PLAN)
        row = tl.where(row_ends, row + PLAN.rows, row)
        frame = tl.where(row_ends, frames_seen[0], frame + PLAN.frames)
    return left, right


@triton.jit
def store_rows(state, row, out, lse, ends, side, part, PLAN: tl.constexpr):
    """Store the row plane's results of some rows, [rows, C, P]."""
    dims = part + tl.arange(0, PLAN.part)
    result, row_lse = finish(state)
    there = rows_there(row, PLAN.rows, ends)
    pointers = token_rows(out, row, PLAN.rows, dims, side, PLAN)
    tl.store(pointers, result.to(out[0].dtype.element_ty), mask=with_dims(there, dims, PLAN))
    if lse is not None:
        token = ((tl.arange(0, PLAN.rows) + row) * side)[:, None] + tl.arange(0, LANES)[None, :]
        tl.store(lse + side * side + token, row_lse * LN2, mask=there)


@triton.jit
def store_columns(
    result,  # of the column plane, [HALF, R, P], and its log-sum-exps
    result_lse,
    column,
    out,  # tokens: holds the row plane's result and takes the sum
    out_column,  # pointer with out's strides, takes the column plane's result; or None
    lse,  # [2, N], or None
    seen,  # frames
    real,
    side,
    part,
    PLAN: tl.constexpr,
):
    """Add half of the column plane to the row plane's result; tokens beyond the picture get 0 and -inf."""
    columns = tl.arange(0, HALF) + column
    lines = tl.arange(0, LANES)
    dims = part + tl.arange(0, PLAN.part)
    window = (columns < side)[:, None] & (lines < side)[None, :]  # [HALF, R]
    attended = tl.where(seen > 0, real[0], 0), real[1]
    picture = (columns < attended[1])[:, None] & (lines < attended[0])[None, :]  # [HALF, R]
    row_result = load_columns(out, column, dims, attended, side, PLAN).to(tl.float32)
    result = tl.where(picture[:, :, None], result, 0.0)
    mask = with_dims(window, dims, PLAN)
    pointers = token_columns(out, column, dims, side, PLAN)
    tl.store(pointers, (row_result + result).to(out[0].dtype.element_ty), mask=mask)
    if out_column is not None:
        pointers = token_columns((out_column, out[1]), column, dims, side, PLAN)
        tl.store(pointers, result.to(out_column.dtype.element_ty), mask=mask)
    if lse is not None:
        token = columns[:, None] + (lines * side)[None, :]  # [HALF, R]
        tl.store(lse + token, tl.where(picture, result_lse * LN2, NONE), mask=window)
        # The row plane's own are there already, where there was a key.
        tl.store(lse + side * side + token, tl.full((HALF, LANES), NONE, tl.float32), mask=window & ~picture)
