"""StreamSession: many live streams, one model, one frame step at a time."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..memory import StreamMemory
from ..tracking import TrackerBank, TrackerRules
from .prepare import SIZE, Fit, fit, prepare
from .results import FrameResult, Timing
from .slots import Slots
from .sources import Frame


class StreamSession:
    """What a detector remembers of many streams, and the tracks it follows there.

    `open` a stream, give `step` the new frames of some streams by name, `close` what has ended. Frames whose
    prepared sizes agree go through the model as one batch; a stream without a new frame stands still. Every
    stream gets the tracks that it would get alone. Nothing here grows with time.

    `size` is the longer and the shorter side that pictures are scaled to, by default the model's own;
    `memory` are options of the model's new_memory (frames, evict, dtype); `coast` is how many frames a lost
    track is still reported.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        size: tuple[int, int] | None = None,
        rules: TrackerRules | None = None,
        memory: Mapping[str, Any] | None = None,
        coast: int = 0,
    ) -> None:
        if model.training:
            raise ValueError("model: expected one in evaluation, got one in training; call model.eval()")
        self.model, self.size, self.rules, self.coast = model, size or own_size(model), rules or TrackerRules(), coast
        self._memory = dict(memory or {})
        self._multiple = int(max(getattr(model, "strides", (32,))))
        weight = next(model.parameters(), torch.empty(0))
        self._device = weight.device
        self._dtype = weight.dtype if weight.is_floating_point() else torch.float32
        self._streams: dict[Hashable, _Stream] = {}
        self._rooms: dict[tuple[int, int], _Room] = {}

    @property
    def streams(self) -> list[Hashable]:
        """The open streams."""
        return list(self._streams)

    @property
    def nbytes(self) -> int:
        """Bytes that the memories of all open streams occupy."""
        return sum(room.memory.nbytes for room in self._rooms.values() if room.memory is not None)

    def open(self, stream: Hashable, size: tuple[int, int]) -> None:
        """Make room for a stream of pictures of this size (width, height).

        Streams that are opened before the first step share one allocation; later ones cost a copy of it.
        """
        if stream in self._streams:
            raise ValueError(f"stream: expected a new name, got {stream!r}, which is open; close it or reset it")
        how = fit(size, self.size, self._multiple)
        if how.image_size not in self._rooms:
            self._rooms[how.image_size] = _Room(how.image_size, self.model, self.rules, self._memory)
        room = self._rooms[how.image_size]
        self._streams[stream] = _Stream(how, room, room.slots.enter())

    def close(self, stream: Hashable) -> None:
        """Forget a stream; its place goes to the next that is opened."""
        found = self._streams.pop(self._known(stream))
        found.room.slots.leave(found.slot)
        if found.room.slots.empty:
            del self._rooms[found.room.image_size]

    def reset(self, stream: Hashable) -> None:
        """Forget what a stream has seen: its next frame is a first one, its ids start at 1 again."""
        found = self._streams[self._known(stream)]
        found.room.slots.reset(found.slot)
        found.seen = 0

    def remembered(self, stream: Hashable) -> tuple[int, int]:
        """Return how many frames the memory holds of a stream, and how many it can hold."""
        found = self._streams[self._known(stream)]
        return found.room.remembered(found.seen), found.room.frames

    @torch.no_grad()
    def step(self, frames: Mapping[Hashable, Frame | np.ndarray]) -> dict[Hashable, FrameResult]:
        """Take in one new frame of each of these streams and return what was found in it, by stream.

        Everything is checked before anything is remembered. A plain picture, uint8 [H, W, 3] RGB, counts as
        the stream's next frame and takes its time from the clock.
        """
        given = {stream: self._frame(stream, frame) for stream, frame in frames.items()}
        found: dict[Hashable, FrameResult] = {}
        for room in list(self._rooms.values()):
            if here := [stream for stream in given if self._streams[stream].room is room]:
                found.update(self._step_room(room, {stream: given[stream] for stream in here}))
        return {stream: found[stream] for stream in given}

    def _step_room(self, room: _Room, frames: dict[Hashable, Frame]) -> dict[Hashable, FrameResult]:
        """Take one batch through the model and the trackers."""
        streams = [self._streams[stream] for stream in frames]
        slots = [stream.slot for stream in streams]
        room.furnish()
        times = [time.perf_counter()]
        batch = self._batch(room, streams, frames.values())  # [B, 3, H, W]
        times.append(time.perf_counter())
        detections = self.model(batch, room.memory, torch.tensor(slots, device=self._device))
        detections = [stream.fit.to_source(found.to("cpu")) for stream, found in zip(streams, detections, strict=True)]
        times.append(time.perf_counter())
        tracks = room.trackers.update(detections, slots, coast=self.coast)
        times.append(time.perf_counter())
        timing = Timing(*(1000 * (after - before) for before, after in zip(times, times[1:], strict=False)))
        for stream in streams:
            stream.seen += 1
        return {
            name: FrameResult(
                stream=name,
                index=frame.index,
                time=frame.time,
                tracks=tracks[row],
                detections=detections[row],
                timing=timing,
                remembered=room.remembered(streams[row].seen),
                image=frame.image,
            )
            for row, (name, frame) in enumerate(frames.items())
        }

    def _batch(self, room: _Room, streams: list[_Stream], frames: Iterable[Frame]) -> Tensor:
        batch = torch.empty(len(streams), 3, *room.image_size, dtype=self._dtype, device=self._device)
        for row, stream, frame in zip(batch, streams, frames, strict=True):
            prepare(frame.image, stream.fit, row)
        return batch

    def _frame(self, name: Hashable, given: Frame | np.ndarray) -> Frame:
        stream = self._streams[self._known(name)]
        if not isinstance(given, Frame):
            given = Frame(np.asarray(given), time.monotonic() - stream.opened, stream.seen)
        width, height = stream.fit.source
        if given.image.shape != (height, width, 3) or given.image.dtype != np.uint8:
            raise ValueError(
                f"frames: expected uint8 [{height}, {width}, 3] for stream {name!r}, got {given.image.dtype}"
                f" {list(given.image.shape)}; close the stream and open it with its new size"
            )
        return given

    def _known(self, stream: Hashable) -> Hashable:
        if stream not in self._streams:
            there = ", ".join(map(repr, self._streams)) or "none"
            raise ValueError(f"stream: expected an open stream ({there}), got {stream!r}; open it first")
        return stream


def own_size(model: nn.Module) -> tuple[int, int]:
    """Return the sides that a model wants pictures scaled to, the longer one first."""
    return tuple(getattr(getattr(model, "config", None), "picture_size", SIZE))


class _Room:
    """The memory and the trackers of all streams with one prepared size; a stream has the same slot in both."""

    def __init__(
        self, image_size: tuple[int, int], model: nn.Module, rules: TrackerRules, options: dict[str, Any]
    ) -> None:
        self.image_size = image_size
        self.memory: StreamMemory | None = None
        self.trackers: TrackerBank | None = None
        self.frames = 0
        self._evict = ""
        self.slots = Slots(
            lambda streams: model.new_memory(streams, image_size, **options),
            lambda streams: TrackerBank(streams, rules),
        )

    def furnish(self) -> None:
        """Make memory and trackers as large as the slots require."""
        self.memory, self.trackers = self.slots.things()
        self.frames, self._evict = self.memory.frames, self.memory.evict

    def remembered(self, seen: int) -> int:
        """Return how many frames the memory holds after so many."""
        if self._evict == "clear" and seen:
            return (seen - 1) % self.frames + 1
        return min(seen, self.frames)


@dataclass
class _Stream:
    """A stream's place and clock."""

    fit: Fit
    room: _Room
    slot: int
    seen: int = 0  # frames since it was opened or reset
    opened: float = 0.0

    def __post_init__(self) -> None:
        self.opened = time.monotonic()
