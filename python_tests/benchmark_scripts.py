"""Makes the files of benchmarks/ importable by name; they are scripts and suites, not a package."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from house import ROOT


def load(name: str) -> ModuleType:
    """Import benchmarks/<name>.py, which finds its neighbours as it does when it is run."""
    if (folder := str(ROOT / "benchmarks")) not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(name)
