"""Progress of work whose amount is known with its first step."""

from __future__ import annotations

from ._progress import Progress


class Told:
    """Shows what is being done; use it as a context, which removes the line at the end."""

    def __init__(self) -> None:
        self._line: Progress | None = None
        self._total = self._number = 0

    def __enter__(self) -> Told:
        return self

    def __exit__(self, *error: object) -> None:
        self.clear()

    def begin(self, name: str, number: int, total: int) -> None:
        """Say that a step begins, its number and how many there are, and so that those before are done."""
        if self._line is None or total != self._total or number == 0:
            self._line, self._total, self._number = Progress(total), total, 0
        self._line.end(number - self._number)
        self._number = number
        self._line.begin(name)

    def clear(self) -> None:
        """Remove the line, so that something else can be printed."""
        if self._line is not None:
            self._line.clear()
