"""track: from videos, cameras and addresses to tracks, in one call."""

from __future__ import annotations

import warnings
import weakref
from collections import deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..models import registry
from ..models import weights as weight_files
from ..models.detector import Detector
from ..tracking import TrackerRules
from .live import Policy, Readers
from .results import FrameResult
from .session import StreamSession
from .sources import Source, Spec, open_source

_RELEASED = "svit_base_mot"  # what weights without a configuration beside them are of


class Tracking(Iterator[FrameResult]):
    """The results of some sources, frame after frame, as they come; a context that closes the sources.

    What a source gave before it failed is tracked; the error is raised when all streams have ended. `problems`
    are what did not end them: damage, lost connections.
    """

    def __init__(self, sources: Mapping[Hashable, Source], session: StreamSession, live: Policy = "latest") -> None:
        self.sources, self.session = dict(sources), session
        for name, source in self.sources.items():
            session.open(name, source.size)
        self._readers = Readers(self.sources, live)
        self._waiting: deque[FrameResult] = deque()
        self._finalizer = weakref.finalize(self, self._readers.close)  # for those who break out of their loop

    def __next__(self) -> FrameResult:
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

    def __enter__(self) -> Tracking:
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


def track(
    source: Spec | Source | Sequence[Spec | Source],
    model: str | Path | nn.Module,
    *,
    weights: str | Path | None = None,
    live: Policy = "latest",
    size: tuple[int, int] | None = None,
    device: str | torch.device | None = None,
    memory: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Tracking:
    """Track what a detector finds in a source, or in several as streams of one batch; iterate for the results.

    A source is a file, a folder of pictures, a pattern, the number of a camera or an address. `model` is a
    detector, the name of one, or a file of weights. `live` says whether a live source may drop frames
    ("latest") or has to wait ("all"). Pictures are scaled to `size`, their longer and shorter side at most,
    by default as the model was trained. `settings` are fields of the model's configuration and rules of the
    tracker (and `coast`); `memory` are options of the model's new_memory. Without `device` it is the GPU if
    there is one.
    """
    several = isinstance(source, Sequence) and not isinstance(source, str)
    sources = open_sources(source if several else [source])  # first: a wrong path need not wait for a model
    try:
        detector, rules, coast = _prepared(model, weights, settings)
        detector = detector.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
        session = StreamSession(detector, size=size, rules=rules, memory=memory, coast=coast)
        return Tracking(sources, session, live)
    except BaseException:
        close_all(sources.values())
        raise


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


def find_model(
    model: str | Path | nn.Module, weights: str | Path | None = None, **overrides: Any
) -> tuple[nn.Module, bool]:
    """Return a detector by its name, from a file of weights, or as it is; and whether it was ever trained."""
    if isinstance(model, nn.Module):
        if weights is not None or overrides:
            named = ["weights"] if weights is not None else list(overrides)
            raise ValueError(f"{named[0]}: expected none with a model that is built, got one; set it in the model")
        return model, True
    if str(model) in registry.MODELS:
        built = _detector(registry.create_model(str(model), **overrides), model)
        return (built, False) if weights is None else (_with_weights(built, weights), True)
    if not Path(model).suffix and not Path(model).exists():
        registry.create_model(str(model))  # raises, and names what there is
    if weights is not None:
        raise ValueError(f"weights: expected none with a model from the file {model}, got {weights}; name one of them")
    if _is_ours(model):
        return _detector(registry.load_model(model, **overrides), model), True
    return _with_weights(registry.create_model(_RELEASED, **overrides), model), True


def split_settings(settings: Mapping[str, Any]) -> tuple[TrackerRules, int, dict[str, Any]]:
    """Return the tracker's rules, `coast`, and what is left for the model's configuration."""
    left = dict(settings)
    coast = left.pop("coast", 0)
    rules = {name: left.pop(name) for name in TrackerRules.__dataclass_fields__ if name in left}
    return TrackerRules(**rules), coast, left


def _prepared(
    model: str | Path | nn.Module, weights: str | Path | None, settings: Mapping[str, Any]
) -> tuple[nn.Module, TrackerRules, int]:
    rules, coast, overrides = split_settings(settings)
    detector, trained = find_model(model, weights, **overrides)
    if not trained:
        warnings.warn(f"model: {model} has random weights and finds nothing useful; pass weights=FILE", stacklevel=3)
    return detector, rules, coast


def _detector(model: nn.Module, name: str | Path) -> nn.Module:
    if not isinstance(model, Detector):
        detectors = ", ".join(known for known, (kind, _) in registry.MODELS.items() if kind is Detector)
        raise ValueError(f"model: expected a detector, got a {type(model).__name__} in {name}; choose from {detectors}")
    return model


def _with_weights(model: nn.Module, weights: str | Path) -> nn.Module:
    report = weight_files.load_weights(model, weights)
    if report.missing:
        raise ValueError(
            f"weights: expected all of the detector, got none for {report.missing[0]} and {len(report.missing) - 1}"
            f" more in {weights}; train it from there, or name the whole detector's weights"
        )
    return model


def _is_ours(path: str | Path) -> bool:
    try:
        weight_files.read_config(path)
    except ValueError:
        return False
    return True


def _new_name(name: str, taken: Mapping[str, Any]) -> str:
    number, new = 1, name
    while new in taken:
        number += 1
        new = f"{name}-{number}"
    return new
