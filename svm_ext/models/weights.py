"""Weights from files and into files: our own, the released MOT checkpoint, and OpenAI's CLIP.

The only module of the models that knows file formats and foreign names. Files are read without running anything that is
in them.
"""

from __future__ import annotations

import json
import math
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .._files import whole_file
from .config import Config
from .svit import resized

VERSION = 1
_KEY = "svm_ext"  # of our metadata in a safetensors file
_TABLES = ("positional_embedding", "backbone.positional_embedding")
_ONLY_CLIP = ("class_embedding", "proj")  # of the vision tower: what a model without a class token has no use for
_NUMPY_SCALAR = (
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),  # numpy 1 wrote this name, numpy 2 the next
    (np._core.multiarray.scalar, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("bool", "int32", "int64", "float32", "float64")),
)  # training frameworks leave such numbers beside the weights


@dataclass(frozen=True)
class LoadReport:
    """What load_weights did, by the model's names; `unexpected` by the source's."""

    loaded: list[str]
    missing: list[str]  # of the model, left as they were
    unexpected: list[str]  # of the source, with no place in the model

    def __str__(self) -> str:
        """Return one line."""
        counts = f"{len(self.loaded)} tensors loaded, {len(self.missing)} left as they were"
        return f"{counts}, {len(self.unexpected)} without a place"


def load_weights(model: nn.Module, source: str | Path | Mapping[str, Any]) -> LoadReport:
    """Copy weights from a file or a state dict into a model, and report what went where.

    Understood are our own files; the released MOT checkpoint, whole or its backbone alone (raw copies of its
    moving averages, `ema_*`, are left out); and OpenAI's CLIP, as a TorchScript archive or plain, of which the
    text tower and the projection are left out. A position table of another grid is resized. Nothing changes
    where a shape does not fit or nothing matches.
    """
    state = read_state(source)
    own = model.state_dict()
    renamed = _as_named_in(own, state)
    fitted = {name: _fitted(name, renamed[name], own[name]) for name in own if name in renamed}
    if not fitted:
        first = next(iter(state), "no tensor at all")
        raise ValueError(f"source: expected weights of {type(model).__name__}, got none, but {first}; check the file")
    model.load_state_dict(fitted, strict=False)
    missing = [name for name in own if name not in fitted]
    return LoadReport(list(fitted), missing, [name for name in renamed if name not in own])


def save_model(model: nn.Module, path: str | Path) -> None:
    """Write a model's weights and configuration to a safetensors file; it is there whole or not at all."""
    if not isinstance(getattr(model, "config", None), Config):
        raise ValueError(
            f"model: expected one of create_model, got a {type(model).__name__}; save what it holds instead"
        )
    described = {"version": VERSION, "model": type(model).__name__, "config": model.config.to_dict()}
    tensors = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    try:
        with whole_file(path) as part:
            save_file(tensors, part, metadata={_KEY: json.dumps(described)})
    except SafetensorError as error:
        raise OSError(f"path: expected a place to write to, got {path} ({_line(error)}); choose another") from error


def read_config(path: str | Path) -> dict[str, Any]:
    """Return what save_model wrote beside the weights: the `model`'s class and its `config`."""
    path = _existing(path)
    try:
        with safe_open(path, framework="pt") as file:
            described = json.loads((file.metadata() or {}).get(_KEY, "null"))
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"path: expected a file of save_model, got {path} ({_line(error)}); save it again") from error
    if not isinstance(described, dict) or described.get("version") != VERSION:
        raise ValueError(f"path: expected a file of save_model, version {VERSION}, got {path}; use load_weights")
    return described


def read_state(source: str | Path | Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a file or a state dict by their names, out of what they are wrapped in."""
    found: Any = source if isinstance(source, Mapping) else _read(_existing(source))
    for wrapper in ("state_dict", "model"):
        if isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path: expected a file of weights, got none at {path}; check the name")
    return path


def _read(path: Path) -> Mapping[str, Any]:
    """Return what a file holds, whatever its format."""
    try:
        if _is_safetensors(path):
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        if _is_torchscript(path):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                return torch.jit.load(path, map_location="cpu").state_dict()
        with torch.serialization.safe_globals(list(_NUMPY_SCALAR)):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # readers of broken files raise whatever they stumble over
        raise ValueError(
            f"path: expected whole weights, got {path} ({_line(error)}); fetch or save it again"
        ) from error
    if not isinstance(found, Mapping):
        raise ValueError(f"path: expected a state dict, got {type(found).__name__} in {path}; save model.state_dict()")
    return found


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"  # a header in JSON, after its length in eight bytes


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _as_named_in(own: Mapping[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that can belong to a model with the names `own`, under its names."""
    state = {name: tensor for name, tensor in state.items() if not name.startswith("ema_")}
    for whole in ("visual.", "detector."):  # of CLIP the vision tower; of a tracker the detector
        state = _part(state, whole) or state
    has_backbone = any(name.startswith("backbone.") for name in own)
    part = _part(state, "backbone.")
    if part and not has_backbone:
        state = part
    elif has_backbone and not part and not any(name in own for name in state):
        state = {f"backbone.{name}": tensor for name, tensor in state.items()}
    unused = {f"{prefix}{name}" for prefix in ("", "backbone.") for name in _ONLY_CLIP}
    return {name: tensor for name, tensor in state.items() if name in own or name not in unused}


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _fitted(name: str, tensor: Tensor, own: Tensor) -> Tensor:
    """Return a tensor in the shape of the model's own, or refuse it."""
    if name in _TABLES and tensor.ndim == 2 and tensor.shape[1:] == own.shape[1:]:
        tensor = _fitted_table(tensor, own)
    if tensor.shape != own.shape:
        raise ValueError(
            f"{name}: expected shape {list(own.shape)} like the model's, got {list(tensor.shape)};"
            " build the model of these weights, or leave the tensor out"
        )
    return tensor


def _fitted_table(table: Tensor, own: Tensor) -> Tensor:
    """Return a position table with the rows of the model's: a class token's row or not, and its grid."""
    lead, own_lead = (0 if _side(rows) else 1 for rows in (len(table), len(own)))
    side, own_side = _side(len(table) - lead), _side(len(own) - own_lead)
    if not side or own_lead > lead:
        return table
    patches = table[lead:]
    if side != own_side:
        square = patches.to(own.device, torch.promote_types(own.dtype, torch.float32)).unflatten(0, (side, side))
        patches = resized(square, own_side, own_side).flatten(0, 1)
    return torch.cat([table[:own_lead].to(patches), patches])


def _side(rows: int) -> int:
    """Return the side of a square of so many rows, 0 if it is none."""
    side = math.isqrt(max(rows, 0))
    return side if side * side == rows else 0


def _line(error: Exception) -> str:
    """Return why a file cannot be read, in a few words."""
    if held := re.search(r"GLOBAL (\S+)", str(error)):
        return f"it holds a {held[1]}, which is no tensor"
    return (str(error).splitlines() or [""])[0].partition(". ")[0] or type(error).__name__
