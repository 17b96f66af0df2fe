"""What a training is told, in one frozen value; presets as one literal dict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..models.config import Config, DetectorConfig, nearest, require
from ..models.registry import MODELS


def detector_named(name: str) -> DetectorConfig:
    """Return the settings of a detector by the name that create_model takes."""
    detectors = {model: config for model, (_, config) in MODELS.items() if isinstance(config, DetectorConfig)}
    if name not in detectors:
        raise ValueError(f"model: expected the name of a detector, got {name!r}; {nearest(str(name), detectors)}")
    return detectors[name]


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Config):
    """One training of a detector that remembers; the defaults train on generated scenes from scratch."""

    detector: DetectorConfig = field(default_factory=lambda: detector_named("svit_tiny_mot"))
    weights: str | None = None  # file to start from: CLIP, the released tracker, one's own
    data: str = "scenes"  # "scenes" (generated), or a folder
    height: int = 320  # pixels, of the pictures that the model sees
    width_pixels: int = 576
    clip_frames: int = 4  # frames of a clip
    strides: tuple[int, ...] = (1, 2)  # steps from frame to frame of a clip, one is drawn for each
    sample: float = 1.0  # share of a folder's frames that an epoch's clips start from, others in every epoch
    clips: int = 2000  # clips of an epoch, where the data are generated
    augment: bool = True  # mosaic, affine, mixup, colours, flip; generated scenes do without
    batch: int = 4  # clips of one process at a time
    epochs: int = 10
    step: Literal["clip", "frame"] = "clip"  # optimizer step after each: clip; frame (as in the reference)
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    backbone_factor: float = 1.0  # slows down what pretrained weights have filled; 0.1 after CLIP
    like_reference: bool = False  # the released recipe's parameter groups
    warmup_epochs: float = 1.0
    tail_epochs: float = 0.5
    floor: float = 0.05  # learning rate of the tail / learning rate
    gradient_norm: float = 5.0  # longer gradients are shortened to it; 0 leaves them alone
    ema_horizon: float = 2000.0  # iterations after which the weight average has settled
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    seed: int = 1024
    workers: int = 2  # processes that prepare clips; 0: this one
    report_every: int = 50  # iterations
    save_every: int = 200  # iterations, to the end of a clip
    tensorboard: bool = False
    device: str = "auto"  # "auto": a GPU if there is one

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        super().__post_init__()
        for name in ("clip_frames", "clips", "batch", "epochs", "report_every", "save_every"):
            require(name, getattr(self, name) >= 1, "at least 1", getattr(self, name))
        for name in ("learning_rate", "ema_horizon"):
            require(name, getattr(self, name) > 0, "more than 0", getattr(self, name))
        for name in ("weight_decay", "warmup_epochs", "tail_epochs", "gradient_norm", "workers"):
            require(name, getattr(self, name) >= 0, "at least 0", getattr(self, name))
        require("sample", 0 < self.sample <= 1, "a share above 0 and up to 1", self.sample)
        side = 2 * self.detector.backbone.patch_size
        for name in ("height", "width_pixels"):
            value = getattr(self, name)
            require(name, value >= side and value % side == 0, f"a multiple of {side} pixels", value)
        require("strides", len(self.strides) > 0 and min(self.strides) >= 1, "steps of at least 1", self.strides)
        flat = self.warmup_epochs + self.tail_epochs
        require("warmup_epochs", flat <= self.epochs, f"at most {self.epochs} with tail_epochs", flat)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures."""
        return self.height, self.width_pixels

    def with_settings(self, settings: Mapping[str, Any]) -> TrainConfig:
        """Return a copy with `field=value` settings of the training, the detector or its backbone.

        `model` is a name of list_models and comes before the rest.
        """
        detector = detector_named(settings["model"]) if "model" in settings else self.detector
        own, inner = {}, {}
        for name, value in settings.items():
            if name in self.names():
                own[name] = value
            elif name in (*detector.names(), *detector.backbone.names()):
                inner[name] = value
            elif name != "model":
                known = ["model", *self.names(), *detector.names(), *detector.backbone.names()]
                raise ValueError(f"{name}: expected a setting of a training, got none; {nearest(name, known)}")
        return self.replace(**{"detector": detector.replace(**inner), **own})


# What a preset changes from the defaults.
PRESETS: dict[str, dict[str, Any]] = {
    "scenes": {},
    "demo": {  # what svm-ext demo shows; `svm_ext.train.demo` draws its clips and trains it
        "model": "svit_tiny_mot",
        "width": 64,
        "heads": 2,
        "layers": 4,
        "conv_blocks": (0, 1, 2, 3),
        "stages": (1, 2, 3),
        "outputs": (0, 1, 2),
        "patch_size": 8,
        "input_resolution": 128,
        "window_size": 16,
        "alpha_init": 1.0,
        "neck_channels": 32,
        "nms_threshold": 0.55,  # who stands so far behind another is hardly to be seen
        "height": 128,
        "width_pixels": 192,
        "clip_frames": 4,
        "batch": 2,
        "epochs": 5,
        "learning_rate": 1.5e-3,
        "warmup_epochs": 0.2,
        "tail_epochs": 0.2,
        "floor": 0.02,
        "ema_horizon": 1000.0,
        "precision": "bf16",
        "workers": 0,
    },
    "mot17": {
        "model": "svit_base_mot",
        "data": "MOT17",
        "height": 800,
        "width_pixels": 1440,
        "clip_frames": 2,
        "memory_frames": 2,
        "strides": (1, 2, 3, 4),
        "batch": 2,
        "learning_rate": 2.5e-4,
        "backbone_factor": 0.1,
        "checkpoint": True,
        "precision": "bf16",
        "gradient_norm": 0.0,
    },
}


def config_from(source: str) -> TrainConfig:
    """Return a preset by its name, or what a .yaml or .json file says."""
    if source in PRESETS:
        return TrainConfig().with_settings(PRESETS[source])
    if Path(source).suffix:
        return TrainConfig.load(source)
    raise ValueError(f"config: expected a file or a preset, got {source!r}; {nearest(source, PRESETS)}")
