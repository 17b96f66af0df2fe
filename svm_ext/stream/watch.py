"""Watching: from sources through a session to results, frame after frame."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from .live import Policy, Readers
from .sources import Frame, Source, Spec, open_source

Result = TypeVar("Result")


class Session(Protocol[Result]):
    """What a model remembers of many streams."""

    @property
    def streams(self) -> list[Hashable]:
        """The open streams."""

    @property
    def nbytes(self) -> int:
        """Bytes that the memories of all open streams occupy."""

    def open(self, stream: Hashable, size: tuple[int, int]) -> None:
        """Make room for a stream of pictures of this size (width, height)."""

    def close(self, stream: Hashable) -> None:
        """Forget a stream."""

    def step(self, frames: Mapping[Hashable, Frame]) -> dict[Hashable, Result]:
        """Take in one new frame of each of these streams and return results, where there are any."""


class Watching(Iterator[Result], Generic[Result]):
    """The results of some sources, frame after frame, as they come; a context that closes the sources.

    What a source gave before it failed has its results; the error is raised when all streams have ended. `problems`
    are what did not end them: damage, lost connections.
    """

    def __init__(self, sources: Mapping[Hashable, Source], session: Session[Result], live: Policy = "latest") -> None:
        self.sources, self.session = dict(sources), session
        for name, source in self.sources.items():
            session.open(name, source.size)
        self._readers = Readers(self.sources, live)
        self._waiting: deque[Result] = deque()
        self._finalizer = weakref.finalize(self, self._readers.close)  # for those who break out of their loop

    def __next__(self) -> Result:
        try:
            while not self._waiting:
                self._close_ended()
                frames = self._readers.next()
                if not frames:
                    self._close_ended()
                    self._raise()
                    raise StopIteration
                self._waiting.extend(self.session.step(frames).values())
        except BaseException:
            self.close()
            raise
        return self._waiting.popleft()

    @property
    def dropped(self) -> int:
        """Frames that live sources gave while the model was busy, and that were let go."""
        return self._readers.dropped

    @property
    def problems(self) -> list[str]:
        """What was wrong with the sources, as far as they were read."""
        return [source.problem for source in self.sources.values() if source.problem]

    def close(self) -> None:
        """End the reading of all sources."""
        self._finalizer()

    def __enter__(self) -> Watching[Result]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _close_ended(self) -> None:
        """Free the memory of streams that are over."""
        for name in self._readers.ended():
            if name in self.session.streams:
                self.session.close(name)

    def _raise(self) -> None:
        """Raise what ended a source before its time; with several, the first."""
        for error in self._readers.errors():
            raise error


def open_sources(specs: Sequence[Spec | Source]) -> dict[str, Source]:
    """Open sources under names of their own; all of them or none."""
    found: dict[str, Source] = {}
    try:
        for spec in specs:
            source = spec if isinstance(spec, Source) else open_source(spec)
            found[_new_name(source.name, found)] = source
    except BaseException:
        close_all(found.values())
        raise
    if not found:
        raise ValueError("source: expected at least one, got none; name a file, a camera or an address")
    return found


def close_all(sources: Iterator[Source] | Any) -> None:
    """Close sources that nobody reads."""
    for source in sources:
        source.close()


def _new_name(name: str, taken: Mapping[str, Any]) -> str:
    number, new = 1, name
    while new in taken:
        number += 1
        new = f"{name}-{number}"
    return new
