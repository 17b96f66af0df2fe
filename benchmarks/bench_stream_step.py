"""stream_step_ on a full memory, against our two ops, library attention, the reference model's way and a copy."""

from __future__ import annotations

OP = "stream_step"
CONTENDERS = ("stream_step_", "append+attend", "sdpa", "eager", "copy")  # ours first


def test_stream_step(contest, entry, contender):
    contest.run(entry, contender)
