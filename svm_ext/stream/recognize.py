"""recognize: from videos, cameras and addresses to what happens there, in one call."""

from __future__ import annotations

import time
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..models.classifier import Classifier, ClassifierMemory
from .live import Policy
from .models import default_device, find_model
from .prepare import Fit, prepare
from .slots import Slots
from .sources import Frame, Source, Spec
from .watch import Watching, close_all, open_sources

STRIDE = 4  # frames from one that the model sees to the next: its usual 16 then span two seconds


@dataclass(frozen=True, eq=False)
class ActionResult:
    """What a classifier says of a stream's last frames."""

    stream: Hashable  # the stream's name
    index: int  # of the newest frame in its source
    time: float  # seconds, as the source tells it
    scores: np.ndarray  # float32 [classes], which sum up to 1
    milliseconds: float  # of the step, which all frames of the batch share
    image: np.ndarray = field(repr=False)  # uint8 [H, W, 3], RGB

    def best(self, count: int = 5) -> list[tuple[int, float]]:
        """Return the classes with the highest scores, best first."""
        return best_of(self.scores, count)


def best_of(scores: np.ndarray, count: int = 5) -> list[tuple[int, float]]:
    """Return the classes with the highest scores [classes], best first; of equals the one with the lower number."""
    order = np.argsort(-scores, kind="stable")[:count]
    return [(int(label), float(scores[label])) for label in order]


class ActionSession:
    """What a classifier remembers of many streams.

    `open` a stream, give `step` new frames of some streams by name, `close` what has ended. Of each stream the model
    sees every `stride`-th frame: its central square, scaled to the size the model was made for. Those of all streams
    go through it as one batch, and each stream gets what it would get alone. Nothing here grows with time.

    `memory` are options of the model's new_memory (frames, evict, dtype).
    """

    def __init__(self, model: nn.Module, *, stride: int = STRIDE, memory: Mapping[str, Any] | None = None) -> None:
        if model.training:
            raise ValueError("model: expected one in evaluation, got one in training; call model.eval()")
        if isinstance(stride, bool) or not isinstance(stride, int) or stride < 1:
            raise ValueError(f"stride: expected a whole number of at least 1, got {stride!r}; 1 shows every frame")
        self.model, self.stride = model, stride
        self._side = model.config.backbone.input_resolution
        self._weight = next(model.parameters())
        shape, options = (self._side, self._side), dict(memory or {})
        self._slots = Slots(lambda streams: model.new_memory(streams, shape, **options))
        self._streams: dict[Hashable, _Stream] = {}

    @property
    def streams(self) -> list[Hashable]:
        """The open streams."""
        return list(self._streams)

    @property
    def nbytes(self) -> int:
        """Bytes that the memories of all streams occupy."""
        return sum(memory.nbytes for memory in self._slots.made)

    def open(self, stream: Hashable, size: tuple[int, int]) -> None:
        """Make room for a stream of pictures of this size (width, height)."""
        if stream in self._streams:
            raise ValueError(f"stream: expected a new name, got {stream!r}, which is open; close it or reset it")
        if min(size) < 1:
            raise ValueError(f"size: expected two sides of at least 1 pixel, got {size!r}; give whole numbers")
        self._streams[stream] = _Stream(tuple(size), self._slots.enter())

    def close(self, stream: Hashable) -> None:
        """Forget a stream; its place goes to the next that is opened."""
        self._slots.leave(self._known(stream).slot)
        del self._streams[stream]

    def reset(self, stream: Hashable) -> None:
        """Forget what a stream has seen: its next frame is a first one."""
        found = self._known(stream)
        self._slots.reset(found.slot)
        found.due = 0

    @torch.no_grad()
    def step(self, frames: Mapping[Hashable, Frame]) -> dict[Hashable, ActionResult]:
        """Take in a new frame of each of these streams and return what is said of those that the model saw.

        Everything is checked before anything is remembered.
        """
        for stream, frame in frames.items():
            self._check(stream, frame)
        due = {stream: frame for stream, frame in frames.items() if frame.index >= self._streams[stream].due}
        if not due:
            return {}
        begin = time.perf_counter()
        [memory] = self._slots.things()
        scores = self._scores(memory, due)  # [B, classes]
        milliseconds = 1000 * (time.perf_counter() - begin)
        found = {}
        for row, (stream, frame) in enumerate(due.items()):
            self._streams[stream].due = frame.index + self.stride
            found[stream] = ActionResult(stream, frame.index, frame.time, scores[row], milliseconds, frame.image)
        return found

    def _scores(self, memory: ClassifierMemory, frames: Mapping[Hashable, Frame]) -> np.ndarray:
        """Take one batch through the model; return float32 [B, classes]."""
        batch = self._weight.new_empty(len(frames), 3, self._side, self._side)
        for row, frame in zip(batch, frames.values(), strict=True):
            square = _central_square(frame.image)
            side = len(square)
            prepare(square, Fit((side, side), (self._side, self._side), (self._side, self._side)), row)
        slots = torch.tensor([self._streams[stream].slot for stream in frames], device=batch.device)
        return self.model(batch, memory, slots).float().softmax(-1).cpu().numpy()

    def _check(self, name: Hashable, frame: Frame) -> None:
        width, height = self._known(name).size
        if frame.image.shape != (height, width, 3) or frame.image.dtype != np.uint8:
            raise ValueError(
                f"frames: expected uint8 [{height}, {width}, 3] for stream {name!r}, got {frame.image.dtype}"
                f" {list(frame.image.shape)}; close the stream and open it with its new size"
            )

    def _known(self, stream: Hashable) -> _Stream:
        if stream not in self._streams:
            there = ", ".join(map(repr, self._streams)) or "none"
            raise ValueError(f"stream: expected an open stream ({there}), got {stream!r}; open it first")
        return self._streams[stream]


class Recognition(Watching[ActionResult]):
    """What happens in some sources, as they come; a context that closes the sources."""

    session: ActionSession


def recognize(
    source: Spec | Source | Sequence[Spec | Source],
    model: str | Path | nn.Module,
    *,
    weights: str | Path | None = None,
    stride: int = STRIDE,
    live: Policy = "latest",
    device: str | torch.device | None = None,
    memory: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Recognition:
    """Tell what happens in a source, or in several as streams of one batch; iterate for the results.

    A source is a file, a folder of pictures, a pattern, the number of a camera or an address. `model` is a classifier,
    the name of one, or a file of weights. It sees every `stride`-th frame, and answers after each for the last
    `clip_frames` of them. `live` says whether a live source may drop frames ("latest") or has to wait ("all").
    `settings` are fields of the model's configuration; `memory` are options of its new_memory. Without `device` it is
    the GPU if there is one.
    """
    several = isinstance(source, Sequence) and not isinstance(source, str)
    sources = open_sources(source if several else [source])  # first: a wrong path need not wait for a model
    try:
        classifier, trained = find_model(model, weights, Classifier, **settings)
        if not trained:
            warnings.warn(f"model: {model} has random weights and knows no action; pass weights=FILE", stacklevel=2)
        session = ActionSession(classifier.to(device or default_device()).eval(), stride=stride, memory=memory)
        return Recognition(sources, session, live)
    except BaseException:
        close_all(sources.values())
        raise


def _central_square(image: np.ndarray) -> np.ndarray:
    """Return the square in the middle of a picture [H, W, 3]."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


@dataclass
class _Stream:
    """A stream's size and place, and which of its frames the model is to see next."""

    size: tuple[int, int]  # width and height
    slot: int
    due: int = 0  # index
