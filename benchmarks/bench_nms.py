"""nms of many boxes of a few classes, against a plain torch loop."""

from __future__ import annotations

OP = "nms"
CONTENDERS = ("nms", "loop")  # ours first


def test_nms(contest, entry, contender):
    contest.run(entry, contender)
