"""Sources that come in their own time, are lost and found again; and the threads that read sources."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from threading import Condition, Thread
from typing import Literal

from ._decode import Decoder, reason
from .sources import Frame, Source

Policy = Literal["latest", "all"]
POLICIES: tuple[Policy, ...] = ("latest", "all")
_PATIENCE = 10.0  # seconds without a packet until a connection counts as lost
_DELAYS = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before each attempt to connect again
_AHEAD = 2  # frames that a reader decodes before they are wanted


class LiveSource(Source):
    """A camera or an address, connected to again when it is lost.

    Times count from the first frame and go on by the wall clock over a gap. An address with an end (a file on
    a web server) goes on where it was lost and keeps its own times. When every attempt has failed the frames
    end, and `problem` says why.
    """

    def __init__(self, name: str, connect: Callable[[], Decoder], delays: tuple[float, ...] = _DELAYS) -> None:
        self._connect, self._delays = connect, delays
        self._decoder = connect()
        decoder = self._decoder
        super().__init__(name, decoder.size, decoder.fps, decoder.length, live=not decoder.sized)
        self.reconnected = 0  # times that the source was lost and found again
        self._last, self._seen = 0.0, 0  # time of the newest frame, and how many there were
        self._why = ""  # the last connection ended, or failed
        self._arrived = time.monotonic()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames as they come, over as many connections as it takes."""
        connected, failures = True, 0
        try:
            while not self.closing.is_set():
                before = self._seen
                if connected:
                    yield from self._frames(self._decoder)
                    if self._over():
                        return
                failures = 0 if self._seen > before else failures + 1
                if failures == len(self._delays):
                    self.problem = f"{self.name}: lost after {self._seen} frames ({self._why}), {failures} attempts"
                    return
                if not self.closing.wait(self._delays[failures]):
                    connected = self._connect_again()
        finally:
            self._decoder.close()

    def close(self) -> None:
        """Read no further, and let go of the camera or connection."""
        super().close()
        self._decoder.close()

    def _frames(self, decoder: Decoder) -> Iterator[Frame]:
        shift: float | None = None
        for image, seconds in decoder:
            if image.shape[1::-1] != self.size:
                raise ValueError(
                    f"source: expected {self.size[0]}x{self.size[1]} throughout, got {image.shape[1]}x{image.shape[0]}"
                    f" when {self.name} came back; start again"
                )
            if shift is None:
                shift = self._shift(seconds)
            seconds += shift
            if self._seen and seconds <= self._last:  # seen before the connection was lost
                continue
            self._last, self._arrived = seconds, time.monotonic()
            self._seen += 1
            yield Frame(image, seconds, self._seen - 1)
            if self.closing.is_set():
                return

    def _shift(self, seconds: float) -> float:
        """Return what to add to the times of a connection whose first frame has this time."""
        if not self.live:
            return 0.0
        gap = time.monotonic() - self._arrived if self._seen else 0.0
        return self._last + gap - seconds

    def _over(self) -> bool:
        """Tell whether the connection ended because the video did."""
        complaints = self._decoder.complaints()
        over = not (self.live or self._decoder.cut)
        self._why = ", ".join(complaints) or "it ended"
        self.problem = f"{self.name}: {self._why}; {self._seen} frames read" if over and complaints else None
        self._decoder.close()
        return over

    def _connect_again(self) -> bool:
        try:
            self._decoder = self._connect()
        except (OSError, ValueError) as error:
            self._why = reason(error)
            return False
        self.reconnected += 1
        return True


def open_camera(number: int) -> LiveSource:
    """Open a camera of this machine by its number."""
    device = Path(f"/dev/video{number}")
    if not device.exists():
        there = ", ".join(path.name.removeprefix("video") for path in sorted(Path("/dev").glob("video*")))
        raise FileNotFoundError(
            f"source: expected a camera, got {number}, but there is no {device}; "
            + (f"choose from {there}" if there else "no camera is connected; a file is opened by its path")
        )
    name = f"camera{number}"
    return LiveSource(name, lambda: Decoder(str(device), name, live=True, format="v4l2", timeout=_PATIENCE))


def open_address(address: str, patience: float = _PATIENCE, delays: tuple[float, ...] = _DELAYS) -> LiveSource:
    """Open an address such as rtsp://camera/stream or http://server/video.mp4."""
    options = {"rtsp_transport": "tcp"} if address.startswith("rtsp") else {}  # a lost datagram is a smeared picture

    def connect() -> Decoder:
        return Decoder(address, _without_password(address), live=True, options=options, timeout=patience)

    return LiveSource(_name_of(address), connect, delays)


def _without_password(address: str) -> str:
    scheme, _, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _name_of(address: str) -> str:
    """Return what files about this address can be called."""
    rest = _without_password(address).partition("://")[2].partition("?")[0].rstrip("/")
    host, _, path = rest.partition("/")
    stem = Path(path).stem if path else ""
    return "".join(sign if sign.isalnum() or sign in "-_." else "_" for sign in stem or host)


class Reader:
    """Reads a source in a thread of its own, so that decoding and the model run at the same time.

    `latest` keeps one frame and drops it when a newer one comes; `all` lets the source wait.
    """

    def __init__(self, source: Source, policy: Policy, changed: Condition) -> None:
        self.source, self.policy = source, policy
        self.dropped = 0
        self.error: BaseException | None = None  # what ended the frames before their time, to be raised by the taker
        self.finished = False
        self._changed = changed
        self._frames: deque[Frame] = deque()
        self._thread = Thread(target=self._read, name=f"svm_ext reader of {source.name}", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Tell whether a frame is there to be taken."""
        return bool(self._frames)

    @property
    def awaited(self) -> bool:
        """Tell whether a frame will come as soon as the source can be read."""
        return not (self._frames or self.finished or self.source.live)

    @property
    def ended(self) -> bool:
        """Tell whether the last frame was taken."""
        return self.finished and not self._frames

    def take(self) -> Frame:
        """Return the oldest frame that waits; the caller holds the lock."""
        return self._frames.popleft()

    def join(self, seconds: float) -> bool:
        """Wait for the thread to end; tell whether it did."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _read(self) -> None:
        try:
            for frame in self.source:
                self._put(frame)
                if self.source.closing.is_set():
                    break
        except BaseException as error:  # whatever it is, it belongs to the thread that takes the frames
            self.error = error
        finally:
            self.source.close()
            with self._changed:
                self.finished = True
                self._changed.notify_all()

    def _put(self, frame: Frame) -> None:
        with self._changed:
            if self.policy == "latest":
                self.dropped += len(self._frames)
                self._frames.clear()
            while len(self._frames) >= _AHEAD and not self.source.closing.is_set():
                self._changed.wait()
            self._frames.append(frame)
            self._changed.notify_all()


class Readers:
    """Reads many sources at once: a context whose `next` returns the frames that are there.

    The policy is that of live sources, files are read whole. A frame step waits until every file has its next
    frame and at least one source has any; a live source that has none stands still.
    """

    def __init__(self, sources: Mapping[Hashable, Source], policy: Policy = "latest") -> None:
        if policy not in POLICIES:
            raise ValueError(f"live: expected {' or '.join(POLICIES)}, got {policy!r}; use latest")
        self._changed = Condition()
        self.readers = {
            key: Reader(source, policy if source.live else "all", self._changed) for key, source in sources.items()
        }

    def next(self) -> dict[Hashable, Frame]:
        """Wait for frames and take one of every source that has some; nothing when all have ended."""
        every = self.readers.values()
        with self._changed:
            while any(it.awaited for it in every) or not (
                any(it.ready for it in every) or all(it.ended for it in every)
            ):
                self._changed.wait()
            found = {key: reader.take() for key, reader in self.readers.items() if reader.ready}
            self._changed.notify_all()
        return found

    @property
    def dropped(self) -> int:
        """Frames that live sources gave and nobody took."""
        return sum(reader.dropped for reader in self.readers.values())

    def ended(self) -> list[Hashable]:
        """Return the sources of which every frame was taken."""
        with self._changed:
            return [key for key, reader in self.readers.items() if reader.ended]

    def errors(self) -> list[BaseException]:
        """Return what ended sources before their time."""
        return [reader.error for reader in self.readers.values() if reader.error is not None]

    def close(self) -> None:
        """End all threads; one that waits for a silent camera ends when its patience does."""
        for reader in self.readers.values():
            reader.source.closing.set()
        with self._changed:
            self._changed.notify_all()
        deadline = time.monotonic() + 2
        for reader in self.readers.values():
            reader.join(max(0.0, deadline - time.monotonic()))

    def __enter__(self) -> Readers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
