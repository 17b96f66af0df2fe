"""Byte and FLOP formulas against counts: Python that notes each number it reads and writes, and torch's counter."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from svm_ext.bench import baselines, inputs
from svm_ext.bench.case import Shape
from svm_ext.bench.cases import clip_attend, memory_append, memory_attend, nms, stream_step

SHAPES = [
    Shape(units=2, frames=1, side=2, dim=2),
    Shape(units=2, frames=3, side=3, dim=4),
    Shape(units=1, frames=2, side=2, dim=6, dtype=torch.bfloat16),
    Shape(units=3, frames=4, side=2, dim=2, evict="fifo"),
]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s.units}x{s.frames}-{s.evict}-{s.dtype}")


@dataclass
class Ledger:
    """Which numbers were read from memory and written to it: a cache that forgets nothing reads each once."""

    read: set[tuple] = field(default_factory=set)
    written: set[tuple] = field(default_factory=set)
    multiply_adds: int = 0

    def get(self, *number) -> None:
        if number not in self.written:  # what was just written is at hand
            self.read.add(number)

    def put(self, *number) -> None:
        self.written.add(number)

    def bytes(self, itemsize: int) -> int:
        return itemsize * (len(self.read) + len(self.written))


def numbers(shape: Shape):
    """Row, column and dim of each number of a frame of one unit."""
    return product(range(shape.side), range(shape.side), range(shape.dim))


def append(shape: Shape, ledger: Ledger) -> None:
    """A full ring: the oldest frame lies in slot 0, the next-oldest in slot 1."""
    for unit, name, at in product(range(shape.units), "kv", numbers(shape)):
        if shape.evict == "merge" and shape.frames > 1:
            ledger.get(name, unit, 0, *at)
            ledger.get(name, unit, 1, *at)
            ledger.put(name, unit, 1, *at)
        ledger.get("new " + name, unit, *at)
        ledger.put(name, unit, 0, *at)


def attend(shape: Shape, ledger: Ledger) -> None:
    side, dim = range(shape.side), range(shape.dim)
    for unit, r, c in product(range(shape.units), side, side):
        column = [(r2, c) for r2 in side]
        row = [(r, c2) for c2 in side]
        for t, key, d in product(range(shape.frames), column + row, dim):
            for name in "kv":
                ledger.get(name, unit, t, *key, d)
            ledger.get("q", unit, r, c, d)
            ledger.put("out", unit, r, c, d)
            ledger.multiply_adds += 2  # one to the logit, one to the output


@shapes
def test_append_bytes(shape):
    ledger = Ledger()
    append(shape, ledger)
    assert memory_append.bytes_moved(shape) == ledger.bytes(shape.dtype.itemsize)


@shapes
def test_attend_bytes_and_flops(shape):
    ledger = Ledger()
    attend(shape, ledger)
    assert memory_attend.bytes_moved(shape) == ledger.bytes(shape.dtype.itemsize)
    assert memory_attend.flops(shape) == 2 * ledger.multiply_adds


@shapes
def test_step_bytes(shape):
    """The frame that it stores need not be read back, and neither need what a merge has just read."""
    ledger = Ledger()
    append(shape, ledger)
    attend(shape, ledger)
    assert stream_step.bytes_moved(shape) == ledger.bytes(shape.dtype.itemsize)
    assert stream_step.flops(shape) == memory_attend.flops(shape)


@shapes
def test_clip_bytes(shape):
    """Forward and backward are two passes: nothing stays in the caches in between."""
    forward = ("q", "k", "v"), ("out", "out_column", "lse")
    backward = ("dout", "q", "k", "v", "out", "out_column", "lse"), ("dq",)
    found = 0
    for reads, writes in (forward, backward):
        for _ in product(range(shape.units), range(shape.frames), range(shape.tokens)):
            # The log-sum-exp of a token is one fp32 number for each plane.
            sizes = [2 * 4 if name == "lse" else shape.dim * shape.dtype.itemsize for name in (*reads, *writes)]
            found += sum(sizes)
    assert clip_attend.bytes_moved(shape) == found


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_clip_pairs(frames):
    """Each frame sees itself and those before it."""
    seen = [(t, s) for t in range(frames) for s in range(frames) if s <= t]
    assert clip_attend.pairs(Shape(1, frames)) == len(seen)


def test_nms_bytes():
    boxes, scores, labels = nms.detections(20)
    tensors = (boxes, scores, labels, torch.zeros(20, dtype=torch.bool))
    assert nms.bytes_moved(20) == sum(x.numel() * x.element_size() for x in tensors)


@pytest.mark.parametrize("frames", [1, 2, 8, 16, 32])
def test_attend_flops_at_the_sizes_of_the_model(frames):
    assert memory_attend.flops(Shape(1, frames)) == 1_404_928 * frames
    assert memory_attend.flops(Shape(336, frames)) == 336 * 1_404_928 * frames


def test_pool_bytes_are_those_of_the_pool():
    for shape in SHAPES:
        memory = inputs.memory(shape)
        assert shape.pool_bytes == memory.k.nbytes + memory.v.nbytes
        q, _, _ = inputs.frame(shape)
        assert shape.frame_bytes == q.numel() * q.element_size()


@shapes
def test_torch_counts_the_same_flops_in_the_eager_attend(shape):
    memory = inputs.memory(shape)
    lists = baselines.FrameLists(inputs.frame_list(memory.k), inputs.frame_list(memory.v), shape.frames)
    q, _, _ = inputs.frame(shape)
    with FlopCounterMode(display=False) as counter:
        lists.attend(q)
    assert counter.get_total_flops() == memory_attend.flops(shape)


@shapes
def test_torch_counts_the_same_flops_in_the_eager_clip(shape):
    """It keeps the probabilities, so that it needs 4 products where a kernel that keeps nothing needs 5."""
    q, k, v = inputs.clip(shape)
    with FlopCounterMode(display=False) as counter:
        baselines.eager_clip(q, k, v).sum().backward()
    assert counter.get_total_flops() == clip_attend.flops(shape) * 4 // 5
