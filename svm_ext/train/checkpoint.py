"""Checkpoints that are there whole or not at all, and that a training goes on from to the same numbers."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

VERSION = 1


def write(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint by way of a file beside it, so that an interrupt leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save({"version": VERSION, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint; one that is cut, foreign or of another version is an error of one line."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # torch.load raises a dozen types for a file that is cut or not its own
        raise ValueError(f"checkpoint: {path} cannot be read ({_first_line(error)}); start without resume") from None
    found = state.get("version") if isinstance(state, dict) else None
    if found != VERSION:
        raise ValueError(f"checkpoint: expected version {VERSION} in {path}, got {found}; start without resume")
    return state


def random_state() -> dict[str, Any]:
    """Where all random generators of this process stand, in types that `read` accepts."""
    kind, numbers, position, has_gauss, gauss = np.random.get_state()
    version, python_numbers, python_gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (kind, torch.from_numpy(numbers.astype(np.int64)), position, has_gauss, gauss),
        "python": (version, list(python_numbers), python_gauss),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Put all random generators of this process where `random_state` found them."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    kind, numbers, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, numbers.numpy().astype(np.uint32), position, has_gauss, gauss))
    version, python_numbers, python_gauss = state["python"]
    random.setstate((version, tuple(python_numbers), python_gauss))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
