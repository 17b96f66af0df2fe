"""What the CUDA ops and the reference are told alike, and how near they must be.

For the kernels on a GPU, and for their source played by the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

import append_cases
import helpers
from helpers import BF16, FP8, FP32, NAN, STRIDED
from svm_ext.ops import _check, _pool, _reference_nms, reference

FP16 = torch.float16
SCALE = 0.3
BIASES, MASKED = "biases", "masked"
_LEAST = -float("inf")


@dataclass(frozen=True)
class Attend:
    """One memory and one kind of query; the defaults are the plainest case of the tuned kernel."""

    q: torch.dtype = BF16
    pool: torch.dtype = BF16
    side: int = 14
    dim: int = 64
    streams: int = 2
    windows: int = 1
    heads: int = 1
    frames: int = 3
    counts: tuple[int, ...] = (2, 7)  # frames that each stream has seen
    real: tuple[tuple[int, int], ...] | None = None  # rows and columns of each window
    padding: str = BIASES  # what padded tokens are, where there are some
    ids: tuple[int, ...] | None = None
    strides: str = (
        "projection"  # views of its output, "odd" ones that 16 bytes do not divide, or a way of helpers.STRIDED
    )
    scale: float = SCALE
    factor: float = 2  # of the tolerance rule

    def __str__(self) -> str:
        return _told(self, Attend())


def _told(case: Any, plain: Any) -> str:
    """What sets a case apart, as the name of a test."""
    told = [f"{name}={value}" for name, value in vars(case).items() if value != getattr(plain, name)]
    return " ".join(told).replace("torch.", "") or "plain"


SMALL = Attend(side=5, dim=32)
PADS = ((14, 9), (3, 14), (1, 1), (0, 5), (7, 0))
ATTENDS = [
    *(Attend(q=q, pool=pool) for q in (BF16, FP16, FP32) for pool in (BF16, FP16)),
    *(Attend(side=side, dim=dim) for dim in (32, 96, 128) for side in (14, 7)),
    *(Attend(side=side) for side in (1, 5, 8, 13, 15, 16)),
    *(Attend(side=16, dim=dim, pool=FP16, q=FP16) for dim in (32, 96, 128)),
    Attend(windows=5, real=PADS),
    Attend(windows=5, real=PADS, padding=MASKED),
    Attend(windows=2, real=((9, 16), (16, 3)), side=16, dim=128),
    Attend(streams=3, counts=(0, 1, 40), windows=2, heads=2, side=7),
    Attend(streams=3, counts=(5, 1, 3), ids=(2, 0)),
    Attend(streams=3, counts=(5, 1, 3), ids=(1, 1, 2), side=7),
    Attend(ids=()),
    *(replace(SMALL, strides=strides) for strides in ("odd", *STRIDED)),
    *(replace(SMALL, scale=scale, factor=8) for scale in (-SCALE, 0.0, 10.0, -10.0)),
]
# What no kernel with tensor cores takes.
ANY = [
    *(replace(SMALL, q=q, pool=FP32) for q in (FP32, BF16, FP16)),
    Attend(q=FP32, pool=FP32, counts=(2, 1), frames=2),
    Attend(q=FP32, pool=FP32, side=7, windows=3, real=((7, 3), (2, 7), (0, 5))),
    Attend(side=17, counts=(1, 2), frames=2),
    *(replace(SMALL, dim=dim) for dim in (5, 40, 200, 512)),
    replace(SMALL, q=FP32, pool=FP32, strides="dim_outermost", scale=-SCALE),
]


# Pools of fp8, on tensor cores and not.
CODED = Attend(pool=FP8)
FEW_CODES = replace(CODED, side=5, dim=32)
FP8_ATTENDS = [
    *(replace(CODED, q=q) for q in (BF16, FP16, FP32)),
    *(replace(CODED, side=side, dim=dim) for dim in (32, 96, 128) for side in (14, 7)),
    *(replace(CODED, side=side) for side in (1, 8, 13, 15, 16)),
    *(replace(CODED, side=16, dim=dim) for dim in (32, 96, 128)),
    replace(CODED, windows=5, real=PADS),
    replace(CODED, windows=5, real=PADS, padding=MASKED),
    replace(CODED, q=FP32, side=7, windows=3, real=((7, 3), (2, 7), (0, 5))),
    replace(CODED, streams=3, counts=(0, 1, 40), windows=2, heads=2, side=7),
    replace(CODED, streams=3, counts=(5, 1, 3), ids=(1, 1, 2), side=7),
    replace(CODED, ids=()),
    *(replace(FEW_CODES, strides=strides) for strides in ("odd", *STRIDED)),
    *(replace(FEW_CODES, scale=scale, factor=8) for scale in (-SCALE, 0.0, 10.0)),
    *(replace(FEW_CODES, dim=dim) for dim in (5, 40, 200)),
    replace(CODED, side=17, counts=(1, 2), frames=2),
]


def placed(x: Tensor, device: torch.device) -> Tensor:
    """Move a tensor with its strides and whatever lies between its numbers."""
    numbers = x.untyped_storage().nbytes() // x.element_size()
    return x.as_strided((numbers,), (1,), 0).to(device).as_strided(x.shape, x.stride(), x.storage_offset())


def _size(case: Attend) -> Any:
    return helpers.size(case.streams, case.windows, case.heads, case.side, case.frames, case.dim)


def _on(memory: helpers.Memory, device: torch.device) -> helpers.Memory:
    return helpers.Memory(*(x.to(device) for x in (memory.k, memory.v, memory.cursor, memory.step)))


def _numbers(x: tuple[Any, ...] | None, device: torch.device, dtype: torch.dtype) -> Tensor | None:
    return None if x is None else torch.tensor(x, dtype=dtype, device=device)


@dataclass(frozen=True)
class Given:
    """A case with its numbers, on a device."""

    memory: helpers.Memory
    q: Tensor
    dout: Tensor
    streams: Tensor | None
    real: Tensor | None
    pads: tuple[Tensor | None, Tensor | None]

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What an attend is given between q and the scale."""
        return *self.memory.pools, self.streams, self.real, *self.pads


def given(case: Attend, device: torch.device) -> Given:
    """Random numbers; NaN wherever nobody may read."""
    size = _size(case)
    real = _numbers(case.real, torch.device("cpu"), torch.int32)
    memory = helpers.filled_memory(size, list(case.counts), case.pool, "tokens", real)
    batch = case.streams if case.ids is None else len(case.ids)
    q, dout = _queries(case, size, batch)
    pad_type = BF16 if case.pool == FP8 else case.pool
    pads = helpers.pads(size, pad_type) if case.real and case.padding == BIASES else (None, None)
    return Given(
        _on(memory, device),
        placed(q, device),
        placed(dout, device),
        _numbers(case.ids, device, torch.int64),
        None if real is None else real.to(device),
        tuple(None if pad is None else pad.to(device) for pad in pads),
    )


def _queries(case: Attend, size: Any, batch: int) -> tuple[Tensor, Tensor]:
    """q and dout, [B*W, H, N, D]."""
    if case.strides == "odd":
        q, _, dout = helpers.fused(size, case.q, batch)
        return q, dout
    if case.strides == "projection":
        fused = torch.randn(batch * case.windows, case.side**2, 2, case.heads, case.dim).to(case.q)
        q, dout = fused.permute(2, 0, 3, 1, 4)
        return q, dout
    return tuple(STRIDED[case.strides](helpers.tokens(size, case.q, batch)) for _ in range(2))


def check_attend(ops: Any, case: Attend, device: torch.device) -> tuple[Tensor, ...]:
    """Forward, what it saves, and gradient against the fp64 oracle; returns the kernels' results."""
    it = given(case, device)
    options = dict(streams=it.streams, real=it.real, pad=it.pads, scale=case.scale)
    results = ops.memory_attend(it.q, *it.arguments, case.scale, True)
    truth, plain = helpers.oracle_attend(it.q, it.memory, **options), helpers.plain_attend(it.q, it.memory, **options)
    for what, ours, ref, rough in zip(("out", "out_column", "lse"), results, truth, plain, strict=True):
        helpers.assert_close(ours, ref, rough, what, case.factor)
    only, column, lse = ops.memory_attend(it.q, *it.arguments, case.scale, False)
    assert column is None
    assert lse is None
    helpers.assert_same(only, results[0], "without a backward")
    dq = ops.memory_attend_backward(it.dout, it.q, *it.arguments, *results, case.scale)
    ref, rough = (f(it.dout, it.q, it.memory, **options) for f in (helpers.oracle_gradient, helpers.plain_gradient))
    helpers.assert_close(dq, ref, rough, "dq", case.factor)
    return (*results, dq)


def check_senseless(ops: Any, case: Attend, device: torch.device) -> None:
    """Values that nobody can check on a GPU: what they name is empty, what they count ends at the window."""
    it = given(replace(case, streams=4, counts=(2, 1, 3, 2), ids=None), device)
    it.memory.cursor[3, ..., 0] = -5
    ids = torch.tensor([1, 9, -1, 3], device=device)
    out, column, lse = ops.memory_attend(it.q, *it.memory.pools, ids, None, None, None, SCALE, True)
    dq = ops.memory_attend_backward(it.dout, it.q, *it.memory.pools, ids, None, None, None, out, column, lse, SCALE)
    rows = case.windows
    assert (out[rows:] == 0).all()
    assert (dq[rows:] == 0).all()
    assert (lse[rows:] == _LEAST).all()
    # The same batch: a split of the work depends on its size, and the last bits on the split.
    sensible = ops.memory_attend(it.q, *it.memory.pools, ids[:1].expand(4).contiguous(), None, None, None, SCALE, True)
    helpers.assert_same(out[:rows], sensible[0][:rows])
    for wrong, right in (((99, -7), (case.side, 0)), ((-1, 99), (0, case.side)), ((99, 99), (case.side, case.side))):
        found, expected = (
            ops.memory_attend(it.q, *it.memory.pools, ids, real, None, None, SCALE, True)
            for real in (_numbers((sides,) * case.windows, device, torch.int32) for sides in (wrong, right))
        )
        for a, b in zip(found, expected, strict=True):
            helpers.assert_same(a, b)


STEP = append_cases.Case(
    size=append_cases.PLAIN.size._replace(streams=2, windows=1, heads=1, side=14, dim=64),
    frame_type=BF16, pool_type=BF16, strides="qkv",
)  # fmt: skip
LITTLE = replace(STEP, size=STEP.size._replace(streams=3, windows=2, heads=2, side=4, dim=32))
STEPS = [
    *(replace(STEP, evict=evict) for evict in ("merge", "fifo", "clear")),
    replace(STEP, size=STEP.size._replace(windows=3), real=((14, 5), (3, 14), (0, 9))),
    *(replace(LITTLE, frame_type=frame, pool_type=pool) for frame in (BF16, FP16, FP32) for pool in (BF16, FP16, FP32)),
    *(replace(LITTLE, size=LITTLE.size._replace(frames=frames)) for frames in (1, 2, 5)),
    *(replace(LITTLE, size=LITTLE.size._replace(side=side, dim=dim)) for side, dim in ((7, 64), (5, 96), (4, 128))),
    replace(LITTLE, evict="fifo", strides="odd"),
    replace(LITTLE, evict="clear", streams=(2, 0)),
    replace(LITTLE, streams=(1,), real=((4, 4), (2, 3))),
    replace(LITTLE, size=LITTLE.size._replace(side=3, dim=12)),
    replace(LITTLE, streams=()),
]


FP8_STEPS = [
    *(replace(STEP, pool_type=FP8, evict=evict) for evict in ("merge", "fifo", "clear")),
    *(replace(LITTLE, pool_type=FP8, frame_type=frame) for frame in (BF16, FP16, FP32)),
    replace(LITTLE, pool_type=FP8, size=LITTLE.size._replace(side=5, dim=96), real=((5, 2), (3, 5))),
    replace(LITTLE, pool_type=FP8, streams=(2, 0), evict="fifo"),
    replace(LITTLE, pool_type=FP8, streams=()),
]


def check_not_finite(ops: Any, device: torch.device) -> None:
    """A frame with NaN or infinity makes NaN of all that its head attends, and nothing of the other heads."""
    case = replace(LITTLE, pool_type=FP8, size=LITTLE.size._replace(streams=1, windows=1, side=7))
    generator = torch.Generator().manual_seed(3)
    for which, bad in ((0, NAN), (1, NAN), (0, float("inf")), (1, -float("inf"))):
        memory = append_cases.Memory(case, device)
        (q, _), frame = (append_cases.new_frame(case, generator, device) for _ in range(2))
        frame = [x.clone() for x in frame]
        frame[which][0, 1, 3, 5] = bad
        memory.append(ops.memory_append_, *frame)
        out = ops.memory_attend(q, *memory.pools, memory.cursor, None, None, None, None, SCALE, False)[0]
        assert bool(out[0, 0].isfinite().all())
        assert bool(out[0, 1].isnan().all())


EXPONENTS = (*range(-117, -100, 4), -14, -9, -8, -7, -1, 0, 1, 7, 8, 100, 118)


def check_all_codes(ops: Any, device: torch.device, exponents: tuple[int, ...] = EXPONENTS) -> None:
    """Every code under many exponents comes through: one token attends to itself alone, and its value is its result."""
    for exponent in exponents:
        of = helpers.size(streams=1, windows=1, heads=8, side=1, frames=1, dim=32)
        memory = helpers.filled_memory(of, [1], FP8, "tokens")
        for pool in (memory.k, memory.v):
            codes = torch.arange(256, dtype=torch.uint8).view(pool.shape)
            pool.view(torch.uint8).copy_(codes.masked_fill(codes % 128 == 127, 0))
        memory.cursor[..., 2:].view(torch.int32).fill_(exponent)
        expected = (
            2 * _pool.read(memory.v, None, _pool.exponents_of(memory.k, memory.cursor)[1]).view(1, 8, 1, 32).float()
        )
        it = _on(memory, device)
        for dtype in (BF16, FP32):
            q = torch.zeros(1, 8, 1, 32, dtype=dtype, device=device)
            out = ops.memory_attend(q, *it.pools, None, None, None, None, SCALE, False)[0]
            helpers.assert_same(out.float().cpu(), expected, f"exponent {exponent}")


def check_steps(ops: Any, case: append_cases.Case, device: torch.device, factor: float = 2) -> None:
    """Step until the ring has gone round twice, some frames twice; pools must be equal bit for bit."""
    generator = torch.Generator().manual_seed(7)
    ours, theirs = (append_cases.Memory(case, device) for _ in range(2))
    pads = helpers.pads(case.size, BF16 if case.pool_type == FP8 else case.pool_type) if case.real else (None, None)
    pads = tuple(None if pad is None else pad.to(device) for pad in pads)
    for frame in range(2 * case.size.frames + 2):
        for _ in range(1 + (frame % 3 == 1)):  # every third frame comes twice: the second replaces the first
            q, _ = append_cases.new_frame(case, generator, device)
            k, v = append_cases.new_frame(case, generator, device)
            theirs.append(reference.memory_append_, k, v)
            options = ours.streams, ours.real, *pads, SCALE, _check.EVICTIONS[case.evict]
            out = ops.stream_step_(*ours.pools, ours.cursor, q, k, v, ours.step, *options)
            append_cases.assert_same(ours, theirs)
            memory = helpers.Memory(*theirs.pools, theirs.cursor, theirs.step)
            seen = dict(streams=ours.streams, real=ours.real, pad=pads, scale=SCALE)
            truth, plain = (attend(q, memory, **seen)[0] for attend in (helpers.oracle_attend, helpers.plain_attend))
            helpers.assert_close(out, truth, plain, factor=factor)
        for memory in (ours, theirs):  # streams run apart: the last one skips every other step
            memory.step += 1
            memory.step[-1] += frame % 2


@dataclass(frozen=True)
class Clip:
    """A clip; the defaults are the plainest case of the tuned kernel."""

    dtype: torch.dtype = BF16
    side: int = 14
    dim: int = 64
    batch: int = 1
    frames: int = 4
    windows: int = 1
    heads: int = 1
    memory_frames: int = 3
    evict: str = "fifo"
    real: tuple[tuple[int, int], ...] | None = None
    padding: str = BIASES
    strides: str = "projection"
    scale: float = SCALE

    def __str__(self) -> str:
        return _told(self, Clip())


FEW = Clip(side=5, dim=32, batch=2, frames=5, windows=2, heads=2)
CLIPS = [
    *(Clip(dtype=dtype, evict=evict) for dtype in (BF16, FP16) for evict in ("fifo", "clear")),
    *(replace(FEW, memory_frames=frames, evict=evict) for frames in (1, 2, 40) for evict in ("fifo", "clear")),
    *(replace(FEW, dim=dim, side=7, heads=1) for dim in (64, 96, 128)),
    replace(FEW, memory_frames=2**40),
    replace(FEW, dtype=FP32),
    replace(FEW, dtype=FP32, dim=40, evict="clear"),
    *(replace(FEW, real=((5, 3), (2, 5)), padding=padding) for padding in (BIASES, MASKED)),
    *(replace(FEW, strides=strides, heads=1) for strides in STRIDED),
]


def _clip_tensors(case: Clip) -> list[Tensor]:
    """q, k, v and dout, [B, T, W, H, N, D]."""
    sizes = (case.batch, case.frames, case.windows, case.side**2)
    if case.strides == "projection":  # [B, T, W, N, 4, H, D]
        return list(torch.randn(*sizes, 4, case.heads, case.dim).to(case.dtype).permute(4, 0, 1, 2, 5, 3, 6))
    plain = torch.randn(4, *sizes[:3], case.heads, sizes[3], case.dim).to(case.dtype)
    return [STRIDED[case.strides](x) for x in plain]


def check_clip(ops: Any, case: Clip, device: torch.device) -> tuple[Tensor, ...]:
    """Forward and gradient against the fp64 oracle; returns the kernels' results."""
    q, k, v, dout = (placed(x, device) for x in _clip_tensors(case))
    real = _numbers(case.real, device, torch.int32)
    size = helpers.size(case.batch, case.windows, case.heads, case.side, case.frames, case.dim)
    pads = helpers.pads(size, case.dtype) if case.real and case.padding == BIASES else (None, None)
    pads = tuple(None if pad is None else pad.to(device) for pad in pads)
    settings = case.scale, case.memory_frames, _check.EVICTIONS[case.evict]
    results = ops.clip_attend(q, k, v, real, *pads, *settings, True)
    dq = ops.clip_attend_backward(dout, q, k, v, real, *pads, *results, *settings)
    helpers.assert_same(ops.clip_attend(q, k, v, real, *pads, *settings, False)[0], results[0], "without a backward")
    wide = [x.double() for x in (q, k, v, dout)]
    wide_pads = [None if pad is None else pad.double() for pad in pads]
    truth = _clip_reference(*wide, real, wide_pads, settings, torch.float64)
    plain = _clip_reference(q, k, v, dout, real, pads, settings, case.dtype)
    names = "out", "out_column", "lse", "dq"
    for what, ours, ref, rough in zip(names, (*results, dq), truth, plain, strict=True):
        helpers.assert_close(ours, ref, rough, what)
    return (*results, dq)


def _clip_reference(q, k, v, dout, real, pads, settings, dtype) -> tuple[Tensor, ...]:
    results = reference.clip_attend(q, k, v, real, *pads, *settings, True, dtype=dtype)
    return *results, reference.clip_attend_backward(dout, q, k, v, real, *pads, *results, *settings, dtype=dtype)


# boxes, groups
BOXES = [(0, 1), (1, 1), (63, 1), (64, 1), (65, 2), (200, 1), (200, 7), (333, 3), (130, 130)]


def check_nms(ops: Any, count: int, groups: int, dtype: torch.dtype, threshold: float, device: torch.device) -> None:
    """Clusters with equal scores, NaN and empty boxes; the mask must be the reference's."""
    middle = torch.rand(count, 2) * torch.tensor([90.0, 60.0])
    half = torch.rand(count, 2) * 12 - 0.5  # a few have no area
    boxes = torch.cat([middle - half, middle + half], 1).to(dtype)
    scores = (torch.rand(2 * count) * 20).round().to(dtype) / 20
    if count > 20:
        boxes[7, 1] = boxes[11, 2] = scores[2 * 13] = scores[2 * 17] = NAN
    ids = torch.randint(groups, (3 * count,)) * 2**33 - 2**40
    boxes, scores, ids = boxes.to(device), placed(scores[::2], device), placed(ids[1::3], device)
    expected = _reference_nms.nms_mask(boxes, scores, ids, threshold)
    assert torch.equal(ops.nms_mask(boxes, scores, ids, threshold), expected)
