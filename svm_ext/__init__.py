"""Gives a video transformer a memory: one live frame in, features out, at a cost that does not grow with
the video.

Names are loaded when they are first used, so that `svm-ext --help` need not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from . import ops
    from ._info import info
    from .backend import use_backend
    from .memory import StreamMemory

__all__ = ["StreamMemory", "__version__", "info", "ops", "use_backend"]

_HOME = {"StreamMemory": ".memory", "use_backend": ".backend", "info": "._info"}  # name -> module that defines it


def __getattr__(name: str) -> Any:
    if name == "ops":
        return import_module(".ops", __name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(_HOME[name], __name__), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
