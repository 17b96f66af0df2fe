"""Slots: a place for each stream in what holds many of them, memories and trackers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Slots:
    """Numbers that streams take and give back, and the things that have a place for each number.

    `makers` make those things for so many streams: a memory, a bank of trackers. They are made when they are first
    wanted, and anew when more streams have come; what the old ones hold moves over.
    """

    def __init__(self, *makers: Callable[[int], Any]) -> None:
        self._makers = makers
        self._things: list[Any] = []
        self._size = 0
        self._taken: set[int] = set()

    @property
    def empty(self) -> bool:
        """Tell whether no stream is left."""
        return not self._taken

    @property
    def made(self) -> list[Any]:
        """What was made so far."""
        return self._things

    def enter(self) -> int:
        """Return the slot of a new stream."""
        slot = next(slot for slot in range(len(self._taken) + 1) if slot not in self._taken)
        self._taken.add(slot)
        return slot

    def leave(self, slot: int) -> None:
        """Give a slot back, empty."""
        self.reset(slot)
        self._taken.remove(slot)

    def reset(self, slot: int) -> None:
        """Forget what is in a slot; one that came after the last step has nothing to forget."""
        if slot < self._size:
            for thing in self._things:
                thing.reset([slot])

    def things(self) -> list[Any]:
        """Return what was made, with a place for every slot that is taken."""
        needed = max(self._taken) + 1
        if needed > self._size:
            made = [make(needed) for make in self._makers]
            for before, thing in zip(self._things, made, strict=False):  # nothing was there at first
                thing.restore(before.snapshot(), list(range(self._size)))
            self._things, self._size = made, needed
        return self._things
