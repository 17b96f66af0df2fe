"""One live line that says how far a long command is."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_EVERY_SECONDS = 10  # a plain line, where there is no terminal to rewrite one on


class Progress:
    """Counts work by weight and tells what is done, for how long, and how long it will take.

    On a terminal it rewrites one line of `stream`; elsewhere it prints a line every ten seconds.
    """

    def __init__(self, total: float, stream: TextIO | None = None) -> None:
        self._total, self._done = total, 0.0
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._start = self._told = time.monotonic()

    def begin(self, what: str) -> None:
        """Say what comes next."""
        now = time.monotonic()
        if self._live:
            self._stream.write(f"\r\x1b[K{self._line(what, now)}")
        elif now - self._told >= _EVERY_SECONDS:
            self._told = now
            self._stream.write(f"{self._line(what, now)}\n")
        self._stream.flush()

    def end(self, weight: float) -> None:
        """Count what was begun as done."""
        self._done += weight
        self.clear()

    def clear(self) -> None:
        """Remove the live line, so that something else can be printed."""
        if self._live:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _line(self, what: str, now: float) -> str:
        gone, share = now - self._start, self._done / self._total
        left = _clock(gone / share - gone) if share else "--"
        return f"{share:4.0%}  {_clock(gone)} gone  {left} left  {what}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
