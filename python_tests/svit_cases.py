"""Small backbones for the tests, golden ones, and how their outputs are compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from svm_ext.models.config import BackboneConfig
from svm_ext.models.svit import SVit

PATCH, SIDE = 8, 4  # pixels of a token, tokens along a window
ONE_WINDOW = (32, 32)
# Pictures by what their windows look like; 40 x 56 pixels are 5 x 7 tokens in four windows of four sizes.
SIZES = {
    "one": ONE_WINDOW,
    "whole": (64, 96),
    "small": (24, 16),
    "bottom": (48, 64),
    "right": (64, 40),
    "corner": (40, 56),
}
PADDED = SIZES["corner"]

TINY = dict(
    width=32,
    heads=2,
    layers=3,
    patch_size=PATCH,
    input_resolution=PATCH * SIDE,
    window_size=SIDE,
    memory_frames=3,
    conv_blocks=(1,),
    stages=(0, 1, 2),
    outputs=(0, 1, 2),
    alpha_init=0.5,
)
CLASS_TOKEN = dict(class_token=True, conv_blocks=(), adapter=False, outputs=(2,))


def tiny(*, dtype: torch.dtype = torch.float32, **overrides: Any) -> SVit:
    """A small backbone in evaluation mode, none of whose parameters is a round number."""
    model = SVit(BackboneConfig(**(TINY | overrides)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.to(dtype).eval()


def video(frames: int, batch: int = 2, size: tuple[int, int] = PADDED, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random frames, [T, B, 3, height, width]."""
    return torch.randn(frames, batch, 3, *size, dtype=dtype)


def worst(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The largest error of any map, relative to the maximum of that map."""
    errors = [((a - b).abs().max() / b.abs().max()).item() for a, b in zip(ours, theirs, strict=True)]
    return max(errors)


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    """The gradients of all parameters, 0 where none arrived."""
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for name, parameter in model.named_parameters()
    }


def assert_same_gradients(ours: dict[str, Tensor], theirs: dict[str, Tensor], precision: float) -> None:
    for name, truth in theirs.items():
        error = (ours[name] - truth).abs().max() / truth.abs().max().clamp(min=1e-12)
        assert error <= precision, f"{name}: {error:.3g}"


class Golden:
    """A golden case of the backbone: its configuration, and its tensors in the type to compute in."""

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        with safe_open(path, "pt") as file:
            self.told = json.loads(file.metadata()["config"])
            self.tensors = {name: file.get_tensor(name).to(dtype) for name in file.keys()}  # noqa: SIM118 (no mapping)
        self.dtype, self.size = dtype, tuple(self.told["size"])
        self.frames = self.tensors["frames"]  # [T, B, 3, height, width]
        told = self.told
        self.config = BackboneConfig(
            **{name: told[name] for name in ("width", "layers", "heads", "window_size", "input_resolution")},
            patch_size=told["patch_size"][0],
            memory_frames=told["num_frames"],
            conv_blocks=told["residual_block_index"],
            stages=told["stage_segment"],
            outputs=told["out_indices"],
        )

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `prefix`, by the rest of their names."""
        return {n.removeprefix(prefix): tensor for n, tensor in self.tensors.items() if n.startswith(prefix)}

    def model(self, kind: Callable[[BackboneConfig], Any] = SVit, **changes: Any) -> Any:
        """The model of the case with its weights, and all of them."""
        model = kind(self.config.replace(**changes)).to(self.dtype)
        model.load_state_dict(self.part("weights/"), strict=True)
        return model.train(self.told["mode"] == "train")

    def maps(self, frame: int) -> list[Tensor]:
        """The maps of a frame."""
        return list(self.part(f"out/{frame}/").values())

    def loss(self, maps: list[Tensor]) -> Tensor:
        """The loss of a frame's maps."""
        return sum((x * self.tensors[f"probe/{level}"]).mean() for level, x in enumerate(maps))
