"""Shapes, names, and the memory that contenders may take."""

from __future__ import annotations

import pytest
import torch

from svm_ext.bench.case import Case, Contender, Room, Shape, short_name


@pytest.mark.parametrize(
    ("units", "streams", "windows", "heads"),
    [(12, 1, 1, 12), (96, 1, 8, 12), (336, 1, 28, 12), (672, 2, 28, 12), (5, 1, 1, 5), (1, 1, 1, 1)],
)
def test_units_are_windows_of_streams_in_heads(units, streams, windows, heads):
    shape = Shape(units, 8)
    assert (shape.streams, shape.windows, shape.heads) == (streams, windows, heads)
    assert streams * windows * heads == units


def test_types_have_short_names():
    assert [short_name(x) for x in (torch.float32, torch.bfloat16, torch.float16)] == ["fp32", "bf16", "float16"]


def test_a_case_is_called_by_its_sizes():
    ours, other = Contender("memory_append_", lambda: None), Contender("copy", lambda: None)
    sizes = {"units": 12, "frames": 8, "evict": "fifo"}
    case = Case("memory_append", torch.bfloat16, sizes, 1, 0, [ours, other], lambda rows: (rows, rows), 12)
    assert case.name == "memory_append bf16 12 units 8 frames fifo"
    assert case.ours is ours
    assert ours.prepare() is None


def test_room_is_left_for_everything_else():
    room = Room(1000)
    assert room.take("sdpa", 700)
    assert not room.take("eager", 200)
    assert room.take("copy", 100)
    assert room.left_out == {"eager": "needs 0.0 GB, 0.0 GB are free"}


def test_ours_that_does_not_fit_is_no_row():
    with pytest.raises(MemoryError, match=r"memory_attend: needs 3\.0 GB, 1\.6 GB are free; take fewer units"):
        Room(2 * 10**9).reserve("memory_attend", 3 * 10**9)


def test_an_unwanted_baseline_is_not_called_left_out():
    room = Room(1000, wanted={"sdpa"})
    assert not room.take("eager", 1)
    assert room.take("sdpa", 1)
    assert room.left_out == {}
