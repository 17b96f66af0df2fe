"""What is measured of the whole model: who computes it, from the same weights, pictures and memories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from eager_svit import EagerSVit, train_by_frames
from einops import rearrange
from torch import Tensor, nn

import svm_ext
from svm_ext import StreamMemory

Result = dict[str, Tensor]
OURS, EAGER = "ours", "eager"
OURS_SINGLE, EAGER_SINGLE = "ours, 1 frame", "eager, 1 frame"
ONE_CALL, MANY_CALLS = "one call", "a call a stream"
LOOP = "frame by frame"


def _nothing() -> None:
    """Prepare nothing."""


@dataclass(frozen=True)
class Made:
    """A contender with its memory, which is full."""

    run: Callable[[], Result]
    held_bytes: int = 0  # of its memory, between two runs
    prepare: Callable[[], object] = _nothing  # before every run, untimed


@dataclass(frozen=True)
class Goal:
    """How often the time of one contender is to fit into that of another, or how often at most."""

    what: str
    comparison: str
    limit: float
    long: str
    short: str


@dataclass(frozen=True)
class Row:
    """One thing to compute, and who computes it."""

    name: str
    sizes: dict[str, int]
    make: dict[str, Callable[[], Made]]
    needs: dict[str, int]  # contender -> bytes of its memory, and of what a run takes, about
    sittings: tuple[tuple[str, ...], ...]  # who is in memory together, and timed in turns
    same: tuple[tuple[str, str], ...]  # whose results have to agree
    goals: tuple[Goal, ...]


class Scene:
    """A backbone, pictures for all of its streams, and frames that the memories hold already."""

    def __init__(self, preset: str, size: tuple[int, int], streams: int = 1, **overrides: Any) -> None:
        torch.manual_seed(0)
        self.size, self.streams = size, streams
        self.model = svm_ext.create_model(preset, **overrides).eval()
        self.config = self.model.config
        _awaken(self.model)
        self.pictures = torch.randn(streams, 3, *size)
        n = self.config.window_size
        h, w = (pixels // self.config.patch_size for pixels in size)
        grid = F.pad(torch.ones(h, w, dtype=torch.bool), (0, -w % n, 0, -h % n))
        inside = rearrange(grid, "(i r) (j c) -> (i j) (r c)", r=n, c=n)  # [W, N]
        self.outside = ~inside.repeat(streams, 1)  # [B*W, N]
        self.noise = torch.randn(*self.outside.shape, 2, self.config.width)  # [B*W, N, 2, C]

    def past(self, layer: int, t: int) -> tuple[Tensor, Tensor]:
        """Return the keys and values that a layer holds of frame t, [B*W, H, N, D]; biases beyond the picture."""
        config = self.config
        frame = self.noise.roll(37 * layer + t, dims=1)  # another one for every layer and frame
        biases = self.model.transformer.resblocks[layer].attn.in_proj_bias.detach()[config.width :]
        frame[self.outside] = biases.view(2, config.width)
        k, v = frame.unflatten(-1, (config.heads, -1)).permute(2, 0, 3, 1, 4)
        return k, v

    def memory(self, frames: int) -> StreamMemory:
        """Return a full memory."""
        memory = self.model.new_memory(self.streams, self.size, frames=frames, evict="merge")
        self.fill(memory)
        return memory

    def fill(self, memory: StreamMemory) -> None:
        """Fill a memory, whatever it held."""
        memory.reset()
        for t in range(memory.frames):
            for layer in range(memory.layers):
                memory.append(layer, *self.past(layer, t))
            memory.advance()

    def eager(self, frames: int) -> EagerSVit:
        """Return the eager model with full lists."""
        model = EagerSVit(self.config.replace(memory_frames=frames)).eval()
        model.load_state_dict(self.model.state_dict(), strict=True)
        for layer, attention in enumerate(model.attentions):
            for t in range(frames):
                attention.memory.append(*self.past(layer, t))
        return model

    def bytes_of(self, frames: int) -> int:
        """Return the bytes of the keys and values of so many frames."""
        return frames * self.config.layers * self.noise.nbytes


def _awaken(model: nn.Module) -> None:
    """Give numbers to what starts as zero, or nearly so: a wrong bias or temporal branch is to show."""
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "bias_t", "norm3.weight", "alpha")):
            nn.init.normal_(parameter, std=1.0 if name.endswith("alpha") else 0.1)


def _looking(look: Callable[[], list[Tensor]], held_bytes: int) -> Made:
    """Return a contender that looks at pictures and gives maps."""

    @torch.no_grad()
    def run() -> Result:
        return {f"level {i}": level for i, level in enumerate(look())}

    return Made(run, held_bytes)


def frame_row(preset: str, size: tuple[int, int], frames: int, **overrides: Any) -> Row:
    """One frame of one stream, with a full memory and with a memory of this frame alone."""
    scene = Scene(preset, size, **overrides)

    def ours(frames: int) -> Made:
        memory = scene.memory(frames)
        return _looking(lambda: scene.model(scene.pictures, memory), memory.nbytes)

    def eager(frames: int) -> Made:
        model = scene.eager(frames)
        return _looking(lambda: model(scene.pictures), scene.bytes_of(frames))

    extra = 8 * scene.noise.nbytes  # projections and hidden layers
    layer = scene.bytes_of(frames) // scene.config.layers
    return Row(
        name=f"{preset} frame",
        sizes={"height": size[0], "width": size[1], "frames": frames},
        make={
            OURS: partial(ours, frames),
            OURS_SINGLE: partial(ours, 1),
            EAGER_SINGLE: partial(eager, 1),
            EAGER: partial(eager, frames),
        },
        needs={
            OURS: scene.bytes_of(frames) + extra,
            OURS_SINGLE: extra,
            EAGER_SINGLE: 2 * extra,
            # The stacked memory of one layer, its copy for a plane, the logits.
            EAGER: scene.bytes_of(frames) + extra + 3 * layer,
        },
        sittings=((OURS, OURS_SINGLE, EAGER_SINGLE), (EAGER,)),  # two full memories would need twice the room
        same=((OURS, EAGER), (OURS_SINGLE, EAGER_SINGLE)),
        goals=(
            Goal("frame over eager", ">=", 3.0, EAGER, OURS),
            Goal("full memory over 1 frame", "<=", 1.25, OURS, OURS_SINGLE),
        ),
    )


def streams_row(preset: str, size: tuple[int, int], frames: int, streams: int, **overrides: Any) -> Row:
    """One frame of several streams: all in one call, or one call a stream."""
    scene = Scene(preset, size, streams, **overrides)
    memory = scene.model.new_memory(streams, size, frames=frames, evict="merge")  # one for both

    def made(look: Callable[[], list[Tensor]]) -> Made:
        scene.fill(memory)
        return _looking(look, memory.nbytes)

    def together() -> list[Tensor]:
        return scene.model(scene.pictures, memory)

    def apart() -> list[Tensor]:
        maps = [scene.model(picture[None], memory, [i]) for i, picture in enumerate(scene.pictures)]
        return [torch.cat(level) for level in zip(*maps, strict=True)]

    extra = 8 * scene.noise.nbytes
    return Row(
        name=f"{preset} {streams} streams",
        sizes={"height": size[0], "width": size[1], "frames": frames, "streams": streams},
        make={ONE_CALL: partial(made, together), MANY_CALLS: partial(made, apart)},
        needs={ONE_CALL: scene.bytes_of(frames) + extra, MANY_CALLS: extra},
        sittings=((ONE_CALL, MANY_CALLS),),
        same=((ONE_CALL, MANY_CALLS),),
        goals=(Goal(f"{streams} streams in one call", ">=", 1.3, MANY_CALLS, ONE_CALL),),
    )


def clip_row(preset: str, pixels: int, frames: int, **overrides: Any) -> Row:
    """The gradients of a clip: all frames at once, or frame by frame with a memory that is cleared before."""
    scene = Scene(preset, (pixels, pixels), memory_frames=frames, **overrides)
    model = scene.model.train()
    clip = torch.randn(1, frames, 3, pixels, pixels)
    with torch.no_grad():
        probes = [torch.randn_like(level[:, 0]) for level in model(clip[:, :1])]
    memory = model.new_memory(1, (pixels, pixels), evict="clear")
    eager = EagerSVit(scene.config).train()
    eager.load_state_dict(model.state_dict(), strict=True)

    def at_once() -> Tensor:
        maps = model(clip)  # each [B, T, C', h, w]
        loss = sum((x * probe[:, None]).mean() for x, probe in zip(maps, probes, strict=True)) * frames
        loss.backward()
        return loss.detach()

    def by_frames() -> Tensor:
        memory.reset()
        return train_by_frames(lambda frame: model(frame, memory), clip, probes)

    def eagerly() -> Tensor:
        eager.clear_history()
        return train_by_frames(eager, clip, probes)

    def made(model: nn.Module, step: Callable[[], Tensor], held_bytes: int = 0) -> Made:
        def run() -> Result:
            return {"loss": step()} | {name: parameter.grad for name, parameter in model.named_parameters()}

        return Made(run, held_bytes, model.zero_grad)

    kept = 40 * scene.noise.nbytes * scene.config.layers * frames  # by autograd
    return Row(
        name=f"{preset} clip step",
        sizes={"height": pixels, "width": pixels, "frames": frames},
        make={
            OURS: partial(made, model, at_once),
            LOOP: partial(made, model, by_frames, memory.nbytes),
            EAGER: partial(made, eager, eagerly, scene.bytes_of(frames)),
        },
        needs={OURS: kept, LOOP: kept // frames, EAGER: kept},
        sittings=((OURS, LOOP, EAGER),),
        same=((OURS, EAGER), (LOOP, EAGER)),
        goals=(
            Goal("clip step over frame by frame", ">=", 1.5, LOOP, OURS),
            Goal("clip step over eager", ">=", 3.0, EAGER, OURS),
        ),
    )


CONTENDERS = {
    "frame": (OURS, OURS_SINGLE, EAGER_SINGLE, EAGER),
    "streams": (ONE_CALL, MANY_CALLS),
    "clip": (OURS, LOOP, EAGER),
}
ROWS: dict[str, Callable[[], Row]] = {
    "frame": partial(frame_row, "svit_base", (800, 1440), 32),
    "streams": partial(streams_row, "svit_small", (448, 800), 32, 8),
    "clip": partial(clip_row, "svit_small", 224, 16),
}
QUICK: dict[str, Callable[[], Row]] = {
    "frame": partial(frame_row, "svit_tiny", (160, 256), 8),
    "streams": partial(streams_row, "svit_tiny", (128, 160), 4, 4),
    "clip": partial(clip_row, "svit_tiny", 128, 4),
}
