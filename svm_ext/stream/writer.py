"""What is written: annotated video, MOTChallenge text, JSON lines; every file is there whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from abc import ABC, abstractmethod
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from .results import FrameResult

_TICKS = 90_000  # a second, in the video's time stamps: every usual frame rate is a whole number of them
_QUALITY = {"crf": "21", "preset": "superfast"}  # as good as the slower presets, in larger files and half the time


class _Whole(ABC):
    """A file that takes its name when it is finished; `with` finishes it, whatever ended the work.

    It is written under another name in the same folder. What a failed write leaves is removed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        self._open = self._closed = False

    def __enter__(self) -> _Whole:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Finish the file and give it its name; a writer that was given nothing leaves no file."""
        self._closed = True
        if not self._open:
            return
        self._open = False
        try:
            self._finish()
            os.replace(self._part, self.path)
        except OSError as error:
            raise self._failed(error) from error
        finally:
            self._part.unlink(missing_ok=True)

    def _begin(self) -> None:
        """Open the file under its other name, at the first write."""
        if self._closed:
            raise ValueError(f"output: expected an open file, got {self.path}, which is finished; make a new writer")
        if self._open:
            return
        try:
            self._start()
            self._open = True
        except OSError as error:
            self._part.unlink(missing_ok=True)
            raise self._failed(error) from error

    def _abandon(self, error: OSError) -> OSError:
        """Remove what there is and return the error to raise."""
        self._open, self._closed = False, True
        with contextlib.suppress(OSError):  # the same again: what was buffered does not fit either
            self._finish()
        self._part.unlink(missing_ok=True)
        return self._failed(error)

    def _failed(self, error: OSError) -> OSError:
        why = error.strerror or str(error)
        return OSError(
            f"output: expected room to write, got {why!r} at {self.path}; free some, or choose another folder"
        )

    @abstractmethod
    def _start(self) -> None: ...

    @abstractmethod
    def _finish(self) -> None: ...


class VideoWriter(_Whole):
    """Writes H.264 into an mp4 file; every frame is shown at its own time, the first at 0.

    The picture's size may be odd: H.264 needs even ones, so the last row or column is repeated once.
    """

    def __init__(self, path: str | Path, fps: float | None = None) -> None:
        super().__init__(path)
        self._rate = Fraction(fps or 25.0).limit_denominator(1001)  # for the header, and how long the last frame stays
        self._size = (0, 0)
        self._first, self._last = 0.0, -1

    def write(self, image: np.ndarray, seconds: float) -> None:
        """Append a picture, uint8 [H, W, 3] RGB, to be shown at this time."""
        import av

        height, width = image.shape[:2]
        if not self._open:
            self._size, self._first = (width, height), seconds
        if image.dtype != np.uint8 or image.ndim != 3 or (width, height) != self._size:
            raise ValueError(f"image: expected uint8 of {self._size} pixels, got {image.dtype} {list(image.shape)}")
        self._begin()
        picture = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), "edge") if height % 2 or width % 2 else image
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        self._last = max(round((seconds - self._first) * _TICKS), self._last + 1)
        frame.pts, frame.time_base = self._last, Fraction(1, _TICKS)
        try:
            self._container.mux(self._stream.encode(frame))
        except OSError as error:
            raise self._abandon(error) from error

    def _start(self) -> None:
        import av

        width, height = self._size
        self._container = av.open(str(self._part), "w", format="mp4")
        self._stream = self._container.add_stream("libx264", rate=self._rate, options=_QUALITY)
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = self._stream.time_base = Fraction(1, _TICKS)

    def _finish(self) -> None:
        try:
            self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()


class _TextWriter(_Whole):
    """A text file of some lines a frame."""

    def _start(self) -> None:
        self._file = self._part.open("w", encoding="utf-8")

    def _finish(self) -> None:
        self._file.close()

    def _write(self, text: str) -> None:
        self._begin()
        try:
            self._file.write(text)
        except OSError as error:
            raise self._abandon(error) from error


class MotWriter(_TextWriter):
    """Writes MOTChallenge text: frame from 1, id, x, y, width, height, score, -1, -1, -1."""

    def write(self, result: FrameResult) -> None:
        """Append the tracks of a frame; a frame without tracks has no line."""
        rows = result.tracks.rows(result.index + 1)
        lines = [
            f"{int(frame)},{int(number)},{x:.3f},{y:.3f},{width:.3f},{height:.3f},{score:.4f},-1,-1,-1\n"
            for frame, number, x, y, width, height, score in rows.tolist()
        ]
        self._write("".join(lines))


class JsonLinesWriter(_TextWriter):
    """Writes a line of JSON for every frame: its number from 0, its time, its tracks."""

    def write(self, result: FrameResult) -> None:
        """Append a frame."""
        self.write_line(result.to_dict())

    def write_line(self, values: dict[str, Any]) -> None:
        """Append any values."""
        self._write(json.dumps(values, separators=(",", ":")) + "\n")
