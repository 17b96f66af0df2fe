"""S-ViT, a vision transformer that sees a video frame by frame and remembers.

Three things set it apart from a plain ViT. Attention looks at windows of 14 x 14 tokens (windows.py). Each block
keeps the keys and values of past frames in a memory, and every frame attends to them (attention.py). And a few
convolutions carry information across windows (blocks.py). The pictures may have any size that is a multiple of the
patch; a frame costs the same however long the video is.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..memory import StreamMemory, Streams
from . import past
from ._check import clip_fits, frames_fit, memory_fits
from .adapter import Adapter
from .attention import ClipAttention, FrameAttention, StreamAttention, without_autocast
from .blocks import Block
from .config import BackboneConfig
from .windows import Windows, grid_of, real_sizes


class Features(NamedTuple):
    """What the backbone makes of a frame, or with a T axis after the batch, of a clip."""

    maps: list[Tensor]  # [B, C, h, w] for each output, scaled by the adapter if there is one
    class_token: Tensor | None  # [B, C]


class Transformer(nn.Module):
    """The blocks; the name and place of their weights is CLIP's."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList([_block(config, layer) for layer in range(config.layers)])


class SVit(nn.Module):
    """The backbone: pictures in, feature maps out.

    `model(frames, memory, streams)` takes one new frame [B, 3, H, W] of each of some streams and their memory
    (`new_memory`), and returns a list of maps [B, C, h, w]. `streams` names the stream of each row; without
    it the rows are all streams in order. `model(clip)` takes [B, T, 3, H, W] and returns [B, T, C, h, w]: the
    same numbers as frame by frame, all at once. Pixels are RGB, normalised by the caller. The module holds
    parameters and nothing else: all that it remembers is in the memory.
    """

    def __init__(self, config: BackboneConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or BackboneConfig()
        width, patch = config.width, config.patch_size
        self.side = config.input_resolution // patch  # of the position table
        self.lead = int(config.class_token)
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.positional_embedding = nn.Parameter(0.02 * torch.randn(self.lead + self.side**2, width))
        if config.class_token:
            self.class_embedding = nn.Parameter(width**-0.5 * torch.randn(width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(config)
        self.norms = {config.stages[stage]: _norm_name(config, stage) for stage in config.outputs}  # block -> its norm
        for name in self.norms.values():
            self.add_module(name, nn.LayerNorm(width))
        self.fpn_adaptor = Adapter(width) if config.adapter else None

    def forward(self, frames: Tensor, memory: StreamMemory | None = None, streams: Streams = None) -> list[Tensor]:
        """Return the feature maps of a frame of each stream, or of clips."""
        return self.features(frames, memory, streams).maps

    def features(self, frames: Tensor, memory: StreamMemory | None = None, streams: Streams = None) -> Features:
        """Return the feature maps and, where the model has one, the class token."""
        windows = self.windows(frames)
        if frames.ndim == 5:
            clip_fits(memory)
            found = self.encode(frames.flatten(0, 1), windows, self._clip_past(frames.shape[1], windows))
            maps, token = [x.unflatten(0, frames.shape[:2]) for x in found.maps], found.class_token
            return Features(maps, None if token is None else token.unflatten(0, frames.shape[:2]))
        attend = self._memory_past(frames, windows, memory, streams)
        found = self.encode(frames, windows, attend)
        if memory is not None:
            memory.advance(streams)
        return found

    def encode(self, frames: Tensor, windows: Windows, attend: past.Attend | None) -> Features:
        """Run frames [B, 3, H, W] through the blocks; `attend` knows what came before them."""
        x = self.embed(frames, windows)  # [B, L, C]
        maps = []
        for layer, block in enumerate(self.transformer.resblocks):
            x = self._run(block, x, windows, partial(attend, layer) if attend else None)
            if layer in self.norms:
                normed = self.get_submodule(self.norms[layer])(x)
                maps.append(windows.to_grid(normed).permute(0, 3, 1, 2))  # [B, C, h, w]
        token = normed[:, 0] if self.lead else None
        return Features(self.fpn_adaptor(maps) if self.fpn_adaptor else maps, token)

    def embed(self, frames: Tensor, windows: Windows) -> Tensor:
        """Return the tokens of pictures in window order, [B, L, C]."""
        x = self.conv1(frames).permute(0, 2, 3, 1)  # [B, h, w, C]
        x = windows.from_grid(x + self.positions(windows.h, windows.w))
        if self.lead:
            token = self.class_embedding + self.positional_embedding[0]
            x = torch.cat([token.expand(len(x), 1, -1), x], 1)
        return self.ln_pre(x)

    def positions(self, h: int, w: int) -> Tensor:
        """Return the position table for a grid, [h, w, C]."""
        table = self.positional_embedding[self.lead :].unflatten(0, (self.side, self.side))
        return table if (h, w) == (self.side, self.side) else resized(table, h, w)

    def windows(self, frames: Tensor) -> Windows:
        """Return the windows of these pictures; pictures that the model cannot take are refused."""
        frames_fit(frames, self.conv1.weight, self.config)
        grid = grid_of(frames.shape[-2:], self.config.patch_size, "frames")
        return Windows(*grid, self.config.window_size, frames.device, self.lead)

    def new_memory(
        self,
        streams: int,
        image_size: tuple[int, int],
        *,
        frames: int | None = None,
        evict: str | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> StreamMemory:
        """Return an empty memory for so many streams of pictures of `image_size`, (height, width) in pixels.

        Unless told otherwise it has the model's type and device, and averages the oldest frames when it is
        full, as the paper evaluates; in training it starts again, as the paper trains.
        """
        config, weight = self.config, self.conv1.weight
        memory = StreamMemory(
            **_memory_sizes(config, image_size),
            streams=streams,
            frames=config.memory_frames if frames is None else frames,
            evict=("clear" if self.training else "merge") if evict is None else evict,
            dtype=weight.dtype if dtype is None else dtype,
            device=weight.device if device is None else device,
        )
        memory.image_size = tuple(image_size)
        return memory

    def _memory_past(
        self, frames: Tensor, windows: Windows, memory: StreamMemory | None, streams: Streams
    ) -> past.Attend | None:
        if self.config.temporal == "none":
            return None
        memory_fits(memory, frames, streams, windows, self.config)
        if self._checkpoints() and torch.compiler.is_compiling():
            # The graph's recomputation comes after `advance`, and would append the frame a second time.
            raise ValueError(
                "checkpoint: expected false in a compiled frame step, got true; train on clips to have both"
            )
        return past.in_memory(memory, streams)

    def _clip_past(self, frames: int, windows: Windows) -> past.Attend | None:
        if self.config.temporal == "none":
            return None
        if self.config.temporal == "clip":
            return past.in_whole_clip(frames, windows)
        return past.in_clip(frames, windows, self.config.memory_frames, "clear" if self.training else "fifo")

    def _checkpoints(self) -> bool:
        return self.config.checkpoint and self.training and torch.is_grad_enabled()

    def _run(self, block: Block, *args: Any) -> Tensor:
        if self._checkpoints():
            return checkpoint(block, *args, use_reentrant=False)
        return block(*args)


def resized(table: Tensor, h: int, w: int) -> Tensor:
    """Resize a table [side, side, C] to [h, w, C], bicubically.

    That is linear, and one axis after the other: two small matrix products. What is kept from frame to frame are their
    weights, one for each size; the table itself may be another after a training step.
    """
    down, across = (_bicubic(table.shape[0], size, table) for size in (h, w))
    with without_autocast(table):
        rows = (down @ table.flatten(1)).unflatten(1, table.shape[1:])  # [h, side, C]
        return across @ rows  # [h, w, C]


def _bicubic(side: int, size: int, like: Tensor) -> Tensor:
    """Return the weights of `side` old places in `size` new ones, [size, side]."""
    if torch.compiler.is_compiling():
        return _bicubic_anew(side, size, like)
    key = side, size, like.dtype, like.device
    if key not in _BICUBIC:
        with torch.inference_mode(False), torch.no_grad():
            weights = _bicubic_anew(side, size, like)
        if type(weights) is not Tensor:  # one without contents, of a program that is only traced
            return weights
        if len(_BICUBIC) >= 64:
            _BICUBIC.clear()
        _BICUBIC[key] = weights
    return _BICUBIC[key]


_BICUBIC: dict[tuple[int, int, torch.dtype, torch.device], Tensor] = {}


def _bicubic_anew(side: int, size: int, like: Tensor) -> Tensor:
    one_hot = torch.eye(side, dtype=like.dtype, device=like.device)[None, :, :, None]
    return F.interpolate(one_hot, (size, 1), mode="bicubic")[0, :, :, 0].T


def _memory_sizes(config: BackboneConfig, image_size: tuple[int, int]) -> dict[str, Any]:
    """Return the sizes of a memory for such pictures; without a temporal branch it only counts frames."""
    real = real_sizes(*grid_of(image_size, config.patch_size, "image_size"), config.window_size)
    if config.temporal == "clip":
        raise ValueError(
            "temporal: expected 'stream' for a memory, got 'clip', which sees whole clips; change temporal"
        )
    if config.temporal == "none":
        return dict(layers=1, windows=1, heads=1, head_dim=2, window=1)
    sizes = dict(layers=config.layers, heads=config.heads, head_dim=config.width // config.heads)
    return sizes | dict(window=config.window_size, windows=len(real), real=real)


def _norm_name(config: BackboneConfig, stage: int) -> str:
    return "ln_post" if stage == len(config.stages) - 1 else f"ln_post_out{stage}"


def _block(config: BackboneConfig, layer: int) -> Block:
    width, heads = config.width, config.heads
    attention = {
        "none": partial(FrameAttention, width, heads),
        "stream": partial(StreamAttention, width, heads, config.cross_query, config.alpha_init),
        "clip": partial(ClipAttention, width, heads, config.alpha_init),
    }[config.temporal]
    drop_path = config.drop_path * layer / max(config.layers - 1, 1)
    return Block(attention(), width, width * config.mlp_ratio, drop_path, layer in config.conv_blocks)
