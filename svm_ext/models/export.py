"""A frame step as a program of its own: `step(frames, state) -> (maps, state)`, with all state as tensors.

    model = svm_ext.create_model("svit_base", weights="base.safetensors").eval()
    memory = model.new_memory(streams=1, image_size=(800, 1440))
    step, state = export_step(model, memory).module(), memory.tensors()  # torch.export.save keeps the program
    for frame in video:  # [1, 3, 800, 1440]
        maps, state = step(frame, state)

    state = export_onnx(model, memory, "svit.onnx")  # plain torch ops; returns the state to start with, by name
    maps, state = ...  # run with {"frames": frame, **state}: outputs are map.0 .., and next.<name> for each state

A step takes one frame of every stream. Of a detector the maps are those of its head, before boxes are decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from ..memory import Pad, StreamMemory, Streams
from ..ops import reference


class _PlainMemory(StreamMemory):
    """A memory in plain torch, for formats that know no other ops: a frame step makes new tensors.

    A layer is k and v [S, W, H, T, n, n, D], zeros where nothing is stored. All streams go together, so `step`
    says all that a cursor would.
    """

    def __init__(self, memory: StreamMemory) -> None:
        self.__dict__.update(memory.__dict__)
        shape = (self.streams, self.windows, self.heads, self.frames, self.window, self.window, self.head_dim)
        self._layers = [tuple(torch.zeros(2, *shape, dtype=self.dtype, device=self.device)) for _ in range(self.layers)]
        self._step = torch.zeros_like(memory.step)

    def stream_step(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        streams: Streams = None,
        scale: float | None = None,
        *,
        pad: Pad | None = None,
    ) -> Tensor:
        """Append and attend, as the ops do."""
        place = torch.arange(self.frames, device=self.device)
        slot = (self._step % self.frames)[:, None, None, None]  # [S, 1, 1, 1]
        full = self._step[:, None, None, None] >= self.frames
        merges = full & (place == (slot + 1) % self.frames) & (self.evict == "merge" and self.frames > 1)
        held = place <= slot if self.evict == "clear" else (place <= slot) | full  # [S, 1, 1, T]
        pools = []
        for pool, tokens in zip(self._layers[layer], (k, v), strict=True):
            frame = tokens.unflatten(0, (-1, self.windows)).unflatten(3, (self.window, self.window)).unsqueeze(3)
            oldest = torch.where(_over(place == slot), pool, 0).sum(3, keepdim=True)  # [S, W, H, 1, n, n, D]
            pool = torch.where(_over(merges), (pool + oldest) / 2, pool)
            pools.append(torch.where(_over(place == slot), frame.to(pool.dtype), pool))
        self._layers[layer] = tuple(pools)
        by_window = (pool.transpose(0, 1).to(q.dtype) for pool in pools)  # [W, S, H, T, n, n, D]
        held = held.transpose(0, 1).expand(self.windows, -1, self.heads, -1)  # [W, S, H, T]
        seen = reference.Frames(*by_window, held, self.real, pad or (None, None))
        return seen.attend(q, self.head_dim**-0.5 if scale is None else scale)[0]

    def advance(self, streams: Streams = None) -> None:
        """End the frame."""
        self._step = self._step + 1


def _over(places: Tensor) -> Tensor:
    """Make [S, 1, 1, T] fit tokens [S, W, H, T, n, n, D]."""
    return places[..., None, None, None]


class Step(nn.Module):
    """A frame step of a model as a function of its state, which it leaves alone."""

    def __init__(self, model: nn.Module, memory: StreamMemory) -> None:
        super().__init__()
        self.model, self.memory = model, memory

    def forward(self, frames: Tensor, state: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the maps of frames [B, 3, H, W] and the state after them."""
        memory = self.memory.over([tensor.clone() for tensor in state])
        maps = getattr(self.model, "raw", self.model)(frames, memory)
        return maps, memory.tensors()


def export_step(model: nn.Module, memory: StreamMemory) -> torch.export.ExportedProgram:
    """Export a frame step of the streams and pictures that this memory is for."""
    step = Step(_ready(model), memory)
    with torch.no_grad():
        return torch.export.export(step, (_frames(model, memory), memory.tensors()))


def export_onnx(model: nn.Module, memory: StreamMemory, path: str | Path) -> dict[str, Tensor]:
    """Write a frame step to an ONNX file and return the state to start with, by the names of the inputs."""
    if find_spec("onnxscript") is None:
        raise ImportError(
            "onnxscript: expected the package for ONNX files, got none; type `pip install onnx onnxscript`"
        )
    plain = _PlainMemory(memory)
    names = ["step", *(f"{pool}.{layer}" for layer in range(memory.layers) for pool in "kv")]
    step, state = Step(_ready(model), plain), plain.tensors()
    with torch.no_grad():
        program = torch.export.export(step, (_frames(model, memory), state))
        maps = len(program.graph_signature.user_outputs) - len(state)
        outputs = [*(f"map.{i}" for i in range(maps)), *(f"next.{name}" for name in names)]
        exported = torch.onnx.export(program, input_names=["frames", *names], output_names=outputs, verbose=False)
    _save(exported, Path(path))
    return dict(zip(names, state, strict=True))


def _save(program: torch.onnx.ONNXProgram, path: Path) -> None:
    """Write the file, and beside it the weights where they are too large for it; each is there whole or not at
    all."""
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        program.save(Path(folder) / path.name)
        for file in sorted(Path(folder).iterdir(), reverse=True):  # the weights first: <name>.data
            file.replace(path.parent / file.name)


def _frames(model: nn.Module, memory: StreamMemory) -> Tensor:
    if memory.image_size is None:
        raise ValueError("memory: expected one of model.new_memory, got one that knows no picture size; make it there")
    weight = next(model.parameters())
    return torch.zeros(memory.streams, 3, *memory.image_size, dtype=weight.dtype, device=weight.device)


def _ready(model: nn.Module) -> nn.Module:
    if model.training:
        raise ValueError("model: expected one in evaluation mode, got one in training; call model.eval()")
    return model
