"""StreamMemory: keys and values of past frames, for all layers of a model and all streams it watches."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import _snapshot, ops
from .ops import _check, _padding, _pool

if TYPE_CHECKING:
    from typing_extensions import Self

Streams = Sequence[int] | Tensor | None
Pad = tuple[Tensor, Tensor]


def _recomputing() -> bool:
    """Tell whether a backward pass is running that repeats an earlier forward (activation checkpointing).

    K and V in memory are detached, so nothing else makes a backward pass append. That frame is in memory
    already, and the memory may have moved on since: the recompute must read it and leave it alone. While
    nothing has moved on, an append would change nothing anyway, because it is idempotent within a frame;
    both together make checkpointing right whether the backward comes before or after `advance`. A compiled
    graph has no such moment, its recompute is part of the graph.
    """
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


class StreamMemory:
    """A ring of frames for every layer, stream, window and head, to append to and to attend to.

    A frame step is: for every layer `append` and `attend` (or `stream_step`, which is both), and `advance`
    once, after the last layer. A second append before `advance` replaces the first. `evict` says what makes
    room in a full memory: `merge` averages the oldest frame into the next-oldest, `fifo` drops the oldest,
    `clear` starts again. `real` [windows, 2] holds the real rows and columns of windows that reach beyond
    the picture; `pad`, where attend and step take it, is the (key, value) that every token beyond has, each
    [heads, head_dim].

    `streams` names the rows of a batch: a sequence of ids is checked here, an int64 tensor by the ops
    (where they run on the CPU); None means all streams in order. In compiled code and on a GPU pass a
    tensor.

    `dtype` is what the memory is made of, whatever q, k and v are: float32, bfloat16, float16 (GPU) or
    float64 (CPU). float8_e4m3fn (CUDA, or `use_backend("reference")`) halves bfloat16 once more: every
    frame of a head has a power of two of its own for K and one for V. Frames are rounded when they are
    appended and when they merge, to 4 significant bits.
    """

    def __init__(
        self,
        layers: int,
        streams: int,
        windows: int,
        heads: int,
        head_dim: int,
        window: int = 14,
        frames: int = 32,
        evict: str = "merge",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
        *,
        real: Tensor | Sequence[tuple[int, int]] | None = None,
    ) -> None:
        counts = dict(
            layers=layers,
            streams=streams,
            windows=windows,
            heads=heads,
            head_dim=head_dim,
            window=window,
            frames=frames,
        )
        for name, count in counts.items():
            if not isinstance(count, int) or count < 1:
                raise ValueError(f"{name}: expected a whole number of at least 1, got {count!r}; give one")
        if dtype not in _check.POOLS:
            raise ValueError(f"dtype: expected a floating point type, got {_check.name_of(dtype)}; use torch.float32")
        _check.evict_code(evict)
        self.layers, self.streams, self.windows, self.heads = layers, streams, windows, heads
        self.head_dim, self.window, self.frames = head_dim, window, frames
        self.evict, self.dtype = evict, dtype
        self.image_size: tuple[int, int] | None = None  # pictures it was made for, in pixels; set by models
        self.device = torch.empty(0, device=device).device  # with its index, or torch's default device
        self.real = _real_tensor(real, windows, window, self.device)
        # One allocation a layer, not one for all: torch.compile takes views of one storage that are written
        # to for aliases of each other and copies them; and one layer with 32 frames of a large picture is
        # half a gigabyte as it is.
        size = _pool.PoolSize(streams, windows, heads, window, frames, head_dim)
        with torch.inference_mode(False):  # a pool made in inference mode could never serve a training step
            self._layers = [
                (*_pool.empty_pool(size, dtype, self.device), _pool.empty_cursor(size, self.device, dtype))
                for _ in range(layers)
            ]  # (k_pool, v_pool, cursor) of each layer
            self._step = torch.zeros(streams, dtype=torch.int64, device=self.device)

    def append(self, layer: int, k: Tensor, v: Tensor, streams: Streams = None) -> None:
        """Store this frame's k and v [B*windows, heads, window*window, head_dim], detached; any strides."""
        memory, ids = self._layer(layer), self._ids(streams)
        if not _recomputing():
            ops.memory_append_(*memory, k, v, self._step, ids, self.real, self.evict)

    def attend(
        self, layer: int, q: Tensor, streams: Streams = None, scale: float | None = None, *, pad: Pad | None = None
    ) -> Tensor:
        """Attend all frames in memory with q [B*windows, heads, window*window, head_dim].

        The result has q's shape. `scale` is head_dim ** -0.5 unless given. Gradients flow to q; call
        backward before the next append to this layer.
        """
        memory, ids = self._layer(layer), self._ids(streams)
        return ops.memory_attend(q, *memory, ids, self.real, *_pair(pad), scale)

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
        """Append and attend in one launch, or one after the other where q needs a gradient."""
        memory, ids = self._layer(layer), self._ids(streams)
        if _recomputing():
            return ops.memory_attend(q, *memory, ids, self.real, *_pair(pad), scale)
        return ops.stream_step_(*memory, q, k, v, self._step, ids, self.real, *_pair(pad), scale, self.evict)

    def advance(self, streams: Streams = None) -> None:
        """End the frame of these streams, in all layers; call it once, after the last layer.

        Where a compiled function checkpoints activations, call it outside of that function: the recompute
        within the compiled backward would take the next step for this one.
        """
        ids = self._checked_ids(streams)
        if _recomputing():
            return
        if ids is None:
            self._step.add_(1)
        else:
            self._step[ids] = self._step[ids] + 1

    def reset(self, streams: Streams = None) -> None:
        """Forget everything that these streams have seen; the other streams are not touched."""
        ids = self._checked_ids(streams)
        if _recomputing():
            return
        rows = slice(None) if ids is None else ids
        for _, _, cursor in self._layers:
            cursor[rows, :, :, 0] = 0  # frames appended
            cursor[rows, :, :, 1] = -1  # step of the last append
        self._step[rows] = 0

    @property
    def step(self) -> Tensor:
        """Frames that each stream has seen, int64 [streams], on the memory's device."""
        return self._step

    @property
    def nbytes(self) -> int:
        """Bytes that the memory occupies, full or not."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors())

    def tensors(self) -> list[Tensor]:
        """Return all that a frame step changes, not copied: `step`, then k_pool, v_pool and cursor of each
        layer."""
        return [self._step, *(tensor for layer in self._layers for tensor in layer)]

    def over(self, tensors: Sequence[Tensor]) -> Self:
        """Return a memory like this one that lives in other tensors, in the order of `tensors()`."""
        other, each = copy(self), len(self._layers[0])
        other._step, *rest = tensors
        other._layers = [tuple(rest[start : start + each]) for start in range(0, len(rest), each)]
        return other

    def __repr__(self) -> str:
        return (
            f"StreamMemory({self.layers} layers, {self.streams} streams, {self.frames} frames,"
            f" {_bytes_text(self.nbytes)}, {_SHORT_NAMES[self.dtype]}, {self.device})"
        )

    def frames_of(self, layer: int, stream: int, *, pad: Pad | None = None) -> tuple[Tensor, Tensor]:
        """Copy the keys and values that a layer holds of a stream, oldest first.

        Each is [frames held, windows, heads, window*window, head_dim], of an fp8 memory in bf16. Tokens
        beyond `real` are not in memory: they read as `pad`, or as NaN without it.
        """
        k_pool, v_pool, cursor = self._layer(layer)
        ids = self._ids([stream])
        count = int(cursor[stream, 0, 0, 0])  # all units of a stream are appended to together
        held = min(count, self.frames)
        order = torch.arange(count - held, count, device=self.device) % self.frames  # slots, the oldest first
        real = _padding.real_or_all(self.real, self.windows, self.window, self.device)
        inside = _padding.inside(real, self.window)  # [W, n, n]
        found = []
        exponents = _pool.exponents_of(k_pool, cursor)
        for pool, each, outside in zip((k_pool, v_pool), exponents, _pair(pad), strict=True):
            frames = _pool.read_slots(pool, ids, self.frames, each)[0, order]  # [T, W, H, n, n, D]
            other = torch.full((), float("nan")) if outside is None else outside[:, None, None]  # [H, 1, 1, D]
            frames = torch.where(inside[:, None, :, :, None], frames, other.to(self.device, frames.dtype))
            found.append(frames.flatten(3, 4))  # [T, W, H, N, D]
        return found[0], found[1]

    def snapshot(self, streams: Streams = None) -> dict[str, Any]:
        """Copy these streams into plain tensors that fit any device and layout; `restore` is exact.

        `step` [B], `cursor` [layers, B, windows, heads, 2], `real` [windows, 2], and for each layer
        `k.<layer>` and `v.<layer>` [B, slots, windows, heads, window, window, head_dim]: the ring's slots
        as far as they are in use, zeros where nothing is stored; bf16 of an fp8 memory, which loses
        nothing. `metadata` holds the sizes.
        """
        return _snapshot.take(self._layers, self._step, self.real, self._rows(streams), self._sizes())

    def restore(self, state: dict[str, Any], streams: Streams = None) -> None:
        """Put the streams of a snapshot into these streams; the others are not touched.

        Everything is checked before anything is written. A snapshot in another type is converted.
        """
        rows = self._rows(streams)
        _snapshot.check(state, self._sizes(), self.real, len(rows))
        _snapshot.put(state, self._layers, self._step, rows)

    def save(self, path: str | Path, streams: Streams = None) -> None:
        """Write a snapshot to a safetensors file; the file is there whole or not at all."""
        _snapshot.write(self.snapshot(streams), Path(path))

    def load(self, path: str | Path, streams: Streams = None) -> None:
        """Restore from a file that `save` wrote; a file that is cut or does not fit changes nothing."""
        self.restore(_snapshot.read(Path(path)), streams)

    def _sizes(self) -> dict[str, int]:
        names = ("layers", "windows", "heads", "head_dim", "window", "frames")
        return {name: getattr(self, name) for name in names}

    def _layer(self, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        if not 0 <= layer < self.layers:
            raise IndexError(f"layer: expected 0 to {self.layers - 1}, got {layer}; count layers from 0")
        return self._layers[layer]

    def _ids(self, streams: Streams) -> Tensor | None:
        """Return stream ids as a tensor; the values of a tensor are left to the ops."""
        if streams is None or isinstance(streams, Tensor):
            return streams
        if isinstance(streams, int):
            raise ValueError(
                f"streams: expected a sequence of ids or an int64 tensor, got {streams}; write [{streams}]"
            )
        ids = [_whole(stream) for stream in streams]
        _check.stream_ids(ids, self.streams, distinct=True)
        return torch.tensor(ids, dtype=torch.int64, device=self.device)

    def _checked_ids(self, streams: Streams) -> Tensor | None:
        """Return stream ids as a tensor, checked where no op does it: its values only on the CPU."""
        ids = self._ids(streams)
        if isinstance(streams, Tensor):
            _check.batch_of(streams, self._step)
            if self.device.type == "cpu" and not torch.compiler.is_compiling():
                _check.stream_ids(streams.tolist(), self.streams, distinct=True)
        return ids

    def _rows(self, streams: Streams) -> Tensor:
        """Return stream ids as a tensor, all of them for None."""
        ids = self._checked_ids(streams)
        return torch.arange(self.streams, device=self.device) if ids is None else ids


_SHORT_NAMES = dict(zip(_check.POOLS, ("fp32", "bf16", "fp16", "fp64", "fp8"), strict=True))


def _bytes_text(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _whole(stream: Any) -> int:
    try:
        return index(stream)
    except TypeError:
        raise ValueError(f"streams: expected whole numbers, got {stream!r}; name streams by their ids") from None


def _pair(pad: Pad | None) -> tuple[Tensor | None, Tensor | None]:
    if pad is None:
        return None, None
    if isinstance(pad, Tensor) or len(pad) != 2:
        raise ValueError(f"pad: expected a pair (key, value), got {type(pad).__name__}; pass both biases")
    return pad


def _real_tensor(
    real: Tensor | Sequence[tuple[int, int]] | None, windows: int, window: int, device: torch.device
) -> Tensor | None:
    """Return the real rows and columns of each window, int32 [windows, 2]; None where everything is
    real."""
    if real is None:
        return None
    tensor = real if isinstance(real, Tensor) else torch.tensor(real, device="cpu")
    if tensor.is_floating_point():
        raise ValueError(f"real: expected whole numbers, got {_check.name_of(tensor.dtype)}; count rows and columns")
    tensor = tensor.to(torch.int32)
    _check.shape("real", tensor, (windows, 2), "W pair", "it holds the real rows and columns of every window")
    _check.real_values(tensor, window)
    return None if bool((tensor == window).all()) else tensor.contiguous().clone().to(device)
