"""How the memory pool of one layer lies in memory: the only place in Python that knows.

Letters: S streams, W windows a stream, H heads, n window side, T frames, D head dim. Two layouts hold the
same numbers:

    columns (CPU)            k [S, W, H, n (row), T, D/g, n (column), g]    v [S, W, H, n (row), T, n (column), D]
    tokens  (GPU, Triton)    k [S, W, H, n (row), T, n (column), D]         v [S, W, H, n (row), T, n (column), D]

Why rows lie outside of frames, in both: for one row the keys of all frames are neighbours, so the row plane
finishes its softmax in one go over a tile that stays in the cache while the column plane reads it a second
time. And since the order of keys does not matter to a softmax, both planes are views with a single stride
over their keys, rows [n, T*n, D] and columns [(n T), n, D]: any library attention runs on them without a
copy.

Why the CPU has the column index of K innermost: one vector register then holds the keys of one row of one
frame (14 of 16 lanes), and one layout serves both planes. In the row plane the lanes are keys and q is a
broadcast; in the column plane the lanes are the columns themselves and q is a vector. Neither needs a sum
across lanes. With a bf16 pool the keys lie in pairs along the head dim (g = 2), which is what the
dot-product instruction eats; else g = 1. V has the head dim innermost: the product with the probabilities
has its lanes there, in both planes.

Why the GPU has the head dim innermost in K too: a bulk tensor load moves and swizzles lines of the head
dim, and one box {D, n, n} of such a tensor is one frame of a unit.

The layouts are told apart by the rank of k_pool, so that nothing has to be passed along with it (the
kernels are told the same by kernels/include/svm/params.h). Slots that were never written are uninitialised.

A pool of fp8 holds codes; the exponents that make them numbers (_fp8.py) are part of the ring's state: the cursor of
such a pool has an entry more for every slot, the exponents of K and V as two int32. So they are reset, versioned and
handed to the ops with it.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from . import _fp8

Layout = Literal["columns", "tokens"]
_LARGE_PAGE = 2 << 20  # bytes


class PoolSize(NamedTuple):
    """The sizes that a pool is made of."""

    streams: int
    windows: int
    heads: int
    side: int  # of a window, which has side * side tokens
    frames: int  # capacity
    dim: int


def default_layout(device: torch.device) -> Layout:
    """Return the layout that the kernels of this device type read."""
    return "columns" if device.type == "cpu" else "tokens"


def group_of(dtype: torch.dtype) -> int:
    """Return how many neighbours along the head dim a key of the columns layout keeps together."""
    return 2 if dtype == torch.bfloat16 else 1


def empty_pool(
    size: PoolSize, dtype: torch.dtype, device: torch.device, layout: Layout | None = None
) -> tuple[Tensor, Tensor]:
    """Return an uninitialised K pool and V pool."""
    streams, windows, heads, side, frames, dim = size
    tokens = (streams, windows, heads, side, frames, side, dim)
    if (layout or default_layout(device)) == "tokens":
        k_shape = tokens
    else:
        group = group_of(dtype)
        if dim % group:
            raise ValueError(f"head_dim: expected an even number for a {dtype} pool, got {dim}; use float32")
        k_shape = (streams, windows, heads, side, frames, dim // group, side, group)
    pools = torch.empty(k_shape, dtype=dtype, device=device), torch.empty(tokens, dtype=dtype, device=device)
    for pool in pools:
        _ask_for_large_pages(pool)
    return pools


def _ask_for_large_pages(pool: Tensor) -> None:
    """Tell the system that large pages suit a new pool.

    An attend reads all of it, every image row from another place: with pages of 4 kB it waits longer for
    addresses to be translated than for the memory itself. The price is paid once: the system hands out the
    whole pool at the first append, where small pages come frame by frame, at more cost in all. Where the
    system has no large page, all stays as it is.
    """
    if sys.platform != "linux" or type(pool) is not Tensor or not pool.is_cpu:
        return
    begin = -(-pool.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    size = pool.data_ptr() + pool.nbytes - begin
    if size >= _LARGE_PAGE:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(size), mmap.MADV_HUGEPAGE)


def cursor_width(frames: int, dtype: torch.dtype) -> int:
    """Return how many numbers a unit's cursor has: frames appended, step of the last append; an fp8 pool's slots."""
    return 2 + frames if dtype == _fp8.E4M3 else 2


def empty_cursor(size: PoolSize, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the cursor of an empty pool of this type, [S, W, H, (frames appended, step of the last append, ..)]."""
    start = torch.tensor([0, -1], dtype=torch.int64, device=device)
    slots = start.new_zeros(cursor_width(size.frames, dtype) - 2)
    return torch.cat([start, slots]).expand(*size[:3], -1).contiguous()


Exponents = tuple[Tensor | None, Tensor | None]


def exponents_of(k_pool: Tensor, cursor: Tensor) -> Exponents:
    """View the exponents of K and V, int32 [S, W, H, T]: write through them; none where codes are numbers."""
    if k_pool.dtype != _fp8.E4M3:
        return None, None
    k, v = cursor[..., 2:].view(torch.int32).unflatten(-1, (-1, 2)).unbind(-1)
    return k, v


def layout_of(k_pool: Tensor) -> Layout:
    """Return the layout of a pool."""
    return "columns" if k_pool.ndim == 8 else "tokens"


def size_of(k_pool: Tensor) -> PoolSize:
    """Return the sizes of a pool; the shape is taken as right."""
    shape = k_pool.shape
    if layout_of(k_pool) == "columns":
        return PoolSize(*shape[:5], shape[5] * shape[7])
    return PoolSize(*shape[:5], shape[6])


def frames_view(pool: Tensor) -> Tensor:
    """Return a pool as a view [S, W, H, T, n (row), n (column), D/g, g]: write through it, flatten to
    read."""
    if pool.ndim == 8:
        return pool.permute(0, 1, 2, 4, 3, 6, 5, 7)
    return pool.transpose(3, 4).unsqueeze(-1)


def read(pool: Tensor, streams: Tensor | None = None, exponents: Tensor | None = None) -> Tensor:
    """Copy the frames of the given streams, all slots in slot order, [B, W, H, T, n, n, D]; fp8 as bf16."""
    rows = slice(None) if streams is None else streams
    frames = frames_view(_fp8.raw(pool))[rows].flatten(-2)
    return frames if exponents is None else _fp8.numbers(frames, exponents[rows][..., None, None, None])


def read_slots(pool: Tensor, streams: Tensor, count: int, exponents: Tensor | None = None) -> Tensor:
    """Copy the first `count` slots of the given streams in logical order, [B, count, W, H, n, n, D]; fp8 as bf16."""
    frames = frames_view(_fp8.raw(pool))[:, :, :, :count][streams].flatten(-2)
    if exponents is not None:
        frames = _fp8.numbers(frames, exponents[..., :count][streams][..., None, None, None])
    return frames.movedim(3, 1).contiguous()


def write_slots(pool: Tensor, streams: Tensor, frames: Tensor, exponents: Tensor | None = None) -> None:
    """Write frames [B, count, W, H, n, n, D] to the first `count` slots of the given streams; fp8 finds exponents."""
    view = frames_view(_fp8.raw(pool))[:, :, :, : frames.shape[1]]
    value = frames.to(pool.device).movedim(1, 3).unflatten(-1, view.shape[-2:])  # [B, W, H, count, n, n, D/g, g]
    if exponents is not None:
        found = _fp8.exponents_for(value.float().abs().flatten(4).amax(-1))  # [B, W, H, count]
        exponents[..., : frames.shape[1]][streams] = found
        value = _fp8.quantised(value, found[..., None, None, None, None])
    view[streams] = value.to(view.dtype)
