"""The models by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from .classifier import Classifier
from .config import BackboneConfig, ClassifierConfig, Config, DetectorConfig, nearest
from .detector import Detector
from .svit import SVit
from .weights import load_weights, read_config

_TINY = dict(width=192, heads=3)
_SMALL = dict(width=384, heads=6)
_BASE = dict(width=768, heads=12)  # the paper's
_ACTION = dict(conv_blocks=(), outputs=(3,), adapter=False, class_token=True)

MODELS: dict[str, tuple[type[nn.Module], Config]] = {
    "svit_tiny": (SVit, BackboneConfig(**_TINY)),
    "svit_small": (SVit, BackboneConfig(**_SMALL)),
    "svit_base": (SVit, BackboneConfig(**_BASE)),
    "svit_tiny_mot": (Detector, DetectorConfig(backbone=BackboneConfig(**_TINY), neck_channels=64, csp_blocks=1)),
    "svit_small_mot": (Detector, DetectorConfig(backbone=BackboneConfig(**_SMALL), neck_channels=128, csp_blocks=2)),
    "svit_base_mot": (Detector, DetectorConfig(backbone=BackboneConfig(**_BASE), neck_channels=256, csp_blocks=4)),
    "svit_tiny_action": (Classifier, ClassifierConfig(backbone=BackboneConfig(**_TINY, **_ACTION))),
    "svit_small_action": (Classifier, ClassifierConfig(backbone=BackboneConfig(**_SMALL, **_ACTION))),
    "svit_base_action": (Classifier, ClassifierConfig(backbone=BackboneConfig(**_BASE, **_ACTION))),
}


def list_models() -> list[str]:
    """Return the names that create_model takes."""
    return list(MODELS)


def create_model(name: str, *, weights: str | Path | None = None, **overrides: Any) -> nn.Module:
    """Build a model; `overrides` are fields of its configuration, `weights` what load_weights takes."""
    if name not in MODELS:
        raise ValueError(f"name: expected the name of a model, got {name!r}; {nearest(str(name), MODELS)}")
    kind, config = MODELS[name]
    model = kind(config.replace(**overrides))
    if weights is not None:
        load_weights(model, weights)
    return model


def load_model(path: str | Path, **overrides: Any) -> nn.Module:
    """Build the model that save_model wrote to a file; `overrides` change fields of its configuration."""
    described = read_config(path)
    kinds = {kind.__name__: (kind, type(config)) for kind, config in MODELS.values()}
    if described["model"] not in kinds:
        raise ValueError(f"path: expected a model of {', '.join(kinds)}, got {described['model']}; use load_weights")
    kind, config_type = kinds[described["model"]]
    model = kind(config_type.from_dict(described["config"]).replace(**overrides))
    report = load_weights(model, path)
    if report.missing:
        raise ValueError(f"path: expected all weights of the model, got none for {report.missing[0]}; save it again")
    return model
