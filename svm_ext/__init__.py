"""Lets a video transformer watch a live stream and remember: one live frame in, features, boxes and tracks
out, at a cost that does not grow with the video.

Names are loaded when they are first used, so that `svm-ext --help` need not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from . import evaluate, ops
    from ._info import info
    from .backend import use_backend
    from .memory import StreamMemory
    from .models.detections import Detections
    from .models.registry import create_model, list_models, load_model
    from .models.weights import load_weights, save_model
    from .stream.recognize import recognize
    from .stream.session import StreamSession
    from .stream.sources import open_source
    from .stream.track import track
    from .tracking import ByteTracker, TrackerBank

__all__ = [
    "ByteTracker",
    "Detections",
    "StreamMemory",
    "StreamSession",
    "TrackerBank",
    "__version__",
    "create_model",
    "evaluate",
    "info",
    "list_models",
    "load_model",
    "load_weights",
    "open_source",
    "ops",
    "recognize",
    "save_model",
    "track",
    "use_backend",
]

_HOME = {  # name -> module that defines it
    "ByteTracker": ".tracking",
    "Detections": ".models.detections",
    "StreamMemory": ".memory",
    "StreamSession": ".stream.session",
    "TrackerBank": ".tracking",
    "create_model": ".models.registry",
    "info": "._info",
    "list_models": ".models.registry",
    "load_model": ".models.registry",
    "load_weights": ".models.weights",
    "open_source": ".stream.sources",
    "recognize": ".stream.recognize",
    "save_model": ".models.weights",
    "track": ".stream.track",
    "use_backend": ".backend",
}


def __getattr__(name: str) -> Any:
    if name in ("evaluate", "ops"):
        return import_module(f".{name}", __name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(_HOME[name], __name__), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
