"""The line that says how far a command is."""

from __future__ import annotations

import io
import re

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


# Frames


def test_frames_are_told_with_their_rate_and_what_is_left(clock):
    stream = Terminal()
    progress = _progress.FrameProgress(100, stream)
    for _ in range(10):
        clock[0] += 0.2
        progress.step("0 dropped  3 tracks")
    assert stream.getvalue().endswith("\r\x1b[Kframe 10/100   10%  5.0 fps  0:02 gone  0:18 left  0 dropped  3 tracks")
    assert "\n" not in stream.getvalue()


def test_what_nobody_can_know_is_dashes(clock):
    stream = Terminal()
    progress = _progress.FrameProgress(None, stream)
    progress.step("0 dropped")
    assert stream.getvalue().endswith("frame 1/--    --  -- fps  0:00 gone  -- left  0 dropped")
    assert progress.rate is None


def test_the_rate_is_that_of_the_last_seconds(clock):
    progress = _progress.FrameProgress(None, Terminal())
    for _ in range(100):
        clock[0] += 1
        progress.step("")
    assert progress.rate == pytest.approx(1)
    for _ in range(100):
        clock[0] += 0.05
        progress.step("")
    assert progress.rate == pytest.approx(20)
    assert progress.mean_rate == pytest.approx(200 / 105)
    assert progress.seconds == pytest.approx(105)


def test_nothing_is_kept_of_long_runs(clock):
    progress = _progress.FrameProgress(None, Terminal())
    for _ in range(10_000):
        clock[0] += 0.01
        progress.step("")
    assert len(progress._marks) < 30


def test_the_line_is_rewritten_ten_times_a_second_at_most(clock):
    stream = Terminal()
    progress = _progress.FrameProgress(None, stream)
    for _ in range(1000):
        clock[0] += 0.001
        progress.step("")
    assert stream.getvalue().count("\r") <= 11


def test_a_line_that_is_too_long_is_cut_and_not_wrapped(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    _progress.FrameProgress(1000, stream).step("0 dropped  3 tracks  memory 32 frames")
    assert len(stream.getvalue().removeprefix("\r\x1b[K")) == 39


def test_frames_in_a_file_get_a_line_every_ten_seconds(clock):
    stream = io.StringIO()
    progress = _progress.FrameProgress(500, stream)
    for _ in range(500):
        clock[0] += 0.1
        progress.step("0 dropped")
    lines = stream.getvalue().splitlines()
    assert len(lines) in (4, 5)
    assert "\r" not in stream.getvalue()
    assert re.match(r"frame 10[01]/500   20%  10.0 fps  0:10 gone  0:40 left", lines[0])
