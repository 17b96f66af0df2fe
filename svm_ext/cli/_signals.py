"""Ends long work between two steps: by Ctrl-C, or by a polite kill as if it were one."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any


class Interrupts:
    """A context in which SIGINT and SIGTERM raise KeyboardInterrupt, but not within `held`: there they wait.

    So what belongs together is done together: a frame is in all files that are written, and counted, or in none.
    """

    def __init__(self) -> None:
        self._held = self._waiting = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        with contextlib.suppress(ValueError):  # only the main thread hears signals
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let an interrupt wait for the end of this block; an error in the block goes first."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._waiting:
            self._waiting = False
            raise KeyboardInterrupt

    def _hear(self, *_: object) -> None:
        if not self._held:
            raise KeyboardInterrupt
        self._waiting = True
