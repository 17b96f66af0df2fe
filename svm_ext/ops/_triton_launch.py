"""What the launchers of the Triton kernels share: where they run, what they take, and how a launch is planned.

Triton itself is imported by the first launch.
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

if TYPE_CHECKING:
    from ..kernels_triton.heuristics import Gpu, Launch

TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
LOG2E = math.log2(math.e)
_WITHIN_UNIT = {4: (2, 3), 6: (1, 4, 5), 7: (4, 5, 6)}  # the dims of tokens, clips and pools that a unit's offsets span
_FAR = 1 << 31  # numbers: what 32 bits can count


def installed() -> bool:
    """Return whether there is a Triton to import; it is not imported for that."""
    return find_spec("triton") is not None


def devices() -> tuple[str, ...]:
    """Return the device types whose tensors Triton takes in this process: the CPU's through its interpreter."""
    return ("cuda", "cpu") if os.environ.get("TRITON_INTERPRET") == "1" else ("cuda",)


@cache
def kernels_of(name: str) -> Any:
    """Return one module of the kernels."""
    return import_module(f"svm_ext.kernels_triton.{name}")


@cache
def gpu_of(device: torch.device) -> Gpu:
    gpu = kernels_of("heuristics").Gpu
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
    cursor: int  # numbers of a unit's cursor


def sizes_of(k_pool: Tensor) -> Sizes:
    """Return the sizes of a pool."""
    size = _pool.size_of(k_pool)
    return Sizes(size.streams, size.windows, size.heads, size.frames, _pool.cursor_width(size.frames, k_pool.dtype))


def codes_or_numbers(*pools: Tensor) -> tuple[Tensor, ...]:
    """Return pools as the kernels read them: codes of fp8 are bytes."""
    return tuple(map(_fp8.raw, pools))


class Work(NamedTuple):
    """How an attention is launched: the type of its products, its units, and what the heuristics chose."""

    type: torch.dtype
    units: int
    launch: Launch

    @property
    def by_lines(self) -> bool:
        """Whether window or head are too large for the kernels that attend both planes in one pass."""
        return isinstance(self.launch.plan, kernels_of("heuristics").LinePlan)

    @property
    def options(self) -> dict[str, Any]:
        """What the kernel is compiled for."""
        return {"PLAN": self.launch.plan, "TYPE": triton_type(self.type), "num_warps": self.launch.num_warps}


def triton_type(dtype: torch.dtype) -> Any:
    language = import_module("triton.language")
    return {"fp32": language.float32, "bf16": language.bfloat16, "fp16": language.float16}[TYPES[dtype]]


def check_taken(dim: int, **tensors: Tensor) -> None:
    """Check what only these kernels ask for."""
    for name, tensor in tensors.items():
        if tensor.dtype not in TYPES and not (tensor.dtype == _fp8.E4M3 and name == "k_pool"):
            got = _check.name_of(tensor.dtype)
            raise ValueError(f"{name}: expected float32, bfloat16 or float16 for Triton, got {got}; convert it")
    most = kernels_of("heuristics").MOST_DIM
    if dim > most:
        raise ValueError(f"q: expected a head dim of at most {most} for Triton, got {dim}; use more heads")


def check_layout(k_pool: Tensor) -> None:
    if _pool.layout_of(k_pool) != "tokens":
        raise ValueError(
            "k_pool: expected the GPU's layout [S, W, H, n, T, n, D] for Triton,"
            f" got shape {list(k_pool.shape)}; make the memory on the GPU"
        )


def far_apart(*tensors: Tensor) -> bool:
    """Return whether two numbers of one unit (in a pool: of one row) may lie so far apart that 32 bits cannot tell."""
    return any(
        sum((x.shape[dim] - 1) * x.stride(dim) for dim in _WITHIN_UNIT[x.ndim]) + 1 > _FAR for x in tensors if x.numel()
    )


def product_type(q: Tensor, *others: Tensor) -> torch.dtype:
    """Return the type in which queries and keys are multiplied: theirs, and fp32 where they differ.

    Codes of fp8 are exact in bf16, in which they meet queries of 16 bits. In Triton's interpreter fp32 takes the place
    of bf16, of which it would multiply the bit patterns.
    """
    types = {tensor.dtype for tensor in (q, *others)}
    if _fp8.E4M3 in types and q.dtype in (torch.bfloat16, torch.float16):
        types = {torch.bfloat16}
    product = types.pop() if len(types) == 1 else torch.float32
    return torch.float32 if q.is_cpu and product == torch.bfloat16 else product


def work_for(side: int, frames: int, units: int, *tensors: Tensor, far: bool, backward: bool = False) -> Work:
    """Plan an attention of `units` units, q first, over up to `frames` frames."""
    q, product = tensors[0], product_type(*tensors)
    gpu, dim, choose = gpu_of(q.device), q.shape[-1], kernels_of("heuristics")
    if not choose.one_pass(side, dim):
        return Work(product, units, choose.attend_any(gpu, side, dim, product.itemsize))
    sizes, coded = (units, side, max(frames, 1), dim, product.itemsize), any(x.dtype == _fp8.E4M3 for x in tensors)
    return Work(product, units, choose.attend(gpu, *sizes, backward=backward, coded=coded, far=far))


def placed(tensor: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    return tensor, tensor.stride()


def pair(a: Tensor | None, b: Tensor | None) -> tuple[Tensor, Tensor] | None:
    """Return both or none; they are contiguous, as the kernels read them."""
    return None if a is None or b is None else (a.contiguous(), b.contiguous())


def flat(tensor: Tensor | None) -> Tensor | None:
    """Return a small tensor as the kernels read it: contiguous."""
    return None if tensor is None else tensor.contiguous()


def room_for_splits(q: Tensor, work: Work) -> tuple[Tensor, Tensor] | None:
    """Return room for the column planes of a unit's splits, [units, splits, C, R, D] and [units, splits, C, R]."""
    plan, splits = work.launch.plan, work.launch.splits
    if splits == 1:
        return None
    side = kernels_of("heuristics").MOST_SIDE
    shape = (work.units, splits, side, side)
    return q.new_empty(*shape, plan.width, dtype=torch.float32), q.new_empty(shape, dtype=torch.float32)


def with_strides_of(out: Tensor, other: Tensor) -> Tensor:
    """Return `other` with the strides that `out` has: the forward pass made both alike."""
    return other if other.stride() == out.stride() else torch.empty_like(out).copy_(other)
