"""The models that streams are shown to: by name, from a file, or as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..models import registry
from ..models import weights as weight_files
from ..models.detector import Detector

_RELEASED = {Detector: "svit_base_mot"}  # what weights without a configuration beside them are of


def find_model(
    model: str | Path | nn.Module,
    weights: str | Path | None = None,
    kind: type[nn.Module] = Detector,
    **overrides: Any,
) -> tuple[nn.Module, bool]:
    """Return a model of a kind by its name, from a file of weights, or as it is; and whether it was ever trained."""
    if isinstance(model, nn.Module):
        if weights is not None or overrides:
            named = ["weights"] if weights is not None else list(overrides)
            raise ValueError(f"{named[0]}: expected none with a model that is built, got one; set it in the model")
        return model, True
    if str(model) in registry.MODELS:
        built = _of_kind(kind, registry.create_model(str(model), **overrides), model)
        return (built, False) if weights is None else (_with_weights(built, weights), True)
    if not Path(model).suffix and not Path(model).exists():
        registry.create_model(str(model))  # raises, and names what there is
    if weights is not None:
        raise ValueError(f"weights: expected none with a model from the file {model}, got {weights}; name one of them")
    if _is_ours(model):
        return _of_kind(kind, registry.load_model(model, **overrides), model), True
    if kind not in _RELEASED:
        raise ValueError(f"model: expected the name of one for weights that do not tell it, got {model}; add the name")
    return _with_weights(registry.create_model(_RELEASED[kind], **overrides), model), True


def default_device() -> torch.device:
    """Return the GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _of_kind(kind: type[nn.Module], model: nn.Module, name: str | Path) -> nn.Module:
    if not isinstance(model, kind):
        known = ", ".join(other for other, (found, _) in registry.MODELS.items() if found is kind)
        raise ValueError(
            f"model: expected a {kind.__name__.lower()}, got a {type(model).__name__} in {name}; choose from {known}"
        )
    return model


def _with_weights(model: nn.Module, weights: str | Path) -> nn.Module:
    report = weight_files.load_weights(model, weights)
    if report.missing:
        raise ValueError(
            f"weights: expected all of the {type(model).__name__.lower()}, got none for {report.missing[0]} and"
            f" {len(report.missing) - 1} more in {weights}; train it from there, or name the whole model's weights"
        )
    return model


def _is_ours(path: str | Path) -> bool:
    try:
        weight_files.read_config(path)
    except ValueError:
        return False
    return True
