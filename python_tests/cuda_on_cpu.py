"""The CUDA kernels' own source, compiled for the CPU: every GPU thread a fiber, what is not C++ played by the manual.

It proves what the kernels compute and that no barrier is missing in the orders that were tried; it does not prove that
a GPU does the same, nor how fast.

    with cuda_on_cpu.playing(processors=4):
        out, out_column, lse = cuda_on_cpu.memory_attend(...)      # the schemas of the ops
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from svm_ext.ops import _check, _pool, _reference_nms

ROOT = Path(__file__).parents[1]
SHIM = Path(__file__).parent / "kernels/cuda_on_cpu"
H100, A100, ADA = 232448, 166912, 101376  # bytes of shared memory that a block may have
UP, DOWN, RANDOM = range(3)  # orders in which threads take turns
_CODES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.float64: 3, torch.float8_e4m3fn: 4}  # params.h


def compiler() -> str | None:
    """The C++ compiler."""
    return os.environ.get("CXX") or shutil.which("c++")


def build() -> None:
    """Compile the kernels, a minute's work, unless they are there and nothing has changed."""
    _library()


@cache
def _library() -> ctypes.CDLL:
    sources = [*(ROOT / "kernels/cuda").glob("*.cu"), SHIM / "entries.cpp"]
    folder = ROOT / "build/cuda_on_cpu" / _fingerprint()
    if not (folder / "kernels.so").exists():
        folder.mkdir(parents=True, exist_ok=True)
        include = [SHIM, ROOT / "kernels", ROOT / "kernels/include", Path(torch.__file__).parent / "include"]
        sanitizer = "-fsanitize=alignment"  # where a type is out of line a GPU stops
        flags = ["-std=c++17", "-O1", "-fPIC", "-Wno-unknown-pragmas", sanitizer, *(f"-I{path}" for path in include)]
        objects = [folder / f"{source.stem}.{os.getpid()}.o" for source in sources]
        for source, target in zip(sources, objects, strict=True):
            subprocess.run([compiler(), "-x", "c++", *flags, "-c", str(source), "-o", str(target)], check=True)
        whole = folder / f"kernels.{os.getpid()}.so"
        subprocess.run([compiler(), "-shared", sanitizer, *map(str, objects), "-o", str(whole)], check=True)
        whole.rename(folder / "kernels.so")
        for target in objects:
            target.unlink()
    return ctypes.CDLL(str(folder / "kernels.so"))


def _fingerprint() -> str:
    digest = hashlib.sha256(torch.__version__.encode())
    for file in sorted([*ROOT.glob("kernels/cuda/**/*"), *ROOT.glob("kernels/include/**/*"), *SHIM.glob("**/*")]):
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def playing(
    processors: int = 4, shared: int = H100, order: int = UP, at_once: bool = False, dice: int = 1, deaf: bool = False
) -> Iterator[None]:
    """Play a GPU of this size, its threads in this order, its copies landing at once or as late as they can; deaf: as
    if there were no barriers of the block."""
    _library().play(processors, shared, order, int(at_once), ctypes.c_uint64(dice), int(deaf))
    try:
        yield
    finally:
        _library().play(4, H100, UP, 0, ctypes.c_uint64(1), 0)


class Counts(NamedTuple):
    """What the kernels did since they were counted last."""

    launches: int
    matrices: int  # loaded by ldmatrix
    passes: int  # that took; as many where no banks conflict


def count() -> Counts:
    """Return and forget."""
    counts = (ctypes.c_uint64 * 3)()
    _library().count(counts)
    return Counts(*counts)


def _struct(name: str, **fields: type) -> type[ctypes.Structure]:
    return type(name, (ctypes.Structure,), {"_fields_": list(fields.items())})


def _numbers(*names: str) -> dict[str, type]:
    return dict.fromkeys(names, ctypes.c_int64)


_P, _I32, _I64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
# svm/params.h
TokenView = _struct("TokenView", data=_P, dtype=_I32, **_numbers("window", "head", "token", "dim"))
PoolView = _struct(
    "PoolView", k=_P, v=_P, cursor=_P, dtype=_I32, **_numbers("streams", "windows", "heads", "side", "frames", "dim")
)
Padding = _struct("Padding", real=_P, k=_P, v=_P, dtype=_I32, stride_k_head=_I64, stride_v_head=_I64)
AppendParams = _struct(
    "AppendParams",
    pool=PoolView, k=TokenView, v=TokenView, step=_P, streams=_P, batch=_I64, real=_P, evict=_I32,
)  # fmt: skip
AttendParams = _struct(
    "AttendParams",
    pool=PoolView, q=TokenView, out=TokenView, out_column=TokenView, lse=_P, streams=_P, batch=_I64, padding=Padding,
    scale=ctypes.c_double,
)  # fmt: skip
AttendBackwardParams = _struct(
    "AttendBackwardParams",
    pool=PoolView, dout=TokenView, q=TokenView, out=TokenView, out_column=TokenView, dq=TokenView, lse=_P, streams=_P,
    batch=_I64, padding=Padding, scale=ctypes.c_double,
)  # fmt: skip
StepParams = _struct("StepParams", append=AppendParams, attend=AttendParams)
ClipView = _struct("ClipView", data=_P, dtype=_I32, **_numbers("batch", "frame", "window", "head", "token", "dim"))
ClipShape = _struct(
    "ClipShape",
    **_numbers("batch", "clip_frames", "windows", "heads", "side", "dim", "memory_frames"), evict=_I32,
)  # fmt: skip
ClipParams = _struct(
    "ClipParams",
    shape=ClipShape, q=ClipView, k=ClipView, v=ClipView, out=ClipView, out_column=ClipView, lse=_P, padding=Padding,
    scale=ctypes.c_double,
)  # fmt: skip
ClipBackwardParams = _struct(
    "ClipBackwardParams",
    shape=ClipShape, dout=ClipView, q=ClipView, k=ClipView, v=ClipView, out=ClipView, out_column=ClipView, dq=ClipView,
    lse=_P, padding=Padding, scale=ctypes.c_double,
)  # fmt: skip

NmsArgs = _struct(  # cuda/nms.h
    "NmsArgs", boxes=_P, scores=_P, groups=_P, dtype=_I32, score_dtype=_I32,
    **_numbers("score_stride", "group_stride", "count"), threshold=ctypes.c_double, keep=_P, order=_P,
)  # fmt: skip


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _view(kind: type, tensor: Tensor | None) -> ctypes.Structure:
    return kind() if tensor is None else kind(tensor.data_ptr(), _CODES[tensor.dtype], *tensor.stride())


def _pool_view(k_pool: Tensor, v_pool: Tensor, cursor: Tensor) -> ctypes.Structure:
    size = _pool.size_of(k_pool)
    return PoolView(k_pool.data_ptr(), v_pool.data_ptr(), cursor.data_ptr(), _CODES[k_pool.dtype], *size)


def _padding(real: Tensor | None, pad_k: Tensor | None, pad_v: Tensor | None) -> ctypes.Structure:
    if pad_k is None:
        return Padding(_pointer(real))
    strides = pad_k.stride(0), pad_v.stride(0)
    return Padding(_pointer(real), pad_k.data_ptr(), pad_v.data_ptr(), _CODES[pad_k.dtype], *strides)


def _run(name: str, params: ctypes.Structure) -> None:
    entry = getattr(_library(), name)
    entry.restype = ctypes.c_char_p
    fault = entry(ctypes.byref(params))
    assert fault is None, fault.decode()


def codes_of(numbers: Tensor, exponent: int) -> Tensor:
    codes = torch.empty(numbers.shape, dtype=torch.uint8)
    _library().codes_of(_P(numbers.data_ptr()), _I64(numbers.numel()), _I32(exponent), _P(codes.data_ptr()))
    return codes


def values_of(codes: Tensor, exponent: int) -> Tensor:
    values = torch.empty(codes.shape)
    _library().values_of(_P(codes.data_ptr()), _I64(codes.numel()), _I32(exponent), _P(values.data_ptr()))
    return values


def exponents_for(greatest: Tensor) -> Tensor:
    exponents = torch.empty(greatest.shape, dtype=torch.int32)
    _library().exponents_for(_P(greatest.data_ptr()), _I64(greatest.numel()), _P(exponents.data_ptr()))
    return exponents


def _like(q: Tensor) -> Tensor:
    """A new result of q's shape, tokens outside of heads, full of NaN."""
    return torch.full_like(q.transpose(-3, -2).contiguous(), float("nan")).transpose(-3, -2)


def _append(pools, k, v, step, streams, real, evict) -> ctypes.Structure:
    batch = pools[0].shape[0] if streams is None else len(streams)
    views = (_view(TokenView, tensor) for tensor in (k, v))
    return AppendParams(_pool_view(*pools), *views, _pointer(step), _pointer(streams), batch, _pointer(real), evict)


def memory_append_(k_pool, v_pool, cursor, k, v, step, streams, real, evict) -> None:
    _check.append(k_pool, v_pool, cursor, k, v, step, streams, real, evict)
    _run("memory_append", _append((k_pool, v_pool, cursor), k, v, step, streams, real, evict))


def _attend(pools, q, out, column, lse, streams, padding, scale) -> ctypes.Structure:
    batch = pools[0].shape[0] if streams is None else len(streams)
    views = (_view(TokenView, tensor) for tensor in (q, out, column))
    return AttendParams(_pool_view(*pools), *views, _pointer(lse), _pointer(streams), batch, _padding(*padding), scale)


def memory_attend(
    q, k_pool, v_pool, cursor, streams, real, pad_k, pad_v, scale, for_backward
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    _check.attend(q, k_pool, v_pool, cursor, streams, real, pad_k, pad_v)
    out, column, lse = _like(q), None, None
    if for_backward:
        column, lse = _like(q), torch.full((*q.shape[:2], 2, q.shape[2]), float("nan"))
    pools, padding = (k_pool, v_pool, cursor), (real, pad_k, pad_v)
    _run("memory_attend", _attend(pools, q, out, column, lse, streams, padding, scale))
    return out, column, lse


def memory_attend_backward(
    dout, q, k_pool, v_pool, cursor, streams, real, pad_k, pad_v, out, out_column, lse, scale
) -> Tensor:
    _check.attend(q, k_pool, v_pool, cursor, streams, real, pad_k, pad_v)
    dq = _like(q)
    batch = k_pool.shape[0] if streams is None else len(streams)
    views = (_view(TokenView, tensor) for tensor in (dout, q, out, out_column, dq))
    padding = _padding(real, pad_k, pad_v)
    pool = _pool_view(k_pool, v_pool, cursor)
    params = AttendBackwardParams(pool, *views, lse.data_ptr(), _pointer(streams), batch, padding, scale)
    _run("memory_attend_backward", params)
    return dq


def stream_step_(k_pool, v_pool, cursor, q, k, v, step, streams, real, pad_k, pad_v, scale, evict) -> Tensor:
    _check.step(k_pool, v_pool, cursor, q, k, v, step, streams, real, pad_k, pad_v, evict)
    pools, out = (k_pool, v_pool, cursor), _like(q)
    append = _append(pools, k, v, step, streams, real, evict)
    attend = _attend(pools, q, out, None, None, streams, (real, pad_k, pad_v), scale)
    _run("stream_step", StepParams(append, attend))
    return out


def _clip_shape(q: Tensor, memory_frames: int, evict: int) -> ctypes.Structure:
    batch, frames, windows, heads, tokens, dim = q.shape
    return ClipShape(batch, frames, windows, heads, round(tokens**0.5), dim, memory_frames, evict)


def clip_attend(
    q, k, v, real, pad_k, pad_v, scale, memory_frames, evict, for_backward
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    _check.clip(q, k, v, real, pad_k, pad_v, memory_frames, evict)
    out, column, lse = _like(q), None, None
    if for_backward:
        column, lse = _like(q), torch.full((*q.shape[:4], 2, q.shape[4]), float("nan"))
    views = (_view(ClipView, tensor) for tensor in (q, k, v, out, column))
    shape, padding = _clip_shape(q, memory_frames, evict), _padding(real, pad_k, pad_v)
    _run("clip_attend", ClipParams(shape, *views, _pointer(lse), padding, scale))
    return out, column, lse


def clip_attend_backward(
    dout, q, k, v, real, pad_k, pad_v, out, out_column, lse, scale, memory_frames, evict
) -> Tensor:
    _check.clip(q, k, v, real, pad_k, pad_v, memory_frames, evict)
    dq = _like(q)
    views = (_view(ClipView, tensor) for tensor in (dout, q, k, v, out, out_column, dq))
    shape, padding = _clip_shape(q, memory_frames, evict), _padding(real, pad_k, pad_v)
    _run("clip_attend_backward", ClipBackwardParams(shape, *views, lse.data_ptr(), padding, scale))
    return dq


def nms_mask(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    _reference_nms.check(boxes, scores, groups, threshold)
    keep = torch.full(boxes.shape[:1], 7, dtype=torch.uint8)
    pointers = (tensor.data_ptr() for tensor in (boxes, scores, groups))
    codes = _CODES[boxes.dtype], _CODES[scores.dtype]
    _run("nms", NmsArgs(*pointers, *codes, scores.stride(0), groups.stride(0), len(boxes), threshold, keep.data_ptr()))
    assert bool((keep <= 1).all())
    return keep.bool()
