"""Argument checks of the fakes and of the back ends written in Python.

The C++ library checks for itself, in the same words. Each message is one line: the argument's name, what
was expected, what came, what to do.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import _fp8
from ._pool import PoolSize, cursor_width, group_of, layout_of, size_of

EVICTIONS = {"merge": 0, "fifo": 1, "clear": 2}  # as in kernels/include/svm/ring.h
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
POOLS = (*FLOATS, _fp8.E4M3)  # what a memory can be made of


def name_of(dtype: torch.dtype) -> str:
    """Return the name of a type as people write it."""
    return str(dtype).removeprefix("torch.")


def evict_code(evict: str) -> int:
    """Return the code of an eviction rule."""
    if evict not in EVICTIONS:
        raise ValueError(f"evict: expected merge, fifo or clear, got {evict!r}; pass one of them")
    return EVICTIONS[evict]


def shape(name: str, tensor: Tensor, expected: Sequence[int], letters: str, remedy: str) -> None:
    """Check a shape; `letters` are the names of its sizes, separated by spaces."""
    if tensor.ndim == len(expected) and all(a == b for a, b in zip(tensor.shape, expected, strict=True)):
        return
    sizes = ", ".join(f"{letter}={size}" for letter, size in zip(letters.split(), expected, strict=True))
    raise ValueError(f"{name}: expected shape [{sizes}], got {list(tensor.shape)}; {remedy}")


def dtype(name: str, tensor: Tensor, expected: torch.dtype, remedy: str) -> None:
    """Check a type."""
    if tensor.dtype != expected:
        raise ValueError(f"{name}: expected {name_of(expected)}, got {name_of(tensor.dtype)}; {remedy}")


def same_device(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Check that two tensors lie on one device."""
    if tensor.device != other.device:
        raise ValueError(
            f"{name}: expected a tensor on {other.device} like {other_name}, got one on {tensor.device};"
            " move it with .to()"
        )


def floating(name: str, tensor: Tensor, kinds: Sequence[torch.dtype] = FLOATS) -> None:
    """Check that a tensor holds floating point numbers."""
    if tensor.dtype not in kinds:
        raise ValueError(
            f"{name}: expected a floating point type, got {name_of(tensor.dtype)}; convert it with .float()"
        )


def io_dtype(name: str, tensor: Tensor, pool_dtype: torch.dtype) -> None:
    """Check that a type can meet a pool: fp64 with fp64 only, the others in any combination."""
    floating(name, tensor)
    if (tensor.dtype == torch.float64) != (pool_dtype == torch.float64):
        expected = "float64" if pool_dtype == torch.float64 else "float32 or bfloat16"
        raise ValueError(
            f"{name}: expected {expected}, got {name_of(tensor.dtype)}; convert it or make a pool of another type"
        )


def pool(k_pool: Tensor, v_pool: Tensor, cursor: Tensor) -> PoolSize:
    """Check a pool and its cursor and return its sizes."""
    if k_pool.ndim not in (7, 8):
        raise ValueError(
            f"k_pool: expected 8 dimensions [S, W, H, n, T, D/g, n, g] or 7 [S, W, H, n, T, n, D],"
            f" got shape {list(k_pool.shape)}; use a pool as it was made"
        )
    floating("k_pool", k_pool, POOLS)
    size = size_of(k_pool)
    if layout_of(k_pool) == "columns":
        inner = (size.dim // group_of(k_pool.dtype), size.side, group_of(k_pool.dtype))
        shape("k_pool", k_pool, (*size[:5], *inner), "S W H n T D/g n g", "use a pool as it was made")
    else:
        shape("k_pool", k_pool, (*size[:5], size.side, size.dim), "S W H n T n D", "use a pool as it was made")
    shape("v_pool", v_pool, (*size[:5], size.side, size.dim), "S W H n T n D", "k_pool and v_pool are made together")
    width = cursor_width(size.frames, k_pool.dtype)
    letters = "S W H pair" if width == 2 else "S W H 2+T"
    shape("cursor", cursor, (*size[:3], width), letters, "use the cursor that was made with the pool")
    dtype("v_pool", v_pool, k_pool.dtype, "k_pool and v_pool have one type")
    dtype("cursor", cursor, torch.int64, "use the cursor that was made with the pool")
    for name, tensor in (("v_pool", v_pool), ("cursor", cursor)):
        same_device(name, tensor, "k_pool", k_pool)
    return size


def batch_of(streams: Tensor | None, per_stream: Tensor) -> int:
    """Check the ids' type and shape and return the number of batch rows; None means all streams."""
    if streams is None:
        return per_stream.shape[0]
    dtype("streams", streams, torch.int64, "convert it with .long()")
    if streams.ndim != 1:
        raise ValueError(f"streams: expected shape [B], got {list(streams.shape)}; pass one stream id a row")
    same_device("streams", streams, "the memory", per_stream)
    return streams.shape[0]


def stream_ids(ids: Sequence[int], count: int, *, distinct: bool) -> None:
    """Check the values of stream ids; where the rows write, every id may come once."""
    seen: set[int] = set()
    for row, stream in enumerate(ids):
        if not 0 <= stream < count:
            raise IndexError(
                f"streams: expected ids from 0 to {count - 1}, got {stream} in row {row}; the pool has {count} streams"
            )
        if distinct and stream in seen:
            raise ValueError(
                f"streams: expected every id once, got {stream} again in row {row}; a stream has one frame a step"
            )
        seen.add(stream)


def tokens(name: str, tensor: Tensor, size: PoolSize, batch: int, k_pool: Tensor) -> None:
    """Check one frame's tokens, [B*W, H, n*n, D]."""
    same_device(name, tensor, "k_pool", k_pool)
    expected = (batch * size.windows, size.heads, size.side * size.side, size.dim)
    remedy = "B is the length of streams, or all streams without it; the rest follows the pool"
    shape(name, tensor, expected, "B*W H n*n D", remedy)
    io_dtype(name, tensor, k_pool.dtype)


def padding(
    real: Tensor | None, pad_k: Tensor | None, pad_v: Tensor | None, windows: int, heads: int, dim: int, like: Tensor
) -> None:
    """Check how much of each window is real, [W, 2], and the K and V of the rest, [H, D]."""
    if real is not None:
        dtype("real", real, torch.int32, "convert it with .int()")
        shape("real", real, (windows, 2), "W pair", "it holds the real rows and columns of every window")
        same_device("real", real, "q", like)
    if (pad_k is None) != (pad_v is None):
        missing, given = ("pad_k", "pad_v") if pad_k is None else ("pad_v", "pad_k")
        raise ValueError(f"{missing}: expected it together with {given}, got None; pass both or none")
    if pad_k is None or pad_v is None:
        return
    for name, pad in (("pad_k", pad_k), ("pad_v", pad_v)):
        floating(name, pad)
        shape(name, pad, (heads, dim), "H D", "it is the projection's bias, one row a head")
        same_device(name, pad, "q", like)
    dtype("pad_v", pad_v, pad_k.dtype, "pad_k and pad_v have one type")


def real_values(real: Tensor | None, side: int) -> None:
    """Check the real rows and columns themselves."""
    if real is None or real.numel() == 0:
        return
    low, high = int(real.min()), int(real.max())
    if low < 0 or high > side:
        got = low if low < 0 else high
        raise ValueError(f"real: expected 0 to {side} rows and columns, got {got}; count tokens, not pixels")


def append(
    k_pool: Tensor,
    v_pool: Tensor,
    cursor: Tensor,
    k: Tensor,
    v: Tensor,
    step: Tensor,
    streams: Tensor | None,
    real: Tensor | None,
    evict: int,
) -> PoolSize:
    """Check what an append is given, but for the values in the tensors."""
    size = pool(k_pool, v_pool, cursor)
    batch = batch_of(streams, k_pool)
    for name, tensor in (("k", k), ("v", v)):
        tokens(name, tensor, size, batch, k_pool)
    dtype("v", v, k.dtype, "k and v of a frame have one type")
    dtype("step", step, torch.int64, "convert it with .long()")
    shape("step", step, (size.streams,), "S", "it holds the step of every stream of the pool")
    same_device("step", step, "k_pool", k_pool)
    padding(real, None, None, size.windows, size.heads, size.dim, k)
    if evict not in (0, 1, 2):
        raise ValueError(f"evict: expected 0 (merge), 1 (fifo) or 2 (clear), got {evict}; pass one of them")
    return size


def append_values(cursor: Tensor, step: Tensor, rows: Tensor, real: Tensor | None, size: PoolSize) -> None:
    """Check the values in the tensors of an append to the streams `rows`."""
    stream_ids(rows.tolist(), size.streams, distinct=True)
    real_values(real, size.side)
    cursor_values(cursor, rows)
    now, newest = step[rows], cursor[rows][..., 1].flatten(1).amax(1).clamp(min=0)  # [B]
    for stream, old, new in zip(rows.tolist(), newest.tolist(), now.tolist(), strict=True):
        if new < old:
            raise ValueError(
                f"step: expected at least {old} for stream {stream}, whose newest frame that is, got {new};"
                " reset the stream to start again"
            )


def attend(
    q: Tensor,
    k_pool: Tensor,
    v_pool: Tensor,
    cursor: Tensor,
    streams: Tensor | None,
    real: Tensor | None,
    pad_k: Tensor | None,
    pad_v: Tensor | None,
) -> PoolSize:
    """Check what an attend is given, but for the values in the tensors."""
    size = pool(k_pool, v_pool, cursor)
    tokens("q", q, size, batch_of(streams, k_pool), k_pool)
    padding(real, pad_k, pad_v, size.windows, size.heads, size.dim, q)
    return size


def attend_values(cursor: Tensor, streams: Tensor | None, real: Tensor | None, size: PoolSize) -> None:
    """Check the values in the tensors of an attend."""
    rows = torch.arange(size.streams, device=cursor.device) if streams is None else streams
    stream_ids(rows.tolist(), size.streams, distinct=False)
    real_values(real, size.side)
    cursor_values(cursor, rows)


def cursor_values(cursor: Tensor, rows: Tensor) -> None:
    """Check that the counts of the streams `rows` are counts."""
    broken = rows[(cursor[rows][..., 0] < 0).flatten(1).any(1)]
    if broken.numel():
        raise ValueError(
            f"cursor: expected counts of at least 0, got a negative one for stream {int(broken[0])}; reset the stream"
        )


def step(
    k_pool: Tensor,
    v_pool: Tensor,
    cursor: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    step: Tensor,
    streams: Tensor | None,
    real: Tensor | None,
    pad_k: Tensor | None,
    pad_v: Tensor | None,
    evict: int,
) -> None:
    """Check what a stream step is given, but for the values in the tensors."""
    attend(q, k_pool, v_pool, cursor, streams, real, pad_k, pad_v)
    append(k_pool, v_pool, cursor, k, v, step, streams, real, evict)
    for name, tensor in (("k", k), ("v", v)):
        dtype(name, tensor, q.dtype, "q, k and v of a frame have one type")


def clip(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    real: Tensor | None,
    pad_k: Tensor | None,
    pad_v: Tensor | None,
    memory_frames: int,
    evict: int,
) -> None:
    """Check what a clip's attend is given, but for the values in the tensors."""
    if q.ndim != 6:
        raise ValueError(f"q: expected shape [B, T, W, H, n*n, D], got {list(q.shape)}; give it all its dimensions")
    floating("q", q)
    side = round(q.shape[4] ** 0.5)
    if side * side != q.shape[4]:
        raise ValueError(f"q: expected a square number of tokens a window, got {q.shape[4]}; windows are square")
    for name, tensor in (("k", k), ("v", v)):
        shape(name, tensor, q.shape, "B T W H n*n D", "q, k and v of a clip have one shape")
        dtype(name, tensor, q.dtype, "q, k and v of a clip have one type")
        same_device(name, tensor, "q", q)
    padding(real, pad_k, pad_v, q.shape[2], q.shape[3], q.shape[5], q)
    if memory_frames < 1:
        raise ValueError(f"memory_frames: expected at least 1, got {memory_frames}; it is the memory's capacity")
    if evict not in (1, 2):
        raise ValueError(f"evict: expected 1 (fifo) or 2 (clear) for a clip, got {evict}; merging needs a memory")


def results(q: Tensor, dout: Tensor, out: Tensor, out_column: Tensor, lse: Tensor) -> None:
    """Check what an attend's backward is given of its forward, and the gradient of its output."""
    for name, tensor in (("dout", dout), ("out", out), ("out_column", out_column)):
        same_device(name, tensor, "q", q)
        shape(name, tensor, q.shape, _letters(q), "it has the shape of q")
        if tensor.dtype != q.dtype:
            raise ValueError(f"{name}: expected {name_of(q.dtype)} like q, got {name_of(tensor.dtype)}; convert it")
    remedy = "pass what the forward returned"
    same_device("lse", lse, "q", q)
    dtype("lse", lse, torch.float64 if q.dtype == torch.float64 else torch.float32, remedy)
    shape("lse", lse, (*q.shape[:-2], 2, q.shape[-2]), _letters(q).replace("n*n D", "plane n*n"), remedy)


def _letters(q: Tensor) -> str:
    return "B*W H n*n D" if q.ndim == 4 else "B T W H n*n D"
