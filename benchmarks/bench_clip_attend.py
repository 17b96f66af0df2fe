"""clip_attend, forward and dQ, against library attention with a mask, the reference model's way and a copy."""

from __future__ import annotations

OP = "clip_attend"
CONTENDERS = ("clip_attend", "sdpa", "eager", "copy")  # ours first


def test_clip_attend(contest, entry, contender):
    contest.run(entry, contender)
