"""memory_attend over a full memory, against library attention, the reference model's way and a copy."""

from __future__ import annotations

OP = "memory_attend"
CONTENDERS = ("memory_attend", "sdpa", "flex", "eager", "copy")  # ours first


def test_memory_attend(contest, entry, contender):
    contest.run(entry, contender)
