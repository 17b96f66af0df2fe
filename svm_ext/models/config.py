"""Configurations: frozen values that check themselves, print as YAML, and come back from a file.

`Config` is the machinery, the classes after it are the models' settings: one line a field, with its unit and its
choices. A configuration is data. It builds nothing.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from .._files import whole_file

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, kw_only=True)
class Config:
    """A frozen set of named values; a field may hold another Config."""

    def __post_init__(self) -> None:
        """Bring every value to the type of its field, so that lists from a file become tuples, or refuse it."""
        hints = get_type_hints(type(self))
        for name in self.names():
            object.__setattr__(self, name, _fitted(name, getattr(self, name), hints[name]))

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the fields."""
        return [item.name for item in dataclasses.fields(cls)]

    def replace(self, **changes: Any) -> Self:
        """Return a copy with other values; a field of an inner Config can be named as if it were one's own."""
        values = {name: getattr(self, name) for name in self.names()}
        inner = {name: value for name, value in values.items() if isinstance(value, Config)}
        for name, value in changes.items():
            owner = next((owner for owner, config in inner.items() if name in config.names()), None)
            if name in values:
                values[name] = value
            elif owner is None:
                known = [*values, *(name for config in inner.values() for name in config.names())]
                raise ValueError(f"{name}: expected a field of {type(self).__name__}, got none; {nearest(name, known)}")
        for owner, config in inner.items():
            own = {name: value for name, value in changes.items() if name in config.names() and name not in values}
            if own:
                values[owner] = values[owner].replace(**own)
        return type(self)(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings, lists and dicts, as JSON and YAML know them."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the configuration with these values, defaults for the rest."""
        if not isinstance(values, Mapping):
            raise ValueError(f"{cls.__name__}: expected fields and values, got {values!r}; write `field: value`")
        for name in values:
            if name not in cls.names():
                remedy = nearest(str(name), cls.names())
                raise ValueError(f"{name}: expected a field of {cls.__name__}, got none; {remedy}")
        return cls(**values)

    def __str__(self) -> str:
        """Return the configuration as YAML."""
        return _yaml(self.to_dict())

    def save(self, path: str | Path) -> None:
        """Write a .json, .yaml or .yml file; it is there whole or not at all."""
        text = json.dumps(self.to_dict(), indent=2) if _suffix(path) == ".json" else str(self)
        with whole_file(path) as part:
            part.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a .json, .yaml or .yml file."""
        suffix, path = _suffix(path), Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"path: expected a configuration, got no file at {path}; write one with save()")
        text = path.read_text(encoding="utf-8")
        try:
            values = json.loads(text) if suffix == ".json" else _parse_yaml(text)
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"path: expected a {suffix[1:]} file, got {path} ({reason}); mend it") from error
        return cls.from_dict(values)


def nearest(name: str, choices: Iterable[str]) -> str:
    """Say which of the choices was probably meant, or what there is to choose from."""
    choices = list(choices)
    close = difflib.get_close_matches(name, choices, n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"choose from {', '.join(choices)}"


def _suffix(path: str | Path) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in (".json", ".yaml", ".yml"):
        raise ValueError(f"path: expected a name that ends in .json, .yaml or .yml, got {path}; rename it")
    return suffix


def _yaml(values: Mapping[str, Any], indent: str = "") -> str:
    lines = []
    for name, value in values.items():
        inner = isinstance(value, Mapping)
        lines.append(f"{indent}{name}:" + ("" if inner else f" {json.dumps(value)}"))
        lines += [_yaml(value, indent + "  ")] if inner else []
    return "\n".join(lines)


def _parse_yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _fitted(name: str, value: Any, hint: Any) -> Any:
    """Return a value as the type of its field has it, or raise in one line that names the field."""
    kind, choices = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType) and NoneType in choices:
        inner = next(choice for choice in choices if choice is not NoneType)
        return None if value is None else _fitted(name, value, inner)
    if kind is Literal:
        if value in choices:
            return value
        expected = f"one of {', '.join(map(str, choices))}"
    elif kind is tuple:
        if isinstance(value, (list, tuple)):
            return tuple(_fitted(name, item, choices[0]) for item in value)
        expected = f"a list of {choices[0].__name__}"
    elif issubclass(hint, Config):
        if isinstance(value, hint):
            return value
        if isinstance(value, Mapping):
            return hint.from_dict(value)
        expected = f"a {hint.__name__}"
    else:
        if (plain := _plain(value, hint)) is not None:
            return plain
        expected = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[hint]
    raise ValueError(f"{name}: expected {expected}, got {value!r}; change {name}")


def _plain(value: Any, kind: type) -> Any:
    """Return a value as int, float, bool or str if it is one; YAML reads 1e-4 as a text."""
    if kind is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            return None
    return value if type(value) is kind else None


def require(name: str, fits: bool, expected: str, value: Any, change: str | None = None) -> None:
    """Raise in one line, which names the field to change, where a value does not fit."""
    if not fits:
        raise ValueError(f"{name}: expected {expected}, got {value!r}; change {change or name}")


@dataclass(frozen=True, kw_only=True)
class BackboneConfig(Config):
    """S-ViT, the backbone; the defaults are the paper's model."""

    width: int = 768  # channels of a token
    layers: int = 12  # blocks
    heads: int = 12  # attention heads; width / heads channels each
    patch_size: int = 16  # pixels, side of the square that becomes a token
    input_resolution: int = 224  # pixels, side of the pictures that the position table was made for
    window_size: int = 14  # tokens, side of the square that attention looks at
    memory_frames: int = 32  # frames that a memory holds unless new_memory is told otherwise
    temporal: Literal["none", "stream", "clip"] = "stream"  # sees: the frame; past frames; all frames of a clip
    cross_query: Literal["input", "attn_out"] = "input"  # memory's queries from: block input; in-frame attention
    mlp_ratio: int = 4  # hidden width of the MLP / width
    conv_blocks: tuple[int, ...] = (2, 5, 8, 11)  # blocks with a convolution after them
    stages: tuple[int, ...] = (2, 5, 8, 11)  # blocks where a stage ends
    outputs: tuple[int, ...] = (1, 2, 3)  # stages whose features are returned, as positions in `stages`
    adapter: bool = True  # three outputs at patch/2, patch, patch*2 pixels; else all at patch pixels
    class_token: bool = False  # CLIP's class token joins in-frame attention; pictures of one window, no conv_blocks
    drop_path: float = 0.0  # chance that a sample skips a residual branch in the last block; 0 in the first
    checkpoint: bool = False  # training: compute blocks again in the backward instead of keeping their insides
    alpha_init: float = 1e-4  # start of the learned scale of the temporal branch

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        super().__post_init__()
        counts = "width layers heads patch_size input_resolution window_size memory_frames mlp_ratio"
        for name in counts.split():
            require(name, getattr(self, name) >= 1, "at least 1", getattr(self, name))
        require("heads", self.width % self.heads == 0, f"a divisor of width {self.width}", self.heads)
        pixels = self.input_resolution
        require(
            "input_resolution", pixels % self.patch_size == 0, f"a multiple of patch_size {self.patch_size}", pixels
        )
        for name, limit in (("conv_blocks", self.layers), ("stages", self.layers), ("outputs", len(self.stages))):
            chosen = getattr(self, name)
            ordered = list(chosen) == sorted(set(chosen)) and all(0 <= item < limit for item in chosen)
            require(name, ordered, f"rising numbers from 0 to {limit - 1}", chosen)
        require("outputs", len(self.outputs) > 0, "at least one stage", self.outputs)
        require("outputs", not self.adapter or len(self.outputs) == 3, "three stages for the adapter", self.outputs)
        even = self.width % 2 == 0 or not (self.adapter or self.conv_blocks)
        require("width", even, "an even number for adapter and conv_blocks", self.width)
        require("drop_path", 0 <= self.drop_path < 1, "at least 0 and below 1", self.drop_path)
        require(
            "class_token", not (self.class_token and self.conv_blocks), "false beside conv_blocks", self.class_token
        )
        grid = self.input_resolution // self.patch_size
        require(
            "class_token",
            not self.class_token or grid == self.window_size,
            f"false where input_resolution / patch_size {grid} is not window_size {self.window_size}",
            self.class_token,
        )


@dataclass(frozen=True, kw_only=True)
class DetectorConfig(Config):
    """A detector: the backbone, a feature pyramid and YOLOX heads."""

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    neck_channels: int = 256  # channels of the pyramid's outputs and of the heads
    csp_blocks: int = 4  # bottlenecks in a stage of the neck
    num_classes: int = 1  # kinds of objects
    picture_size: tuple[int, ...] = (1440, 800)  # pixels, longer and shorter side that videos are scaled to
    score_threshold: float = 0.01  # detections below it are dropped
    nms_threshold: float = 0.7  # of two boxes of a class with a larger IoU the worse is dropped
    use_l1: bool = False  # adds an L1 loss on the boxes, for the end of a training

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        super().__post_init__()
        for name in ("neck_channels", "csp_blocks", "num_classes"):
            require(name, getattr(self, name) >= 1, "at least 1", getattr(self, name))
        for name in ("score_threshold", "nms_threshold"):
            require(name, 0 <= getattr(self, name) <= 1, "0 to 1", getattr(self, name))
        sides = self.picture_size
        require("picture_size", len(sides) == 2 and sides[0] >= sides[1] >= 1, "the longer and the shorter side", sides)
        require("adapter", self.backbone.adapter, "true for a detector, whose neck takes three scales", False)


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(Config):
    """A video classifier: the backbone's frame features and a temporal decoder."""

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    num_classes: int = 400  # actions
    clip_frames: int = 16  # frames that the decoder's position table was made for
    decoder_layers: int = 4  # blocks of the decoder
    causal: bool = False  # a frame sees earlier frames only: an answer after every frame

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        super().__post_init__()
        for name in ("num_classes", "clip_frames", "decoder_layers"):
            require(name, getattr(self, name) >= 1, "at least 1", getattr(self, name))
