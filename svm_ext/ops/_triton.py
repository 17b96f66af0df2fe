"""Launches the Triton kernels: what the C++ side is to the CUDA kernels.

Arguments are checked as everywhere (shapes, types, devices); values that lie on a GPU nobody checks, and the kernels
ignore those that make no sense. Nothing is read back, so that every launch can be captured in a graph.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import _check, _fp8, _pool, _triton_any
from ._outputs import Results, empty_results, like_tokens
from ._triton_launch import (
    LOG2E,
    Work,
    check_layout,
    check_taken,
    codes_or_numbers,
    far_apart,
    flat,
    kernels_of,
    pair,
    placed,
    room_for_splits,
    sizes_of,
    with_strides_of,
    work_for,
)


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
    check_layout(k_pool)
    check_taken(size.dim, k=k, k_pool=k_pool)
    units = k.shape[0] * size.heads
    if not units:
        return
    numbers = k if k_pool.dtype == _fp8.E4M3 else k_pool  # what a thread holds: never codes
    far = far_apart(k, v, k_pool)
    launch = kernels_of("heuristics").append(size.side, size.dim, numbers.element_size(), far=far)
    with torch.cuda.device_of(k_pool):
        kernels_of("memory_append").memory_append_kernel[(units,)](
            *codes_or_numbers(k_pool, v_pool),
            cursor,
            placed(k),
            placed(v),
            step.contiguous(),
            flat(streams),
            flat(real),
            sizes_of(k_pool),
            ROWS=launch.plan.rows,
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
    check_layout(k_pool)
    check_taken(size.dim, q=q, k_pool=k_pool)
    out, column, lse = results = empty_results(q, for_backward)
    if not out.numel():
        return results
    work = work_for(size.side, size.frames, q.shape[0] * size.heads, q, k_pool, far=far_apart(q, k_pool))
    pools, memory = codes_or_numbers(k_pool, v_pool), (cursor, flat(streams), flat(real))
    pads, written = pair(pad_k, pad_v), (placed(out), column, lse)
    if work.by_lines:
        given = placed(q), *pools, *memory, pads, *written, sizes_of(k_pool), scale * LOG2E
        _triton_any.launch("memory_attend_any_kernel", q, work, *given)
        return results
    splits, sizes = room_for_splits(q, work), work.launch.splits
    written = *written, splits, sizes_of(k_pool)
    kernels, programs = kernels_of("memory_attend"), work.units * work.launch.parts
    with torch.cuda.device_of(q):
        kernels.memory_attend_kernel[(programs * sizes,)](
            placed(q), *pools, *memory, pads, *written, scale * LOG2E, SPLITS=sizes, **work.options
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
    check_layout(k_pool)
    check_taken(size.dim, q=q, k_pool=k_pool)
    dq = like_tokens(q)
    if not dq.numel():
        return dq
    far = far_apart(dout, q, k_pool, out)
    work = work_for(size.side, size.frames, q.shape[0] * size.heads, q, k_pool, far=far, backward=True)
    memory = *codes_or_numbers(k_pool, v_pool), cursor, flat(streams), flat(real), pair(pad_k, pad_v)
    forward = placed(out), with_strides_of(out, out_column), lse.contiguous()
    given = placed(dout), placed(q), *memory, *forward, placed(dq), sizes_of(k_pool), scale * LOG2E
    if work.by_lines:
        _triton_any.launch("memory_attend_any_backward_kernel", q, work, *given)
        return dq
    with torch.cuda.device_of(q):
        kernels_of("memory_attend").memory_attend_backward_kernel[(work.units * work.launch.parts,)](
            *given, **work.options
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
    """Append, then attend, in one launch; in two where programs share the dims of a unit, and for fp8."""
    _check.step(k_pool, v_pool, cursor, q, k, v, step, streams, real, pad_k, pad_v, evict)
    check_layout(k_pool)
    size = _pool.size_of(k_pool)
    check_taken(size.dim, q=q, k_pool=k_pool)
    out = like_tokens(q)
    if not out.numel():
        return out
    work = work_for(size.side, size.frames, q.shape[0] * size.heads, q, k_pool, far=far_apart(q, k, v, k_pool))
    # Two programs must not both append, and an append of fp8 must know all of a frame first.
    if work.by_lines or work.launch.parts > 1 or k_pool.dtype == _fp8.E4M3:
        memory_append_(k_pool, v_pool, cursor, k, v, step, streams, real, evict)
        return memory_attend(q, k_pool, v_pool, cursor, streams, real, pad_k, pad_v, scale, False)[0]
    frame, memory = tuple(map(placed, (q, k, v))), (step.contiguous(), flat(streams), flat(real))
    splits, chosen = room_for_splits(q, work), {"EVICT": evict, "SPLITS": work.launch.splits}
    written, kernels = (placed(out), splits, sizes_of(k_pool)), kernels_of("stream_step")
    rows, pads = kernels_of("heuristics").APPEND_ROWS, pair(pad_k, pad_v)
    with torch.cuda.device_of(q):
        kernels.stream_step_kernel[(work.units * work.launch.splits,)](
            k_pool, v_pool, cursor, *frame, *memory, pads, *written, scale * LOG2E, ROWS=rows, **chosen, **work.options
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
    check_taken(dim, q=q)
    units, far = batch * length * windows * heads, far_apart(q, k, *others)
    work = work_for(side, min(length, memory_frames), units, q, k, far=far, backward=backward)
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
    clip, settings = tuple(map(placed, (q, k, v))), (sizes, scale * LOG2E, min(memory_frames, q.shape[1]))
    given = *clip, flat(real), pair(pad_k, pad_v), placed(out), column, lse, *settings
    if work.by_lines:
        _triton_any.launch("clip_attend_any_kernel", q, work, *given, EVICT=evict)
        return results
    with torch.cuda.device_of(q):
        kernels_of("clip_attend").clip_attend_kernel[(work.units * work.launch.parts,)](
            *given, EVICT=evict, **work.options
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
    forward = placed(out), with_strides_of(out, out_column), lse.contiguous()
    clip, settings = tuple(map(placed, (dout, q, k, v))), (sizes, scale * LOG2E, min(memory_frames, q.shape[1]))
    given = *clip, flat(real), pair(pad_k, pad_v), *forward, placed(dq), *settings
    if work.by_lines:
        _triton_any.launch("clip_attend_any_backward_kernel", q, work, *given, EVICT=evict)
        return dq
    with torch.cuda.device_of(q):
        kernels_of("clip_attend").clip_attend_backward_kernel[(work.units * work.launch.parts,)](
            *given, EVICT=evict, **work.options
        )
    return dq
