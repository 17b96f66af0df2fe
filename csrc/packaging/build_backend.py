"""The build backend: setuptools, plus the pinned torch as a build requirement where no torch is to be found.

So `pip install .` fetches no second torch where there is one, and needs nothing done first where there is none.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import setuptools
from setuptools import build_meta
from setuptools.build_meta import (  # the hooks that stay as they are
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_sdist,
)

from torch_dir import TorchNotFoundError, find_torch

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

if int(setuptools.__version__.split(".")[0]) < 77:  # older ones fail on pyproject.toml, at length
    raise SystemExit(
        f"svm_ext: the build needs setuptools 77 or newer, found {setuptools.__version__}; "
        "type: pip install -U setuptools"
    )

CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"


def get_requires_for_build_wheel(config_settings: dict[str, Any] | None = None) -> list[str]:
    """What setuptools asks for, and torch where it is needed."""
    return build_meta.get_requires_for_build_wheel(config_settings) + torch_requirement()


def get_requires_for_build_editable(config_settings: dict[str, Any] | None = None) -> list[str]:
    """What setuptools asks for, and torch where it is needed."""
    return build_meta.get_requires_for_build_editable(config_settings) + torch_requirement()


def prepare_metadata_for_build_wheel(folder: str, config_settings: dict[str, Any] | None = None) -> str:
    """Setuptools' own, once there is a torch: without one, pip would fetch all that we depend on before it fails."""
    insist_on_torch()
    return build_meta.prepare_metadata_for_build_wheel(folder, config_settings)


def prepare_metadata_for_build_editable(folder: str, config_settings: dict[str, Any] | None = None) -> str:
    """Setuptools' own, once there is a torch."""
    insist_on_torch()
    return build_meta.prepare_metadata_for_build_editable(folder, config_settings)


def insist_on_torch() -> None:
    """Stop with one line where there is no torch to build against."""
    try:
        find_torch()
    except TorchNotFoundError as error:
        raise SystemExit(f"svm_ext: {error}") from None


def torch_requirement() -> list[str]:
    """Nothing where a torch is found, else the pinned one: constraints given to pip may not reach an isolated build."""
    try:
        find_torch()
    except TorchNotFoundError as error:
        if "SVM_EXT_TORCH_DIR must" in str(error):  # named by hand and wrong: another torch is not what was asked for
            raise SystemExit(f"svm_ext: {error}") from None
        pinned = pinned_torch(CONSTRAINTS.read_text())
        print(f"svm_ext: found no torch to build against, so the build asks for {pinned}", file=sys.stderr)
        return [pinned]
    return []


def pinned_torch(constraints: str) -> str:
    """The line of constraints.txt that pins torch."""
    found = re.search(r"^torch==\S+", constraints, re.MULTILINE)
    if found is None:
        raise SystemExit("svm_ext: constraints.txt must pin torch (torch==X.Y.Z), found no such line")
    return found.group(0)
