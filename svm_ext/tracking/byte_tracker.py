"""ByteTracker: numbers objects from frame to frame; TrackerBank: the same for many streams in one call."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import accumulate
from operator import index
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .tracks import Given, Tracks, join, read_detections

Streams = Sequence[int] | Tensor | None

_SCHEMA = 1  # of the compiled module, as in csrc/tracker/module.cpp
_VERSION = 1  # of snapshots
_MOST = 10**9  # detections or frames that a rule may ask for
_STATE = {
    "frames": np.int64,  # [B] seen so far
    "next_ids": np.int64,  # [B]
    "counts": np.int64,  # [B] tracks of each stream, which follow one behind the other
    "tracks": np.int64,  # [n, 6] id, label, frame last seen in, detections, predictions since, confirmed
    "filters": np.float64,  # [n, 4, 5] x, y, aspect, height: position, velocity and the two's covariance
    "scores": np.float32,  # [n]
}


@dataclass(frozen=True, kw_only=True)
class TrackerRules:
    """When a detection counts, when it continues a track, and how long a track lives."""

    high: float = 0.7  # detections above this score continue any track, and start new ones
    low: float = 0.1  # those above this one only continue what was seen a frame ago
    init: float = 0.7  # above this score a track starts in a frame that finds no tracks at all
    match_high: float = 0.1  # least overlap times score of a good detection and a confirmed track
    match_low: float = 0.5  # least overlap of a poor detection and a confirmed track
    match_tentative: float = 0.3  # least overlap times score of a good detection and a tentative track
    confirm: int = 3  # detections in a row until a tentative track is confirmed
    retain: int = 30  # frames without a detection after which a track is dropped

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("confirm", "retain"):
                if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST:
                    raise ValueError(f"{field.name}: expected a whole number from 1 to {_MOST}, got {value!r}")
            elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ValueError(f"{field.name}: expected a number from 0 to 1, got {value!r}; scores and overlaps are")
        if self.low > self.high:
            raise ValueError(f"low: expected at most high ({self.high}), got {self.low}; lower it or raise high")


class TrackerBank:
    """One tracker for each of many streams; one call takes a frame of each stream that has one.

    Streams know nothing of each other: each has the tracks and ids that a `ByteTracker` of its own would give.
    """

    def __init__(self, streams: int, rules: TrackerRules | None = None) -> None:
        if isinstance(streams, bool) or not isinstance(streams, int) or streams < 0:
            raise ValueError(f"streams: expected a whole number of at least 0, got {streams!r}; give one")
        self.streams = streams
        self.rules = TrackerRules() if rules is None else rules
        native = _native()
        self._bank = native.Bank(streams, native.Rules(*astuple(self.rules)))

    def update(self, detections: Sequence[Any], streams: Streams = None, *, coast: int = 0) -> list[Tracks]:
        """Take in one frame of each of these streams (None: of all) and return their tracks, in the same order.

        Nothing changes in any stream unless the detections of all are sound. See `ByteTracker.update`.
        """
        ids = self._ids(streams)
        _check_coast(coast)
        if len(detections) != len(ids):
            raise ValueError(
                f"detections: expected one entry for each of {len(ids)} streams, got {len(detections)};"
                " a stream without detections has an empty one"
            )
        given = [read_detections(entry) for entry in detections]
        if not given:
            return []
        rows, track_ids, counts = self._bank.update(
            join([frame.boxes for frame in given], np.float32),
            join([frame.scores for frame in given], np.float32),
            join([frame.labels for frame in given], np.int64),
            [frame.boxes.shape[0] for frame in given],
            ids,
        )
        ends = accumulate(counts)
        found = [
            frame.tracks(rows[end - count : end], track_ids[end - count : end])
            for frame, count, end in zip(given, counts, ends, strict=True)
        ]
        if coast:
            found = [
                _with_expected(tracks, frame, *self._bank.expected(stream, coast))
                for tracks, frame, stream in zip(found, given, ids, strict=True)
            ]
        return found

    def reset(self, streams: Streams = None) -> None:
        """Forget everything about these streams; their next frame is a first one, their ids start at 1 again."""
        self._bank.reset(self._ids(streams))

    def alive(self, streams: Streams = None) -> list[int]:
        """Return how many tracks each of these streams holds: those in sight, and those lost but not dropped."""
        return self._bank.counts(self._ids(streams))[1]

    def snapshot(self, streams: Streams = None) -> dict[str, Tensor]:
        """Copy these streams into plain tensors that a safetensors file can hold; `restore` is exact."""
        state = self._bank.snapshot(self._ids(streams))
        tensors = {name: torch.from_numpy(array) for name, array in state.items()}
        return {"version": torch.tensor([_VERSION]), "rules": _rules_tensor(self.rules), **tensors}

    def restore(self, state: Mapping[str, Any], streams: Streams = None) -> None:
        """Put the streams of a snapshot into these streams; the others are not touched.

        Everything is checked before anything is written; a snapshot taken with other rules does not fit.
        """
        ids = self._ids(streams)
        arrays = _read_state(state, self.rules)
        if len(arrays["frames"]) != len(ids):
            raise ValueError(
                f"streams: expected as many as the snapshot holds, {len(arrays['frames'])}, got {len(ids)};"
                " name them in `streams`"
            )
        self._bank.restore(ids, **arrays)

    def __repr__(self) -> str:
        return f"TrackerBank({self.streams} streams, {sum(self.alive())} tracks)"

    def _ids(self, streams: Streams) -> list[int]:
        """Return stream ids as numbers; which of them exist, and that each comes once, the core checks."""
        if streams is None:
            return list(range(self.streams))
        if isinstance(streams, int):
            raise ValueError(f"streams: expected a sequence of ids, got {streams}; write [{streams}]")
        return _whole_numbers(streams.tolist() if isinstance(streams, Tensor) else streams)


class ByteTracker:
    """Follows objects from frame to frame and numbers them from 1, by ByteTrack's two rounds of association.

    Detections above `high` continue tracks where overlap times score is above `match_high`, and start new ones;
    detections between `low` and `high` only continue tracks that were seen a frame ago, above `match_low`. A new track
    is tentative, found above `match_tentative` and dropped at its first miss, until it has `confirm` detections; those
    of the first frame are confirmed at once. Lost tracks are expected where they were heading, for `retain` frames.
    `init` stands in for `high` in frames that find no tracks at all.

    Memory and time do not grow with the length of the video. Use one tracker for each stream (`TrackerBank` for many)
    and each thread: calls from several threads are safe, but come in any order.
    """

    def __init__(
        self,
        high: float = 0.7,
        low: float = 0.1,
        init: float = 0.7,
        match_high: float = 0.1,
        match_low: float = 0.5,
        match_tentative: float = 0.3,
        confirm: int = 3,
        retain: int = 30,
    ) -> None:
        rules = TrackerRules(
            high=high,
            low=low,
            init=init,
            match_high=match_high,
            match_low=match_low,
            match_tentative=match_tentative,
            confirm=confirm,
            retain=retain,
        )
        self._bank = TrackerBank(1, rules)

    @property
    def rules(self) -> TrackerRules:
        """What the tracker was made with."""
        return self._bank.rules

    def update(self, detections: Any, *, coast: int = 0) -> Tracks:
        """Take in the next frame and return the detections that belong to tracks, tentative ones too.

        `detections` has `boxes` [n, 4] (x1, y1, x2, y2), `scores` [n] and whole `labels` [n], tensors or arrays, or is
        one array [n, 5] or [n, 6] of boxes, scores and perhaps labels. A frame without detections is given as an empty
        one, not left out. Boxes come back as they were given, not smoothed.

        `coast` fills gaps while they last: confirmed tracks that were lost for up to so many frames are returned too,
        behind the others, `predicted`, with the box where they are expected and the score of their last detection.
        Nothing else depends on it; ids and tracks are the same with any `coast`.
        """
        return self._bank.update([detections], coast=coast)[0]

    def reset(self) -> None:
        """Forget everything: the next frame is a first one, ids start at 1 again."""
        self._bank.reset()

    @property
    def alive(self) -> int:
        """How many tracks there are: those in sight, and those lost but not dropped."""
        return self._bank.alive()[0]

    def snapshot(self) -> dict[str, Tensor]:
        """Copy the tracker into plain tensors that a safetensors file can hold; `restore` is exact."""
        return self._bank.snapshot()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a snapshot of a tracker, or of one stream of a bank, with the same rules."""
        self._bank.restore(state)

    def __repr__(self) -> str:
        return f"ByteTracker({self.alive} tracks)"


def _native() -> ModuleType:
    """Return the compiled core. It is made for one Python, unlike the ops, and only trackers need it."""
    remedy = "type `pip install .` in the repository, with this Python"
    try:
        native = importlib.import_module("svm_ext._tracker")
    except ImportError as error:
        python = platform.python_version()
        reason = f"svm_ext: the compiled tracker is missing for Python {python} ({error}); {remedy}"
        raise ImportError(reason) from None
    if native.SCHEMA != _SCHEMA:
        raise ImportError(f"svm_ext: expected a compiled tracker of schema {_SCHEMA}, got {native.SCHEMA}; {remedy}")
    return native


def _check_coast(coast: int) -> None:
    if isinstance(coast, bool) or not isinstance(coast, int) or not 0 <= coast <= _MOST:
        raise ValueError(f"coast: expected a whole number of frames, got {coast!r}; 0 reports detections only")


def _whole_numbers(streams: Iterable[Any]) -> list[int]:
    try:
        return [index(stream) for stream in streams]
    except TypeError:
        raise ValueError(f"streams: expected whole numbers, got {streams!r}; name streams by their ids") from None


def _with_expected(
    tracks: Tracks, given: Given, ids: np.ndarray, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray
) -> Tracks:
    """Return tracks with the objects behind them that were not detected, in the same types."""
    new = (ids, boxes, scores, labels, np.ones(len(ids), dtype=bool))
    old = (tracks.ids, tracks.boxes, tracks.scores, tracks.labels, tracks.predicted)
    if isinstance(given.boxes, Tensor):
        return Tracks(*(torch.cat([a, torch.from_numpy(b).to(a)]) for a, b in zip(old, new, strict=True)))
    return Tracks(*(np.concatenate([a, b.astype(a.dtype)]) for a, b in zip(old, new, strict=True)))


def _rules_tensor(rules: TrackerRules) -> Tensor:
    return torch.tensor(astuple(rules), dtype=torch.float64)


def _read_state(state: Mapping[str, Any], rules: TrackerRules) -> dict[str, np.ndarray]:
    """Check a snapshot's version, rules and types and return its arrays; the core checks what they say."""
    if not isinstance(state, Mapping) or "version" not in state:
        raise ValueError(f"state: expected a snapshot of a tracker, got {type(state).__name__}; use snapshot()")
    version = _state_array(state, "version", np.int64)
    if version.tolist() != [_VERSION]:
        raise ValueError(f"state: expected version {_VERSION}, got {version.tolist()}; take a new snapshot")
    taken_with = _state_array(state, "rules", np.float64).tolist()
    if len(taken_with) != len(fields(rules)):
        raise ValueError(f"rules: expected {len(fields(rules))} numbers, got {len(taken_with)}; take a new snapshot")
    for field, theirs in zip(fields(rules), taken_with, strict=True):
        if theirs != getattr(rules, field.name):
            raise ValueError(
                f"{field.name}: expected {getattr(rules, field.name)} like this tracker, got {theirs} in the snapshot;"
                " make a tracker with the snapshot's rules"
            )
    return {name: _state_array(state, name, dtype) for name, dtype in _STATE.items()}


def _state_array(state: Mapping[str, Any], name: str, dtype: type[np.generic]) -> np.ndarray:
    value = state.get(name)
    array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        kind = getattr(value, "dtype", type(value).__name__)
        raise ValueError(f"{name}: expected a tensor of {np.dtype(dtype)}, got {kind}; take a new snapshot")
    return np.ascontiguousarray(array)
