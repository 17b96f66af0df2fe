"""The gradient of both planes with respect to the queries, in one more pass over the keys and values.

dS = P * (dP - delta), dq = scale * dS K, with P from the logits and the log-sum-exp that the forward pass left, dP the
product of the output's gradient with the values, and delta the sum of that gradient times the plane's output.
Tiles, halves, groups and letters as in planes.py; the log-sum-exps being known, groups need no merging but a sum.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .planes import LN2, NONE, both_products, log_of_padded, seen_logits
from .tiles import (
    HALF,
    LANES,
    by_rows,
    each_group,
    for_groups,
    in_units,
    load_columns,
    load_half,
    load_rows,
    rows_there,
    sum_of_groups,
    token_columns,
    token_rows,
    units_of_keys,
    with_dims,
)


@triton.jit
def log_weights(pointers, there):
    """A saved log-sum-exp in powers of two; where there was no key, what makes every probability 0."""
    lse = tl.load(pointers, mask=there, other=NONE)
    return tl.where(lse == NONE, -NONE, lse * (1.0 / LN2))


@triton.jit
def dot_of(a, b):
    """Sum over the head dim, in fp32."""
    return tl.sum(a.to(tl.float32) * b.to(tl.float32), axis=2)


@triton.jit
def through_softmax(line, logits, dp, units):
    """dS of some keys, in units: logits and dP [*, queries, keys]; a line is (q, dout, lse, delta)."""
    _, _, lse, delta = line
    ds = tl.exp2(logits - lse[:, :, None]) * (in_units(dp, units[1]) - delta[:, :, None])
    return in_units(ds, units[0])


@triton.jit
def through_virtual_key(line, pads, part, log_padded, scale, PLAN: tl.constexpr):
    """The virtual key's share of dS K, [*, queries, P]."""
    q, dout, lse, delta = line
    if pads is None:
        return tl.full((q.shape[0], LANES, PLAN.part), 0.0, tl.float32)
    else:
        dims = tl.arange(0, PLAN.width)
        key = tl.load(pads[0] + dims, mask=dims < PLAN.dim, other=0.0).to(tl.float32)
        value = tl.load(pads[1] + dims, mask=dims < PLAN.dim, other=0.0).to(tl.float32)
        p = tl.exp2(dot_of(q, key[None, None, :]) * scale + log_padded - lse)
        ds = p * (dot_of(dout, value[None, None, :]) - delta)
        dims = part + tl.arange(0, PLAN.part)
        key = tl.load(pads[0] + dims, mask=dims < PLAN.dim, other=0.0).to(tl.float32)
        return ds[:, :, None] * key[None, None, :]


@triton.jit
def column_line(q, dout, out, out_column, lse, column, ends, side, PLAN: tl.constexpr, TYPE: tl.constexpr):
    """What the column plane needs of half the queries: (q, dout [HALF, R, D], lse, delta [HALF, R])."""
    dims = tl.arange(0, PLAN.width)
    columns, lines = tl.arange(0, HALF) + column, tl.arange(0, LANES)
    there = (columns < ends[1])[:, None] & (lines < ends[0])[None, :]
    dout_half = load_columns(dout, column, dims, ends, side, PLAN)
    delta = dot_of(dout_half, load_columns((out_column, out[1]), column, dims, ends, side, PLAN))
    column_lse = log_weights(lse + (columns[:, None] + (lines * side)[None, :]), there)
    return load_columns(q, column, dims, ends, side, PLAN).to(TYPE), dout_half.to(TYPE), column_lse, delta


@triton.jit
def row_line(q, dout, out, out_column, lse, row, ends, side, PLAN: tl.constexpr, TYPE: tl.constexpr):
    """What the row plane needs of some rows of queries: (q, dout [rows, C, D], lse, delta [rows, C])."""
    dims = tl.arange(0, PLAN.width)
    dout_rows = load_rows(dout, row, PLAN.rows, dims, ends, side, PLAN)
    plane = load_rows(out, row, PLAN.rows, dims, ends, side, PLAN).to(tl.float32)
    plane -= load_rows((out_column, out[1]), row, PLAN.rows, dims, ends, side, PLAN).to(tl.float32)
    token = ((tl.arange(0, PLAN.rows) + row) * side)[:, None] + tl.arange(0, LANES)[None, :]
    row_lse = log_weights(lse + side * side + token, rows_there(row, PLAN.rows, ends))
    q_rows = load_rows(q, row, PLAN.rows, dims, ends, side, PLAN)
    return q_rows.to(TYPE), dout_rows.to(TYPE), row_lse, dot_of(dout_rows, plane)


@triton.jit
def take_gradient(
    column_sums,
    row_sums,
    q,
    dout,
    line,
    groups,
    k,
    v,
    units,
    row,
    frame,
    column,
    part,
    ends,
    side,
    scale,
    PLAN: tl.constexpr,
    TYPE: tl.constexpr,
):
    """Add half a tile's share of dS K, for the queries of its columns and of its rows."""
    queries = line[0], groups[0]
    products = both_products(q, queries, k, row, frame, column, ends, ends, side, PLAN, TYPE)
    queries = line[1], groups[1]
    dp = both_products(dout, queries, v, row, frame, column, ends, ends, side, PLAN, TYPE)
    keys = load_half(k, row, frame, column, part + tl.arange(0, PLAN.part), ends, PLAN, TYPE)
    of_columns, of_rows = seen_logits(products, units[0], row, frame, column, ends, scale, PLAN)
    ds = through_softmax(line, of_columns, dp[0], units).to(TYPE)
    column_sums = tl.dot(ds, keys, column_sums, input_precision=PLAN.precision)
    ds = through_softmax(groups, of_rows, dp[1], units).to(TYPE)
    return column_sums, tl.dot(ds, by_rows(keys, PLAN), row_sums, input_precision=PLAN.precision)


@triton.jit
def store_gradient(
    q,  # tokens of this unit: (pointer, strides of (token, dim))
    dout,
    out,  # of the forward pass
    out_column,  # pointer, with out's strides
    dq,  # tokens
    k,  # keys: (pointer, strides of (row, frame, column, dim))
    v,
    exponents,  # of the slots; None where keys and values are no codes
    lse,  # [2, N]
    pads,  # pointers to (key, value) of padded tokens, [D] each, or None
    frames_seen,  # (first, after the last)
    real,  # (rows, columns)
    side,
    scale,
    part,  # the first dim of dq that this program computes
    PLAN: tl.constexpr,
    TYPE: tl.constexpr,
):
    """Write dq of one unit; 0 for tokens beyond the picture."""
    seen = tl.maximum(frames_seen[1] - frames_seen[0], 0)
    ends = real[0], real[1], frames_seen[1]
    log_column, log_row = log_of_padded((side - real[0]) * seen), log_of_padded((side - real[1]) * seen)
    left_line = column_line(q, dout, out, out_column, lse, 0, ends, side, PLAN, TYPE)
    right_line = column_line(q, dout, out, out_column, lse, HALF, ends, side, PLAN, TYPE)
    left = through_virtual_key(left_line, pads, part, log_column, scale, PLAN)
    right = through_virtual_key(right_line, pads, part, log_column, scale, PLAN)
    row_sums = tl.full((HALF, LANES, PLAN.part), 0.0, tl.float32)

    tiles = tl.cdiv(real[0], PLAN.rows) * tl.cdiv(seen, PLAN.frames)
    row, frame = real[0] * 0, frames_seen[0]
    for _ in tl.range(0, tiles, num_stages=PLAN.stages):
        line = row_line(q, dout, out, out_column, lse, row, ends, side, PLAN, TYPE)
        groups = (
            for_groups(line[0], PLAN),
            for_groups(line[1], PLAN),
            each_group(line[2], PLAN),
            each_group(line[3], PLAN),
        )
        units = (None, None)
        if exponents is not None:
            units = units_of_keys(exponents, frame, ends, PLAN)
        left, row_sums = take_gradient(
            left, row_sums, q, dout, left_line, groups, k, v, units, row, frame, 0, part, ends, side, scale, PLAN, TYPE
        )
        right, row_sums = take_gradient(
            right,
            row_sums,
            q,
            dout,
            right_line,
            groups,
            k,
            v,
            units,
            row,
            frame,
            HALF,
            part,
            ends,
            side,
            scale,
            PLAN,
            TYPE,
        )
        row_ends = frame + PLAN.frames >= frames_seen[1]
        if row_ends:
            total = sum_of_groups(row_sums, PLAN)
            if pads is not None:
                line = row_line(q, dout, out, out_column, lse, row, ends, side, PLAN, TYPE)
                total += through_virtual_key(line, pads, part, log_row, scale, PLAN)
            store_row_gradient(total * (scale * LN2), dq, row, ends, side, part, PLAN)
            row_sums = tl.full((HALF, LANES, PLAN.part), 0.0, tl.float32)
        row = tl.where(row_ends, row + PLAN.rows, row)
        frame = tl.where(row_ends, frames_seen[0], frame + PLAN.frames)

    tl.debug_barrier()  # the row plane's results were stored by other threads
    add_column_gradient(left * (scale * LN2), dq, 0, seen, real, side, part, PLAN)
    add_column_gradient(right * (scale * LN2), dq, HALF, seen, real, side, part, PLAN)


@triton.jit
def store_row_gradient(total, dq, row, ends, side, part, PLAN: tl.constexpr):
    """Store the row plane's share of dq for some rows, [rows, C, P]."""
    dims = part + tl.arange(0, PLAN.part)
    pointers = token_rows(dq, row, PLAN.rows, dims, side, PLAN)
    there = rows_there(row, PLAN.rows, ends)
    tl.store(pointers, total.to(dq[0].dtype.element_ty), mask=with_dims(there, dims, PLAN))


@triton.jit
def add_column_gradient(total, dq, column, seen, real, side, part, PLAN: tl.constexpr):
    """Add the column plane's share for half the columns, [HALF, R, P]; tokens beyond the picture get 0."""
    columns, lines = tl.arange(0, HALF) + column, tl.arange(0, LANES)
    dims = part + tl.arange(0, PLAN.part)
    window = (columns < side)[:, None] & (lines < side)[None, :]  # [HALF, R]
    attended = tl.where(seen > 0, real[0], 0), real[1]
    picture = (columns < attended[1])[:, None] & (lines < attended[0])[None, :]  # [HALF, R]
    of_rows = load_columns(dq, column, dims, attended, side, PLAN).to(tl.float32)
    total = tl.where(picture[:, :, None], of_rows + total, 0.0)
    pointers = token_columns(dq, column, dims, side, PLAN)
    tl.store(pointers, total.to(dq[0].dtype.element_ty), mask=with_dims(window, dims, PLAN))
