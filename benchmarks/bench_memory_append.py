"""memory_append_ into a full memory, against index assignment in the two usual pool layouts and a copy."""

from __future__ import annotations

OP = "memory_append"
CONTENDERS = ("memory_append_", "index", "index_rows", "copy")  # ours first


def test_memory_append(contest, entry, contender):
    contest.run(entry, contender)
