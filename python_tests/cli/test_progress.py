"""The line that says how far a command is."""

from __future__ import annotations

import io

import pytest

from svm_ext.cli import _progress
from svm_ext.cli._progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds, to be set by the test."""
    now = [100.0]
    monkeypatch.setattr(_progress.time, "monotonic", lambda: now[0])
    return now


def test_a_terminal_shows_one_live_line(clock):
    stream = Terminal()
    progress = Progress(4, stream)
    progress.begin("first")
    assert stream.getvalue() == "\r\x1b[K  0%  0:00 gone  -- left  first"
    clock[0] += 30
    progress.end(1)
    progress.begin("second")
    assert stream.getvalue().endswith("\r\x1b[K 25%  0:30 gone  1:30 left  second")
    progress.clear()
    assert stream.getvalue().endswith("\r\x1b[K")
    assert "\n" not in stream.getvalue()


def test_a_file_gets_a_line_every_ten_seconds(clock):
    stream = io.StringIO()
    progress = Progress(10, stream)
    for second in range(25):
        clock[0] = 100.0 + second
        progress.begin(f"work {second}")
        progress.end(0.2)
    assert stream.getvalue().splitlines() == [
        " 20%  0:10 gone  0:40 left  work 10",
        " 40%  0:20 gone  0:30 left  work 20",
    ]


def test_minutes_and_seconds():
    assert [_progress._clock(seconds) for seconds in (0, 59.6, 61, 3600)] == ["0:00", "1:00", "1:01", "60:00"]
