"""track: from videos, cameras and addresses to tracks, in one call."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..tracking import TrackerRules
from .live import Policy
from .models import default_device, find_model
from .results import FrameResult
from .session import StreamSession
from .sources import Source, Spec
from .watch import Watching, close_all, open_sources


class Tracking(Watching[FrameResult]):
    """The tracks in some sources, frame after frame, as they come; a context that closes the sources."""

    session: StreamSession


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
        detector = detector.to(device or default_device()).eval()
        session = StreamSession(detector, size=size, rules=rules, memory=memory, coast=coast)
        return Tracking(sources, session, live)
    except BaseException:
        close_all(sources.values())
        raise


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
