"""Launches the Triton kernels: what the C++ side is to the CUDA kernels. Nothing else imports svm_ext.kernels_triton.

Arguments are checked as everywhere (shapes, types, devices); values that lie on a GPU nobody checks, and the kernels
ignore those that make no sense. Nothing is read back, so that every launch can be captured in a graph. Triton itself
is imported by the first launch.
"""

from __future__ import annotations

import math
import os
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from . import _check, _fp8, _pool
from ._outputs import Results, empty_results, like_tokens

if TYPE_CHECKING:
    from ..kernels_triton.heuristics import Gpu, Launch

_TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
_LOG2E = math.log2(math.e)
_WITHIN_UNIT = {4: (2, 3), 6: (1, 4, 5), 7: (4, 5, 6)}  # the dims of tokens, clips and pools that a unit's offsets span
_FAR = 1 << 31  # numbers: what 32 bits can count


def installed() -> bool:
    """Return whether there is a Triton to import; it is not imported for that."""
    return find_spec("triton") is not None


def devices() -> tuple[str, ...]:
    """Return the device types whose tensors Triton takes in this process: the CPU's through its interpreter."""
    return ("cuda", "cpu") if os.environ.get("TRITON_INTERPRET") == "1" else ("cuda",)


@cache
def _kernels(name: str) -> Any:
    """Return one module of the kernels."""
    return import_module(f"svm_ext.kernels_triton.{name}")


@cache
def _gpu(device: torch.device) -> Gpu:
    gpu = _kernels("heuristics").Gpu
    if device.type != "cuda":
        return gpu("cuda", 90, 1)  # the interpreter: it has no processors to share work among
    found = torch.cuda.get_device_properties(device)
    return gpu("hip" if torch.version.hip else "cuda", 10 * found.major + found.minor, found.multi_processor_count)


class Sizes(NamedTuple):
    """What a pool's kernels are told of its sizes."""

    streams: int
    windows: int
    heads: int
    frames: int


def _sizes(size: _pool.PoolSize) -> Sizes:
    return Sizes(size.streams, size.windows, size.heads, size.frames)


class Work(NamedTuple):
    """How an attention is launched: the type of its products, its units, and what the heuristics chose."""

    type: torch.dtype
    units: int
    launch: Launch

    @property
    def options(self) -> dict[str, Any]:
        """What the kernel is compiled for."""
        return {"PLAN": self.launch.plan, "TYPE": _triton_type(self.type), "num_warps": self.launch.num_warps}


def _triton_type(dtype: torch.dtype) -> Any:
    language = import_module("triton.language")
    return {"fp32": language.float32, "bf16": language.bfloat16, "fp16": language.float16}[_TYPES[dtype]]


def _check_kernels_take(side: int, dim: int, **tensors: Tensor) -> None:
    """Check what only these kernels ask for."""
    for name, tensor in tensors.items():
        if tensor.dtype not in _TYPES:
            other = 'make a bfloat16 pool, or call svm_ext.use_backend("reference")'
            remedy = other if tensor.dtype == _fp8.E4M3 else "convert it"
            got = _check.name_of(tensor.dtype)
            raise ValueError(f"{name}: expected float32, bfloat16 or float16 for Triton, got {got}; {remedy}")
    limits = _kernels("heuristics")
    if side > limits.MOST_SIDE or dim > limits.MOST_DIM:
        raise ValueError(
            f"q: expected windows of at most {limits.MOST_SIDE} x {limits.MOST_SIDE} tokens and head dims up to"
            f" {limits.MOST_DIM} for Triton, got {side} x {side} and {dim}; the other back ends take them"
        )


def _check_layout(k_pool: Tensor) -> None:
    if _pool.layout_of(k_pool) != "tokens":
        raise ValueError(
            "k_pool: expected the GPU's layout [S, W, H, n, T, n, D] for Triton,"
            f" got shape {list(k_pool.shape)}; make the memory on the GPU"
        )


def _far(*tensors: Tensor) -> bool:
    """Return whether two numbers of one unit (in a pool: of one row) may lie so far apart that 32 bits cannot tell."""
    return any(
        sum((x.shape[dim] - 1) * x.stride(dim) for dim in _WITHIN_UNIT[x.ndim]) + 1 > _FAR for x in tensors if x.numel()
    )


def _work(side: int, frames: int, units: int, *tensors: Tensor, far: bool, backward: bool = False) -> Work:
    """Plan an attention of `units` units over up to `frames` frames; types that differ meet in fp32.

    So does bf16 in Triton's interpreter, which would multiply the numbers' bit patterns.
    """
    q, types = tensors[0], {tensor.dtype for tensor in tensors}
    same = len(types) == 1 and not (q.is_cpu and q.dtype == torch.bfloat16)
    product = types.pop() if same else torch.float32
    sizes = units, side, max(frames, 1), q.shape[-1], product.itemsize
    return Work(product, units, _kernels("heuristics").attend(_gpu(q.device), *sizes, backward=backward, far=far))


def _placed(tensor: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    return tensor, tensor.stride()


def _pair(a: Tensor | None, b: Tensor | None) -> tuple[Tensor, Tensor] | None:
    """Return both or none; they are contiguous, as the kernels read them."""
    return None if a is None or b is None else (a.contiguous(), b.contiguous())


def _flat(tensor: Tensor | None) -> Tensor | None:
    """Return a small tensor as the kernels read it: contiguous."""
    return None if tensor is None else tensor.contiguous()


def _splits(q: Tensor, work: Work) -> tuple[Tensor, Tensor] | None:
    """Return room for the column planes of a unit's splits, [units, splits, C, R, D] and [units, splits, C, R]."""
    plan, splits = work.launch.plan, work.launch.splits
    if splits == 1:
        return None
    side = _kernels("heuristics").MOST_SIDE
    shape = (work.units, splits, side, side)
    return q.new_empty(*shape, plan.width, dtype=torch.float32), q.new_empty(shape, dtype=torch.float32)


def _with_strides_of(out: Tensor, other: Tensor) -> Tensor:
    """Return `other` with the strides that `out` has: the forward pass made both alike."""
    return other if other.stride() == out.stride() else torch.empty_like(out).copy_(other)


def memory_append_(
    k_pool: Tensor,
    v_pool: Tensor,
    cursor: Tensor,
    k: Tensor,
    v: Tensor,
    step: Tensor,
    streams: Tensor | None,
    real: Tensor | None,
    evict: int,
) -> None:
    """Store one frame's K and V."""
    size = _check.append(k_pool, v_pool, cursor, k, v, step, streams, real, evict)
    _check_layout(k_pool)
    _check_kernels_take(size.side, size.dim, k=k, k_pool=k_pool)
    units = k.shape[0] * size.heads
    if not units:
        return
    heuristics = _kernels("heuristics")
    launch = heuristics.append(size.side, size.dim, k_pool.element_size(), far=_far(k, v, k_pool))
    with torch.cuda.device_of(k_pool):
        _kernels("memory_append").memory_append_kernel[(units,)](
            k_pool,
            v_pool,
            cursor,
            _placed(k),
            _placed(v),
            step.contiguous(),
            _flat(streams),
            _flat(real),
            _sizes(size),
            ROWS=heuristics.APPEND_ROWS,
            EVICT=evict,
            PLAN=launch.plan,
            num_warps=launch.num_warps,
        )


def memory_attend(
    q: Tensor,
    k_pool: Tensor,
    v_pool: Tensor,
    cursor: Tensor,
    streams: Tensor | None,
    real: Tensor | None,
    pad_k: Tensor | None,
    pad_v: Tensor | None,
    scale: float,
    for_backward: bool,
) -> Results:
    """Attend the memory in both planes."""
    size = _check.attend(q, k_pool, v_pool, cursor, streams, real, pad_k, pad_v)
    _check_layout(k_pool)
    _check_kernels_take(size.side, size.dim, q=q, k_pool=k_pool)
    out, column, lse = results = empty_results(q, for_backward)
    if not out.numel():
        return results
    work = _work(size.side, size.frames, q.shape[0] * size.heads, q, k_pool, far=_far(q, k_pool))
    memory, splits = (cursor, _flat(streams), _flat(real)), _splits(q, work)
    written, sizes = (_placed(out), column, lse, splits, _sizes(size)), work.launch.splits
    kernels, programs = _kernels("memory_attend"), work.units * work.launch.parts
    pads = _pair(pad_k, pad_v)
    with torch.cuda.device_of(q):
        kernels.memory_attend_kernel[(programs * sizes,)](
            _placed(q), k_pool, v_pool, *memory, pads, *written, scale * _LOG2E, SPLITS=sizes, **work.options
        )
        if splits:
            merge = kernels.memory_attend_merge_kernel[(2 * programs,)]
            merge(*memory, *written, SPLITS=sizes, PLAN=work.launch.plan, num_warps=work.launch.num_warps)
    return results


def memory_attend_backward(
    dout: Tensor,
    q: Tensor,
    k_pool: Tensor,
    v_pool: Tensor,
    cursor: Tensor,
    streams: Tensor | None,
    real: Tensor | None,
    pad_k: Tensor | None,
    pad_v: Tensor | None,
    out: Tensor,
    out_column: Tensor,
    lse: Tensor,
    scale: float,
) -> Tensor:
    """Return dq."""
    size = _check.attend(q, k_pool, v_pool, cursor, streams, real, pad_k, pad_v)
    _check.results(q, dout, out, out_column, lse)
    _check_layout(k_pool)
    _check_kernels_take(size.side, size.dim, q=q, k_pool=k_pool)
    dq = like_tokens(q)
    if not dq.numel():
        return dq
    far = _far(dout, q, k_pool, out)
    work = _work(size.side, size.frames, q.shape[0] * size.heads, q, k_pool, far=far, backward=True)
    with torch.cuda.device_of(q):
        _kernels("memory_attend").memory_attend_backward_kernel[(work.units * work.launch.parts,)](
            _placed(dout),
            _placed(q),
            k_pool,
            v_pool,
            cursor,
            _flat(streams),
            _flat(real),
            _pair(pad_k, pad_v),
            _placed(out),
            _with_strides_of(out, out_column),
            lse.contiguous(),
            _placed(dq),
            _sizes(size),
            scale * _LOG2E,
            **work.options,
        )
    return dq


def stream_step_(
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
    scale: float,
    evict: int,
) -> Tensor:
    """Append, then attend, in one launch; in two where several programs share a unit."""
    _check.step(k_pool, v_pool, cursor, q, k, v, step, streams, real, pad_k, pad_v, evict)
    _check_layout(k_pool)
    size = _pool.size_of(k_pool)
    _check_kernels_take(size.side, size.dim, q=q, k_pool=k_pool)
    out = like_tokens(q)
    if not out.numel():
        return out
    work = _work(size.side, size.frames, q.shape[0] * size.heads, q, k_pool, far=_far(q, k, v, k_pool))
    if work.launch.parts > 1:  # two programs must not both append
        memory_append_(k_pool, v_pool, cursor, k, v, step, streams, real, evict)
        return memory_attend(q, k_pool, v_pool, cursor, streams, real, pad_k, pad_v, scale, False)[0]
    frame, memory = tuple(map(_placed, (q, k, v))), (step.contiguous(), _flat(streams), _flat(real))
    splits, chosen = _splits(q, work), {"EVICT": evict, "SPLITS": work.launch.splits}
    written, kernels = (_placed(out), splits, _sizes(size)), _kernels("stream_step")
    rows, pads = _kernels("heuristics").APPEND_ROWS, _pair(pad_k, pad_v)
    with torch.cuda.device_of(q):
        kernels.stream_step_kernel[(work.units * work.launch.splits,)](
            k_pool, v_pool, cursor, *frame, *memory, pads, *written, scale * _LOG2E, ROWS=rows, **chosen, **work.options
        )
        if splits:
            merge = kernels.stream_step_merge_kernel[(work.units,)]
            merge(cursor, *memory, *written, **chosen, PLAN=work.launch.plan, num_warps=work.launch.num_warps)
    return out


def _clip_work(
    q: Tensor, k: Tensor, memory_frames: int, *others: Tensor, backward: bool = False
) -> tuple[Work, tuple[int, ...]]:
    """Plan a clip's attention; return also the sizes as its kernels want them."""
    batch, length, windows, heads, tokens, dim = q.shape
    side = round(tokens**0.5)
    _check_kernels_take(side, dim, q=q)
    units, far = batch * length * windows * heads, _far(q, k, *others)
    work = _work(side, min(length, memory_frames), units, q, k, far=far, backward=backward)
    return work, (batch, windows, heads, length)


def clip_attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    real: Tensor | None,
    pad_k: Tensor | None,
    pad_v: Tensor | None,
    scale: float,
    memory_frames: int,
    evict: int,
    for_backward: bool,
) -> Results:
    """Attend each frame of a clip to the frames that a memory would hold then."""
    _check.clip(q, k, v, real, pad_k, pad_v, memory_frames, evict)
    work, sizes = _clip_work(q, k, memory_frames, v)
    out, column, lse = results = empty_results(q, for_backward)
    if not out.numel():
        return results
    clip, settings = tuple(map(_placed, (q, k, v))), (sizes, scale * _LOG2E, min(memory_frames, q.shape[1]))
    with torch.cuda.device_of(q):
        _kernels("clip_attend").clip_attend_kernel[(work.units * work.launch.parts,)](
            *clip, _flat(real), _pair(pad_k, pad_v), _placed(out), column, lse, *settings, EVICT=evict, **work.options
        )
    return results


def clip_attend_backward(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    real: Tensor | None,
    pad_k: Tensor | None,
    pad_v: Tensor | None,
    out: Tensor,
    out_column: Tensor,
    lse: Tensor,
    scale: float,
    memory_frames: int,
    evict: int,
) -> Tensor:
    """Return dq."""
    _check.clip(q, k, v, real, pad_k, pad_v, memory_frames, evict)
    _check.results(q, dout, out, out_column, lse)
    work, sizes = _clip_work(q, k, memory_frames, v, dout, out, backward=True)
    dq = like_tokens(q)
    if not dq.numel():
        return dq
    forward = _placed(out), _with_strides_of(out, out_column), lse.contiguous()
    clip, settings = tuple(map(_placed, (dout, q, k, v))), (sizes, scale * _LOG2E, min(memory_frames, q.shape[1]))
    with torch.cuda.device_of(q):
        _kernels("clip_attend").clip_attend_backward_kernel[(work.units * work.launch.parts,)](
            *clip, _flat(real), _pair(pad_k, pad_v), *forward, _placed(dq), *settings, EVICT=evict, **work.options
        )
    return dq
