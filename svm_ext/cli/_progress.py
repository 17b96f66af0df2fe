"""One live line that says how far a long command is."""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from typing import TextIO

_EVERY_SECONDS = 10  # a plain line, where there is no terminal to rewrite one on
_MARK_SECONDS = 0.1  # between two looks at the clock, and two rewrites of the line
_RATE_SECONDS = 2.0  # that the present rate is taken over


class LiveLine:
    """A line that changes: rewritten in place on a terminal, printed every ten seconds elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._start = self._told = time.monotonic()

    def show(self, text: str, now: float) -> None:
        """Show a text instead of the one before."""
        if self._live:
            room = shutil.get_terminal_size().columns - 1  # a line that wraps could not be rewritten
            self._stream.write(f"\r\x1b[K{text[:room]}")
        elif now - self._told >= _EVERY_SECONDS:
            self._told = now
            self._stream.write(f"{text}\n")
        self._stream.flush()

    def clear(self) -> None:
        """Remove the live line, so that something else can be printed."""
        if self._live:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


class Progress(LiveLine):
    """Counts work by weight and tells what is done, for how long, and how long it will take."""

    def __init__(self, total: float, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._total, self._done = total, 0.0

    def begin(self, what: str) -> None:
        """Say what comes next."""
        now = time.monotonic()
        self.show(self._line(what, now), now)

    def end(self, weight: float) -> None:
        """Count what was begun as done."""
        self._done += weight
        self.clear()

    def _line(self, what: str, now: float) -> str:
        gone, share = now - self._start, self._done / self._total
        left = _clock(gone / share - gone) if share else "--"
        return f"{share:4.0%}  {_clock(gone)} gone  {left} left  {what}"


class FrameProgress(LiveLine):
    """Counts frames and tells how many come through a second, now; `total` is None where nobody can know it."""

    def __init__(self, total: int | None, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._total, self.done = total, 0
        self._marks: deque[tuple[float, int]] = deque([(self._start, 0)])  # times, and the frames done by then
        self._shown = float("-inf")

    def step(self, what: str) -> None:
        """Count a frame as done; `what` ends the line."""
        self.done += 1
        now = time.monotonic()
        if now - self._marks[-1][0] >= _MARK_SECONDS:
            self._marks.append((now, self.done))
            while len(self._marks) > 2 and now - self._marks[1][0] >= _RATE_SECONDS:
                self._marks.popleft()
        if now - self._shown >= _MARK_SECONDS:
            self._shown = now
            self.show(self._line(what, now), now)

    @property
    def rate(self) -> float | None:
        """Frames a second, in the last few; None before the first tenth of a second has gone."""
        (begin, before), (end, after) = self._marks[0], self._marks[-1]
        return (after - before) / (end - begin) if end > begin else None

    @property
    def mean_rate(self) -> float:
        """Frames a second, from the beginning."""
        return self.done / max(self.seconds, 1e-9)

    @property
    def seconds(self) -> float:
        """How long it has been going on."""
        return time.monotonic() - self._start

    def _line(self, what: str, now: float) -> str:
        gone, rate = now - self._start, self.rate
        share = f"{self.done / self._total:4.0%}" if self._total else "  --"
        speed = "--" if rate is None else f"{rate:.1f}"
        left = "--" if not (self._total and rate) else _clock(max(self._total - self.done, 0) / rate)
        total = self._total or "--"
        return f"frame {self.done}/{total}  {share}  {speed} fps  {_clock(gone)} gone  {left} left  {what}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
