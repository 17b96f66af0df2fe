"""nms_mask: which boxes, given best first, no better kept box of their own group overlaps.

Two launches. The first compares all pairs and keeps one bit of each, 32 of them in a word: box j goes if box i stays.
The second, one program, walks through the words: those 32 boxes it settles among themselves, one after the other; then
it strikes out, all at once, what those of them that stay overlap further on.
"""

from __future__ import annotations

import triton
import triton.language as tl

BITS = tl.constexpr(32)


@triton.jit
def load_boxes(boxes, index, count):
    """Load the corners of some boxes, and whether they are there and hold no NaN."""
    there = index < count
    at = boxes + index.to(tl.int64) * 4
    x1, y1 = tl.load(at, mask=there, other=0.0), tl.load(at + 1, mask=there, other=0.0)
    x2, y2 = tl.load(at + 2, mask=there, other=0.0), tl.load(at + 3, mask=there, other=0.0)
    return x1, y1, x2, y2, there & (x1 == x1) & (y1 == y1) & (x2 == x2) & (y2 == y2)


@triton.jit
def positive(x):
    """The number, or 0 where it is negative; NaN stays, which a maximum may lose."""
    return tl.where(x < 0, 0.0, x)


@triton.jit
def area_of(box):
    """The area of boxes, 0 where the corners are swapped."""
    return positive(box[2] - box[0]) * positive(box[3] - box[1])


@triton.jit
def nms_overlaps_kernel(boxes, groups, limit, overlaps, count, words, ROWS: tl.constexpr):
    """One program compares some boxes with the 32 of one word; only later ones count."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    word = tl.program_id(1)
    columns = word * BITS + tl.arange(0, BITS)
    a, b = load_boxes(boxes, rows, count), load_boxes(boxes, columns, count)
    left = tl.where(a[0][:, None] > b[0][None, :], a[0][:, None], b[0][None, :])
    top = tl.where(a[1][:, None] > b[1][None, :], a[1][:, None], b[1][None, :])
    right = tl.where(a[2][:, None] < b[2][None, :], a[2][:, None], b[2][None, :])
    bottom = tl.where(a[3][:, None] < b[3][None, :], a[3][:, None], b[3][None, :])
    shared = positive(right - left) * positive(bottom - top)
    most = tl.load(limit)
    # Multiplied out: exact for whole numbers, and NaN compares as false.
    hit = shared * (1.0 + most) > most * (area_of(a)[:, None] + area_of(b)[None, :])
    a_group = tl.load(groups + rows, mask=rows < count, other=0)
    b_group = tl.load(groups + columns, mask=columns < count, other=0)
    hit = hit & a[4][:, None] & b[4][None, :] & (a_group[:, None] == b_group[None, :])
    hit = hit & (columns[None, :] > rows[:, None])
    bits = tl.sum(hit.to(tl.int64) << tl.arange(0, BITS)[None, :].to(tl.int64), axis=1)
    tl.store(overlaps + rows.to(tl.int64) * words + word, bits.to(tl.uint32), mask=rows < count)


@triton.jit
def nms_select_kernel(overlaps, gone, kept, count, words, CHUNK: tl.constexpr):
    """One program decides for all boxes; `gone` holds a bit of each, none of them set."""
    for word in range(words):
        struck = tl.load(gone + word)
        for bit in tl.static_range(BITS):
            index = word * BITS + bit
            mine = tl.load(overlaps + tl.cast(index, tl.int64) * words + word, mask=index < count, other=0)
            struck = struck | tl.where(((struck >> bit) & 1) == 0, mine, 0)
        lanes = tl.arange(0, BITS)
        stays = ((struck >> lanes.to(tl.uint32)) & 1) == 0
        boxes = word * BITS + lanes
        tl.store(kept + boxes, stays, mask=boxes < count)
        for chunk in range(word + 1, words, CHUNK):
            later = chunk + tl.arange(0, CHUNK)
            strikes = tl.load(gone + later, mask=later < words, other=0)
            for bit in tl.static_range(BITS):
                index = word * BITS + bit
                at = overlaps + tl.cast(index, tl.int64) * words + later
                end = tl.where(((struck >> bit) & 1) == 0, tl.where(index < count, words, 0), 0)
                strikes = strikes | tl.load(at, mask=later < end, other=0)
            tl.store(gone + later, strikes, mask=later < words)
        tl.debug_barrier()  # the next word was stored by other threads
