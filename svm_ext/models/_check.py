"""What the backbone refuses, in one line each, before anything is computed or written."""

from __future__ import annotations

import torch
from torch import Tensor

from ..memory import StreamMemory, Streams
from .config import BackboneConfig
from .windows import Windows

_MAKE_ONE = "make one with model.new_memory(streams, (height, width))"


def frames_fit(frames: Tensor, weight: Tensor, config: BackboneConfig) -> None:
    """Check shape, type and device of pictures [B, 3, H, W] or clips [B, T, 3, H, W]."""
    shape = list(frames.shape)
    if frames.ndim == 3 and shape[0] == 3:
        raise ValueError(f"frames: expected [B, 3, H, W], got {shape}; add a batch axis with frames[None]")
    if frames.ndim not in (4, 5) or shape[-3] != 3:
        raise ValueError(f"frames: expected [B, 3, H, W] or a clip [B, T, 3, H, W], got {shape}; move the axes")
    if frames.ndim == 5 and shape[1] == 0:
        raise ValueError(f"frames: expected a clip of at least one frame, got {shape}; leave empty clips out")
    if frames.ndim == 4 and config.temporal == "clip":
        raise ValueError(f"frames: expected a clip [B, T, 3, H, W] for temporal='clip', got {shape}; give whole clips")
    if frames.device != weight.device:
        raise ValueError(f"frames: expected them on {weight.device} like the model, got {frames.device}; move them")
    if frames.dtype != weight.dtype and not (frames.is_floating_point() and _autocasting(frames)):
        raise ValueError(
            f"frames: expected {weight.dtype} like the model, got {frames.dtype}; normalise and convert them"
        )
    one_window = config.patch_size * config.window_size
    if config.class_token and tuple(shape[-2:]) != (one_window, one_window):
        raise ValueError(
            f"frames: expected pictures of {one_window} x {one_window} for a model with a class token, got"
            f" {shape[-2]} x {shape[-1]}; resize them"
        )


def _autocasting(frames: Tensor) -> bool:
    return frames.device.type != "meta" and torch.is_autocast_enabled(frames.device.type)


def clip_fits(memory: StreamMemory | None) -> None:
    """Check that a clip comes without a memory."""
    if memory is not None:
        raise ValueError("memory: expected none with a clip, whose frames see each other, got one; leave it out")


def memory_fits(
    memory: StreamMemory | None, frames: Tensor, streams: Streams, windows: Windows, config: BackboneConfig
) -> None:
    """Check that a memory was made for this model and for frames of this size, type, device and number."""
    if not isinstance(memory, StreamMemory):
        raise ValueError(f"memory: expected a StreamMemory, got {type(memory).__name__}; {_MAKE_ONE}")
    size = tuple(frames.shape[-2:])
    if memory.image_size not in (None, size):
        height, width = memory.image_size
        raise ValueError(
            f"frames: expected {height} x {width} like the memory's, got {size[0]} x {size[1]}; {_MAKE_ONE}"
        )
    sizes = dict(
        layers=config.layers,
        heads=config.heads,
        head_dim=config.width // config.heads,
        window=config.window_size,
        windows=len(windows.real),
    )
    for name, expected in sizes.items():
        if (got := getattr(memory, name)) != expected:
            raise ValueError(f"memory: expected {name}={expected} for this model and picture, got {got}; {_MAKE_ONE}")
    if memory.image_size is None and not _same_real(memory.real, windows):
        raise ValueError(f"memory: expected the `real` of pictures of {size[0]} x {size[1]}, got another; {_MAKE_ONE}")
    if memory.device != frames.device:
        raise ValueError(f"memory: expected it on {frames.device} like the frames, got {memory.device}; {_MAKE_ONE}")
    if torch.float64 in (memory.dtype, frames.dtype) and memory.dtype != frames.dtype:
        raise ValueError(f"memory: expected {frames.dtype} like the frames, got {memory.dtype}; {_MAKE_ONE}")
    if isinstance(streams, int) or (isinstance(streams, Tensor) and streams.ndim != 1):
        raise ValueError(f"streams: expected ids in a sequence or a tensor [B], got {streams}; write [{streams}]")
    rows = memory.streams if streams is None else len(streams)
    if rows != len(frames):
        raise ValueError(
            f"frames: expected one for each of {rows} streams, got {len(frames)}; name the streams that have one"
        )


def _same_real(real: Tensor | None, windows: Windows) -> bool:
    if real is None or windows.whole:
        return real is None and windows.whole
    return torch.compiler.is_compiling() or real.tolist() == [list(pair) for pair in windows.real]
