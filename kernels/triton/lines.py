"""One axial plane of a window of any side, for heads of up to 512 dims: plain flash attention, line by line.

A line is a column of the window in the column plane and a row in the row plane: its queries see its own keys (frame,
position) alone. A program takes a block of a line's queries through all of them. Nothing is shared between the planes,
as it is in planes.py: every key is read twice, and once more for every block and part.

Letters: Q queries of a block, K keys of a tile, D the padded head dim, P the part of it that a program computes of the
results. PLAN is a heuristics.LinePlan, TYPE the type of the products, PLANE the plane's place in a log-sum-exp [2, N].
Logits are kept in powers of two: `scale` comes multiplied by log2(e).
"""

from __future__ import annotations

import triton
import triton.language as tl

from .fp8 import load_units, numbers_of
from .gradients import log_weights
from .planes import LN2, NONE, level_of, log_of_padded
from .tiles import wide

COLUMN = tl.constexpr(0)
ROW = tl.constexpr(1)
KEY = tl.constexpr(0)
VALUE = tl.constexpr(1)


@triton.jit
def block_of(split, PLAN: tl.constexpr):
    """What a program does of a unit: (its line, the first of its queries there)."""
    blocks: tl.constexpr = (PLAN.side + PLAN.queries - 1) // PLAN.queries
    return split // blocks, split % blocks * PLAN.queries


@triton.jit
def queries_of(block, real, PLANE: tl.constexpr, PLAN: tl.constexpr):
    """The queries of a block, [Q] each: (their tokens, which are in the window, which of them in the picture)."""
    line, first = block
    places = first + tl.arange(0, PLAN.queries)
    tokens = places * PLAN.side + line if PLANE == COLUMN else line * PLAN.side + places
    lines = line + tl.zeros_like(places)  # a scalar would make a mask that Triton's interpreter does not take
    return tokens, places < PLAN.side, (places < real[PLANE]) & (lines < real[1 - PLANE])


@triton.jit
def keys_in(block, seen, real, PLANE: tl.constexpr):
    """How many keys there are for a block; none where its queries lie beyond the picture."""
    line, first = block
    in_picture = (first < real[PLANE]) & (line < real[1 - PLANE])
    return tl.where(in_picture, tl.maximum(seen[1] - seen[0], 0) * real[PLANE], 0)


@triton.jit
def keys_at(start, count, seen, real, PLANE: tl.constexpr, PLAN: tl.constexpr):
    """A tile of a line's keys, [K] each: (frame, position on the line, whether there is one)."""
    index = start + tl.arange(0, PLAN.keys)
    return seen[0] + index // real[PLANE], index % real[PLANE], index < count


@triton.jit
def line_of(frames, block, PLANE: tl.constexpr):
    """One line of a unit's frames (pointer, strides of (row, frame, column, dim)), without its own stride."""
    base, strides = frames
    return base + block[0] * wide(strides[2 - 2 * PLANE]), (strides[1], strides[2 * PLANE], strides[3])


@triton.jit
def with_dims(there, dims, PLAN: tl.constexpr):
    """A mask of tokens [*] as one of numbers [*, dims]: the head dim may end before its padding does."""
    if PLAN.dim == PLAN.width:
        return there[:, None]
    else:
        return there[:, None] & (dims < PLAN.dim)[None, :]


@triton.jit
def places_of(tokens, queries, dims):
    """Pointers [Q, dims] to the tokens of queries; in 64 bits, for a window may be of any size."""
    base, strides = tokens
    return base + ((queries[0] * wide(strides[0]))[:, None] + (dims * wide(strides[1]))[None, :])


@triton.jit
def load_queries(tokens, queries, dims, PLAN: tl.constexpr):
    """Load the tokens of queries, [Q, dims]; zero beyond the picture."""
    return tl.load(places_of(tokens, queries, dims), mask=with_dims(queries[2], dims, PLAN), other=0.0)


@triton.jit
def load_keys(line, keys, dims, PLAN: tl.constexpr, TYPE: tl.constexpr):
    """Load a tile of keys or values, [K, dims]; zero where there is none."""
    base, strides = line
    frame, position, there = keys
    lines = frame * wide(strides[0]) + position * wide(strides[1])
    pointers = base + (lines[:, None] + (dims * wide(strides[2]))[None, :])
    return numbers_of(tl.load(pointers, mask=with_dims(there, dims, PLAN), other=0), TYPE)


@triton.jit
def load_pad(pad, dims, PLAN: tl.constexpr):
    """Load the key or the value of the padded tokens, [dims]."""
    return tl.load(pad + dims, mask=dims < PLAN.dim, other=0.0).to(tl.float32)


@triton.jit
def counted(x, exponents, keys, WHAT: tl.constexpr):
    """Multiply what was made of the codes of keys or of values, [Q, K], with what these codes count."""
    if exponents is None:
        return x
    else:
        units = load_units(exponents, keys[0], keys[2])
        return x * units[WHAT][None, :]


@triton.jit
def first_chunk(tokens, queries, PLAN: tl.constexpr, TYPE: tl.constexpr):
    """What of the queries stays on the chip for all tiles, [Q, dims]: all of narrow heads."""
    return load_queries(tokens, queries, tl.arange(0, PLAN.chunk), PLAN).to(TYPE)


@triton.jit
def products(tokens, queries, chunk, line, keys, PLAN: tl.constexpr, TYPE: tl.constexpr):
    """Multiply queries with a tile of keys, [Q, K]; beyond their first chunk, queries are loaded for every tile."""
    loaded = load_keys(line, keys, tl.arange(0, PLAN.chunk), PLAN, TYPE)
    total = tl.dot(chunk, tl.trans(loaded), input_precision=PLAN.precision)
    for first in range(PLAN.chunk, PLAN.width, PLAN.chunk):
        dims = first + tl.arange(0, PLAN.chunk)
        some = load_queries(tokens, queries, dims, PLAN).to(TYPE)
        loaded = load_keys(line, keys, dims, PLAN, TYPE)
        total = tl.dot(some, tl.trans(loaded), total, input_precision=PLAN.precision)
    return total


@triton.jit
def logits_of(tokens, queries, chunk, line, keys, exponents, scale, PLAN: tl.constexpr, TYPE: tl.constexpr):
    """Logits of queries over a tile of keys, [Q, K]; -inf where there is no key."""
    logits = counted(products(tokens, queries, chunk, line, keys, PLAN, TYPE), exponents, keys, KEY) * scale
    return tl.where(keys[2][None, :], logits, NONE)


@triton.jit
def dot_with_pad(tokens, queries, pad, PLAN: tl.constexpr):
    """Multiply the tokens of queries with the key or the value of the padded ones, [Q]."""
    total = tl.full((PLAN.queries,), 0.0, tl.float32)
    for first in range(0, PLAN.width, PLAN.chunk):
        dims = first + tl.arange(0, PLAN.chunk)
        some = load_queries(tokens, queries, dims, PLAN).to(tl.float32)
        total += tl.sum(some * load_pad(pad, dims, PLAN)[None, :], axis=1)
    return total


@triton.jit
def pad_logits(q, queries, pads, seen, real, scale, PLANE: tl.constexpr, PLAN: tl.constexpr):
    """Logits of the one key that stands for all padded ones of a line, [Q]; -inf where there is none."""
    padded = (PLAN.side - real[PLANE]) * tl.maximum(seen[1] - seen[0], 0)
    return dot_with_pad(q, queries, pads[0], PLAN) * scale + log_of_padded(padded)


@triton.jit
def softmax_of_pads(q, queries, pads, seen, real, scale, part, PLANE: tl.constexpr, PLAN: tl.constexpr):
    """Softmaxes (top, weight [Q], sums [Q, P]) that have seen no key, or the padded tokens' one if it is given."""
    top = tl.full((PLAN.queries,), NONE, tl.float32)
    weight = tl.full((PLAN.queries,), 0.0, tl.float32)
    sums = tl.full((PLAN.queries, PLAN.part), 0.0, tl.float32)
    if pads is not None:
        top = pad_logits(q, queries, pads, seen, real, scale, PLANE, PLAN)
        weight = tl.exp2(top - level_of(top))
        sums += weight[:, None] * load_pad(pads[1], part + tl.arange(0, PLAN.part), PLAN)[None, :]
    return top, weight, sums


@triton.jit
def attend_line(
    q,  # tokens of this unit: (pointer, strides of (token, dim))
    k,  # keys: (pointer, strides of (row, frame, column, dim))
    v,
    pads,  # pointers to (key, value) of padded tokens, [D] each, or None
    exponents,  # of the unit's slots where the frames are codes of fp8, or None
    block,  # (line, first query)
    seen,  # frames: (first, after the last)
    real,  # (rows, columns)
    scale,
    part,  # the first dim of the results that this program computes
    PLANE: tl.constexpr,
    PLAN: tl.constexpr,
    TYPE: tl.constexpr,
):
    """Attend one plane for a block: its results [Q, P] and their log-sum-exps, 0 and -inf beyond the picture."""
    queries = queries_of(block, real, PLANE, PLAN)
    top, weight, sums = softmax_of_pads(q, queries, pads, seen, real, scale, part, PLANE, PLAN)
    chunk, count = first_chunk(q, queries, PLAN, TYPE), keys_in(block, seen, real, PLANE)
    k_line, v_line = line_of(k, block, PLANE), line_of(v, block, PLANE)
    for start in tl.range(0, count, PLAN.keys, num_stages=PLAN.stages):
        keys = keys_at(start, count, seen, real, PLANE, PLAN)
        logits = logits_of(q, queries, chunk, k_line, keys, exponents, scale, PLAN, TYPE)
        values = load_keys(v_line, keys, part + tl.arange(0, PLAN.part), PLAN, TYPE)
        higher = tl.maximum(top, tl.max(logits, axis=1))
        level = level_of(higher)
        p, fade = tl.exp2(logits - level[:, None]), tl.exp2(top - level)
        weight = weight * fade + tl.sum(p, axis=1)
        p = counted(p, exponents, keys, VALUE).to(TYPE)
        sums = tl.dot(p, values, sums * fade[:, None], input_precision=PLAN.precision)
        top = higher
    empty = (weight == 0.0) | (queries[2] == 0)
    weight = tl.where(empty, 1.0, weight)
    return tl.where(empty[:, None], 0.0, sums / weight[:, None]), tl.where(empty, NONE, top + tl.log2(weight))


@triton.jit
def add_line(result, tokens, block, real, part, PLANE: tl.constexpr, PLAN: tl.constexpr):
    """Store a block's numbers [Q, P]; those of the column plane are added to those of the row plane before it."""
    queries = queries_of(block, real, PLANE, PLAN)
    dims = part + tl.arange(0, PLAN.part)
    pointers, window = places_of(tokens, queries, dims), with_dims(queries[1], dims, PLAN)
    if PLANE == COLUMN:
        result += tl.load(pointers, mask=window, other=0.0).to(tl.float32)
    tl.store(pointers, result.to(tokens[0].dtype.element_ty), mask=window)


@triton.jit
def store_line(
    result,  # [Q, P], and its log-sum-exps
    result_lse,
    out,  # tokens: takes the row plane's result, then the sum
    out_column,  # tokens: takes the column plane's result; or None
    lse,  # [2, N], or None
    block,
    real,
    part,
    PLANE: tl.constexpr,
    PLAN: tl.constexpr,
):
    """Store what a block found in one plane."""
    queries = queries_of(block, real, PLANE, PLAN)
    dims = part + tl.arange(0, PLAN.part)
    if lse is not None:
        tl.store(lse + PLANE * PLAN.side * PLAN.side + queries[0], result_lse * LN2, mask=queries[1])
    if PLANE == COLUMN and out_column is not None:
        rounded = result.to(out_column[0].dtype.element_ty)
        tl.store(places_of(out_column, queries, dims), rounded, mask=with_dims(queries[1], dims, PLAN))
    add_line(result, out, block, real, part, PLANE, PLAN)


@triton.jit
def delta_of(dout, out, out_column, queries, PLANE: tl.constexpr, PLAN: tl.constexpr):
    """The gradient of a plane's output times that output, [Q]."""
    total = tl.full((PLAN.queries,), 0.0, tl.float32)
    for first in range(0, PLAN.width, PLAN.chunk):
        dims = first + tl.arange(0, PLAN.chunk)
        plane = load_queries(out_column, queries, dims, PLAN).to(tl.float32)
        if PLANE == ROW:
            plane = load_queries(out, queries, dims, PLAN).to(tl.float32) - plane
        total += tl.sum(load_queries(dout, queries, dims, PLAN).to(tl.float32) * plane, axis=1)
    return total


@triton.jit
def store_line_gradient(
    q,  # tokens of this unit: (pointer, strides of (token, dim))
    dout,
    out,  # of the forward pass
    out_column,
    dq,
    lse,  # [2, N]
    k,  # keys: (pointer, strides of (row, frame, column, dim))
    v,
    pads,
    exponents,
    block,
    seen,
    real,
    scale,
    part,  # the first dim of dq that this program computes
    PLANE: tl.constexpr,
    PLAN: tl.constexpr,
    TYPE: tl.constexpr,
):
    """Write one plane's share of dq for a block, as gradients.py says; 0 for tokens beyond the picture."""
    queries, dims = queries_of(block, real, PLANE, PLAN), part + tl.arange(0, PLAN.part)
    delta = delta_of(dout, out, out_column, queries, PLANE, PLAN)
    level = log_weights(lse + PLANE * PLAN.side * PLAN.side + queries[0], queries[2])
    sums = tl.full((PLAN.queries, PLAN.part), 0.0, tl.float32)
    if pads is not None:
        p_of_pad = tl.exp2(pad_logits(q, queries, pads, seen, real, scale, PLANE, PLAN) - level)
        ds_of_pad = p_of_pad * (dot_with_pad(dout, queries, pads[1], PLAN) - delta)
        sums += ds_of_pad[:, None] * load_pad(pads[0], dims, PLAN)[None, :]
    q_chunk, dout_chunk = first_chunk(q, queries, PLAN, TYPE), first_chunk(dout, queries, PLAN, TYPE)
    k_line, v_line = line_of(k, block, PLANE), line_of(v, block, PLANE)
    count = keys_in(block, seen, real, PLANE)
    for start in tl.range(0, count, PLAN.keys, num_stages=PLAN.stages):
        keys = keys_at(start, count, seen, real, PLANE, PLAN)
        logits = logits_of(q, queries, q_chunk, k_line, keys, exponents, scale, PLAN, TYPE)
        dp = counted(products(dout, queries, dout_chunk, v_line, keys, PLAN, TYPE), exponents, keys, VALUE)
        ds = counted(tl.exp2(logits - level[:, None]) * (dp - delta[:, None]), exponents, keys, KEY).to(TYPE)
        sums = tl.dot(ds, load_keys(k_line, keys, dims, PLAN, TYPE), sums, input_precision=PLAN.precision)
    add_line(sums * (scale * LN2), dq, block, real, part, PLANE, PLAN)
