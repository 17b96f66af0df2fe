"""Decoder: the pictures of one open video, with their times, whatever the container says wrongly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

USUAL_FPS = 25.0  # where a container does not tell
_SHORT_BY = 0.02  # a video that lacks more than this share of its duration was cut


class Decoder:
    """Decodes the video stream of a file, an address or a device.

    Iterate for (picture, seconds). A packet that cannot be decoded is skipped and counted; an error of the
    container ends the pictures. `complaints` tells both, `cut` whether the end is missing. The first picture
    is decoded at once, so that an open decoder has at least one and knows its true size.
    """

    def __init__(self, address: str, name: str, *, live: bool = False, **how: Any) -> None:
        import av

        self.name = name
        self._errors = av.FFmpegError
        self._container = _open(address, name, how)
        try:
            self._stream = _video_stream(self._container, name)
            # Threads that decode a frame each are faster, and late by as many frames.
            self._stream.thread_type = "SLICE" if live else "AUTO"
            self.fps = _rate(self._stream)
            self.duration = _duration(self._container, self._stream)
            self.length = _length(self._container, self._stream, self.fps, self.duration)
            self.sized = bool(self.duration) or (self._container.size or 0) > 0
            self.skipped, self.broken_off = 0, ""
            self._clock = _Clock(self._stream, self.fps, "avi" in self._container.format.name)
            self._shape: tuple[int, ...] | None = None
            self._pictures = self._decoded()
            self._first: tuple[np.ndarray, float] | None = next(self._pictures, None)
            if self._first is None:
                raise ValueError(self._nothing())
        except BaseException:
            self._container.close()
            raise

    def __iter__(self) -> Iterator[tuple[np.ndarray, float]]:
        """Yield every picture, uint8 [H, W, 3] RGB and upright, with its time in seconds."""
        if self._first is not None:
            first, self._first = self._first, None
            yield first
        yield from self._pictures

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright pictures."""
        height, width = self._shape[:2]
        return width, height

    @property
    def count(self) -> int:
        """Pictures decoded so far."""
        return self._clock.ticks

    @property
    def cut(self) -> bool:
        """Tell whether the end is missing; to be asked when the pictures have ended."""
        if self.broken_off or not self.duration:
            return bool(self.broken_off)
        lacking = self.duration - self._clock.shown
        return lacking > max(_SHORT_BY * self.duration, 3 * self._clock.interval)

    def complaints(self) -> list[str]:
        """Return what was wrong with the video; to be asked when the pictures have ended."""
        found = []
        if self.skipped:
            plural = "s" if self.skipped > 1 else ""
            found.append(f"{self.skipped} damaged packet{plural} skipped")
        if self.broken_off:
            found.append(f"reading broke off ({self.broken_off})")
        elif self.cut:
            found.append(f"the video ends at {self._clock.shown:.1f} of {self.duration:.1f} s, it was cut short")
        return found

    def close(self) -> None:
        """Let go of the file or device."""
        self._pictures.close()
        self._container.close()

    def _decoded(self) -> Iterator[tuple[np.ndarray, float]]:
        for packet in self._packets():
            try:
                frames = packet.decode()
            except self._errors:
                self.skipped += 1
                continue
            for frame in frames:
                seconds = self._clock.time(frame)
                yield self._picture(frame), seconds

    def _packets(self) -> Iterator[Any]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except self._errors as error:
                self.broken_off = reason(error)
                return
            self._clock.packet(packet)
            yield packet

    def _picture(self, frame: Any) -> np.ndarray:
        picture = frame.to_ndarray(format="rgb24")  # [H, W, 3]
        if frame.rotation % 360:
            picture = np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90)))
        if self._shape not in (None, picture.shape):
            width, height = self.size
            raise ValueError(
                f"source: expected {width}x{height} throughout, got {picture.shape[1]}x{picture.shape[0]} from frame"
                f" {self.count - 1} of {self.name} on; cut the video there and track the parts one by one"
            )
        self._shape = picture.shape
        return picture

    def _nothing(self) -> str:
        why = self.broken_off or (f"{self.skipped} damaged packets" if self.skipped else "it holds no frame")
        return f"source: expected a video, got {self.name} without one frame to decode ({why}); check the file"


class _Clock:
    """Gives every frame a time that is later than the last one's."""

    def __init__(self, stream: Any, fps: float | None, by_arrival: bool) -> None:
        self.interval = 1 / (fps or USUAL_FPS)
        self.ticks = 0
        self._unit = float(stream.time_base)
        # AVI stores no time of display, only the order of its packets; what the library makes of that is
        # wrong as soon as frames refer to later ones. The time of decoding, moved to the start, is right.
        self._by_arrival = by_arrival
        self._offset: float | None = None
        self._arrived: int | None = None  # the first packet's time of decoding
        self._start = self._last = 0.0

    @property
    def shown(self) -> float:
        """Seconds from the first frame's start to the last one's end."""
        return self._last - self._start + self.interval if self.ticks else 0.0

    def packet(self, packet: Any) -> None:
        """Note when the first packet is to be decoded."""
        if self._arrived is None:
            self._arrived = packet.dts

    def time(self, frame: Any) -> float:
        """Return a frame's time in seconds."""
        stamp = frame.dts if self._by_arrival else frame.pts
        if self._by_arrival and self._offset is None and stamp is not None:
            self._offset = (self._arrived or 0) - stamp
        seconds = None if stamp is None else (stamp + (self._offset or 0)) * self._unit
        if self.ticks and (seconds is None or seconds <= self._last):
            seconds = self._last + self.interval
        self._last = seconds or 0.0
        self._start = self._start if self.ticks else self._last
        self.ticks += 1
        return self._last


def reason(error: Exception) -> str:
    """Return what the library says, without its number and the address."""
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


def _open(address: str, name: str, how: dict[str, Any]) -> Any:
    import av

    try:
        return av.open(address, **how)
    except av.FFmpegError as error:
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(f"source: expected a video, got {name}, which does not open ({reason(error)}); check it") from None


def _video_stream(container: Any, name: str) -> Any:
    stream = container.streams.best("video")
    if stream is None and (videos := container.streams.video):
        stream = videos[0]  # `best` passes over streams that nothing decodes
    if stream is None:
        raise ValueError(f"source: expected a video, got {name}, which holds no pictures; check the file")
    if stream.codec_context is None:
        tag = getattr(stream, "codec_tag", None) or "unknown"
        raise ValueError(
            f"source: expected a codec that the decoder knows, got {tag!r} in {name}; convert the file to H.264"
        )
    return stream


def _rate(stream: Any) -> float | None:
    """Return the frames per second: the guess from the time stamps, for headers often tell the field rate."""
    rate = stream.guessed_rate or stream.average_rate
    return float(rate) if rate else None


def _duration(container: Any, stream: Any) -> float | None:
    """Return the seconds that the video should last; the container's own duration counts only without sound."""
    if "avi" in container.format.name:  # its header counts the ticks; its index, which may be cut, makes the duration
        return float(stream.frames * stream.time_base) or None
    if stream.duration:
        return float(stream.duration * stream.time_base)
    if tag := stream.metadata.get("DURATION"):
        hours, minutes, seconds = tag.split(":")
        end = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        return end - float((stream.start_time or 0) * stream.time_base)
    alone = len(container.streams) == 1
    return container.duration / 1e6 if alone and container.duration and container.duration > 0 else None


def _length(container: Any, stream: Any, fps: float | None, duration: float | None) -> int | None:
    if stream.frames and "avi" not in container.format.name:
        return stream.frames
    return round(duration * fps) or None if duration and fps else None
