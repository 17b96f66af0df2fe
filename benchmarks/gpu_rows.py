"""What is measured of the CUDA kernels, and how fast they are meant to be on one H100.

All figures are medians of turns within one process. What is timed is the GPU: launches wait for it, not it for them.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

import svm_ext
from svm_ext import backend, ops
from svm_ext.bench import inputs, machine, refcheck, report
from svm_ext.bench.case import Case, Contender, Room, Shape, short_name
from svm_ext.bench.cases import entry, memory_attend, stream_step
from svm_ext.bench.measure import Plan, Timing, cpu_clock, cuda_clock, interleave
from svm_ext.bench.rows import Failure, Row, run_entry
from svm_ext.bench.targets import Target
from svm_ext.ops import _pool

# (comparison, limit, unit)
GOALS = {
    "attend, share of a copy": (">=", 90.0, "%"),
    "attend over sdpa": (">=", 1.9, "x"),
    "attend over eager": (">=", 10.0, "x"),
    "attend over flex": (">=", 5.0, "x"),
    "step over attend": ("<=", 1.08, "x"),
    "attend in a graph": ("<=", 12.0, "us"),
    "fp8 pool over bf16": (">=", 1.5, "x"),
    "clip both ways over eager": (">=", 8.0, "x"),
    "model, frames a second": (">=", 100.0, "1/s"),
    "model, full memory over 1 frame": ("<=", 1.25, "x"),
}
_CALLS = 20  # of one graph
_FP8_PRECISION = 0.06  # of an attend with a pool of fp8 against one of bf16, root mean squares
_PRECISION = 0.1  # of a bf16 model against the same with plain torch's attention, relative to the largest number

Found = Row | Target | Failure


@dataclass(frozen=True)
class Scale:
    """At which sizes to measure; the goals are meant for these."""

    device: str = "cuda"
    dtype: torch.dtype = torch.bfloat16
    units: tuple[int, ...] = (336, 672)
    frames: int = 32
    few_units: int = 12  # a picture of 224 x 224
    few_frames: int = 16
    clip_units: int = 96  # eight clips of 224 x 224
    clip_frames: int = 16
    model: str = "svit_base_mot"
    picture: tuple[int, int] = (800, 1440)
    plan: Plan = Plan(seconds=2.0, least=10, most=50)

    def shape(self, units: int, frames: int) -> Shape:
        """A memory of these sizes."""
        return Shape(units, frames, self.dtype, device=self.device)

    @property
    def clock(self) -> Callable[[Callable[[], Any]], float]:
        """What times a call."""
        return cuda_clock if self.device == "cuda" else cpu_clock


def results(scale: Scale, command: str) -> report.Results:
    """Return results that are still empty."""
    return report.Results(machine.describe(scale.device, command), machine.bandwidth(scale.device, scale.clock))


def measure(scale: Scale) -> Iterator[Found]:
    """Measure everything, each as it comes; what fails leaves the rest alone."""
    parts = [_attend, _step, _few, _fp8, _clip, _model]
    triton = backend.announced().get("triton")
    if triton and scale.device in triton.devices:
        parts.append(_triton)
    for part in parts:
        try:
            yield from part(scale)
        except refcheck.WrongResultError as error:
            yield Failure(part.__name__.strip("_"), str(error), True)
        except (NotImplementedError, MemoryError, RuntimeError) as error:
            yield Failure(part.__name__.strip("_"), str(error).splitlines()[0], False)
        _let_go(scale)


def _let_go(scale: Scale) -> None:
    gc.collect()
    if scale.device == "cuda":
        torch.cuda.empty_cache()


def _target(what: str, size: str, measured: float | None, scale: Scale, note: str = "") -> Target:
    return Target(what, short_name(scale.dtype), size, *GOALS[what], measured, note)


def _size(shape: Shape) -> str:
    return f"{shape.units} units {shape.frames} frames"


def _row(op: str, shape: Shape, scale: Scale, wanted: set[str], goals: dict[str, str]) -> Iterator[Found]:
    """Measure a row and take one figure a goal from it: how often ours fits into a baseline."""
    row = run_entry(entry(op, shape), scale.plan, scale.device, wanted)
    yield row
    for what, baseline in goals.items():
        if isinstance(row, Failure):
            yield _target(what, _size(shape), None, scale, row.reason)
        elif baseline in row.baselines:
            percent = 100 if GOALS[what][2] == "%" else 1
            yield _target(what, _size(shape), percent * row.baselines[baseline].ratio, scale)
        else:
            yield _target(what, _size(shape), None, scale, row.left_out.get(baseline, "not here"))
    _let_go(scale)


def _attend(scale: Scale) -> Iterator[Found]:
    """The largest memories, against a copy of as many bytes and against what torch has."""
    for index, units in enumerate(scale.units):
        goals = {"attend, share of a copy": "copy", "attend over sdpa": "sdpa"}
        if index == 0:
            goals |= {"attend over eager": "eager", "attend over flex": "flex"}
        yield from _row("memory_attend", scale.shape(units, scale.frames), scale, {*goals.values()}, goals)


def _step(scale: Scale) -> Iterator[Found]:
    """A step against an attend of as many frames, in turns."""
    for units in scale.units:
        shape = scale.shape(units, scale.frames)
        room = Room(machine.available_bytes(scale.device), wanted=())
        cases = {"step": stream_step.build(shape, room), "attend": memory_attend.build(shape, room)}
        timings = _turns({name: _checked(case) for name, case in cases.items()}, scale)
        step, attend = timings["step"].ms, timings["attend"].ms
        yield _target("step over attend", _size(shape), step / attend, scale, f"{step:.4g} over {attend:.4g} ms")
        del cases
        _let_go(scale)


def _checked(case: Case) -> Contender:
    """Our op, after its results were found right."""
    refcheck.check(case, lambda contender: contender.run())
    return case.ours


def _turns(contenders: dict[str, Contender], scale: Scale) -> dict[str, Timing]:
    named = [replace(contender, name=name) for name, contender in contenders.items()]
    interleave(named, dict.fromkeys(contenders, 2), clock=scale.clock)
    return interleave(named, dict.fromkeys(contenders, scale.plan.most), clock=scale.clock)[0]


def _few(scale: Scale) -> Iterator[Found]:
    """So few units that each is done by several blocks; a graph of many calls, so that launches cost what they must."""
    shape = scale.shape(scale.few_units, scale.few_frames)
    room = Room(machine.available_bytes(scale.device), wanted=())
    for op, build in (("attend", memory_attend.build), ("step", stream_step.build)):
        case = build(shape, room)
        run = captured(_checked(case).run, scale.device, _CALLS)
        us = 1e3 * _turns({op: Contender(op, run)}, scale)[op].ms / _CALLS
        if op == "attend":
            yield _target("attend in a graph", _size(shape), us, scale)
        else:
            yield _told("step in a graph", _size(shape), us, "us", scale)


def _fp8(scale: Scale) -> Iterator[Found]:
    name = backend.backend_for(scale.device)
    shape, gain, told = _over_bf16(scale, "reference" if name == "cpu" else name)
    yield _target("fp8 pool over bf16", _size(shape), gain, scale, told)


def _over_bf16(scale: Scale, name: str) -> tuple[Shape, float, str]:
    """Return how much faster the same frames are attended in a pool of fp8: half of the bytes, and codes to decode."""
    shape = scale.shape(scale.units[0], scale.frames)
    memory, (q, _, _) = inputs.memory(shape), inputs.frame(shape)
    coded = _in_fp8(memory)

    def attend(some: inputs.Memory, by: str) -> Tensor:
        with svm_ext.use_backend(by):
            return ops.memory_attend(q, *some.pools)

    whole = "auto" if name == "reference" else name
    runs = {"fp8": lambda: attend(coded, name), "bf16": lambda: attend(memory, whole)}
    found, right = (run().float() for run in runs.values())
    error = ((found - right).square().mean() / right.square().mean()).sqrt().item()
    if not error <= _FP8_PRECISION:
        raise refcheck.WrongResultError(f"fp8: {error:.2g} off, allowed {_FP8_PRECISION:g}; it is not measured")
    timings = _turns({kind: Contender(kind, run) for kind, run in runs.items()}, scale)
    fp8, bf16 = timings["fp8"].ms, timings["bf16"].ms
    return shape, bf16 / fp8, f"{bf16:.4g} over {fp8:.4g} ms, results {error:.1%} apart"


def _in_fp8(memory: inputs.Memory) -> inputs.Memory:
    """Return a full memory with the same frames in fp8."""
    size, device = _pool.size_of(memory.k), memory.k.device
    pools = _pool.empty_pool(size, torch.float8_e4m3fn, device)
    cursor = _pool.empty_cursor(size, device, torch.float8_e4m3fn)
    cursor[..., :2] = memory.cursor
    for stream in range(size.streams):
        row = torch.tensor([stream], device=device)
        for new, old, exponents in zip(pools, (memory.k, memory.v), _pool.exponents_of(pools[0], cursor), strict=True):
            _pool.write_slots(new, row, _pool.read_slots(old, row, size.frames), exponents)
    return inputs.Memory(*pools, cursor, memory.step)


def _told(what: str, size: str, measured: float, unit: str, scale: Scale) -> Target:
    """A figure without a goal of its own."""
    return Target(what, short_name(scale.dtype), size, ">=", 0.0, unit, measured)


def captured(run: Callable[[], Any], device: str, calls: int = 1) -> Callable[[], Any]:
    """Return what does so many calls: on a GPU one replay of a graph."""

    def loop() -> Any:
        for _ in range(calls):
            out = run()
        return out

    if device != "cuda":
        return loop
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        loop()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = loop()

    def replay() -> Any:
        graph.replay()
        return out

    return replay


def _clip(scale: Scale) -> Iterator[Found]:
    """A clip's forward and gradient, against frame by frame with autograd."""
    shape = scale.shape(scale.clip_units, scale.clip_frames)
    yield from _row("clip_attend", shape, scale, {"eager", "sdpa", "copy"}, {"clip both ways over eager": "eager"})


@torch.no_grad()
def _model(scale: Scale) -> Iterator[Found]:
    """One frame of the detector up to the maps of its head, captured; with a full memory and with this frame alone."""
    torch.manual_seed(0)
    detector = svm_ext.create_model(scale.model).eval().to(scale.device, scale.dtype)
    picture = torch.randn(1, 3, *scale.picture, device=scale.device, dtype=scale.dtype)
    looks = {}
    for frames in (scale.frames, 1):
        memory = detector.new_memory(1, scale.picture, frames=frames)
        _compare(detector, picture, memory)
        for _ in range(frames):
            detector.raw(picture.normal_(), memory)
        run = captured(lambda memory=memory: detector.raw(picture, memory), scale.device)
        looks[frames] = Contender(str(frames), run)
    timings = _turns({str(frames): look for frames, look in looks.items()}, scale)
    full, single = timings[str(scale.frames)].ms, timings["1"].ms
    size = f"{scale.picture[0]} x {scale.picture[1]}, {scale.frames} frames"
    note = f"{full:.4g} ms; {single:.4g} ms with 1 frame"
    yield _target("model, frames a second", size, 1e3 / full, scale, note)
    yield _target("model, full memory over 1 frame", size, full / single, scale)


def _compare(detector: torch.nn.Module, picture: Tensor, memory: svm_ext.StreamMemory) -> None:
    """Two frames with our kernels and with plain torch's must agree; the memory is empty again then."""
    found = []
    for name in ("auto", "reference"):
        with svm_ext.use_backend(name):
            memory.reset()
            detector.raw(picture, memory)
            found.append(torch.cat([x.flatten() for level in detector.raw(picture, memory) for x in _tensors(level)]))
    memory.reset()
    error = ((found[0] - found[1]).abs().max() / found[1].abs().max()).item()
    if not error <= _PRECISION:
        raise refcheck.WrongResultError(f"model: {error:.2g} off, allowed {_PRECISION:g}; it is not measured")


def _tensors(level: Any) -> list[Tensor]:
    return [level] if isinstance(level, Tensor) else [x for part in level for x in _tensors(part)]


def _triton(scale: Scale) -> Iterator[Found]:
    """The other back end, on the same rows."""
    for op in ("memory_attend", "stream_step"):
        with svm_ext.use_backend("triton"):
            found = run_entry(
                entry(op, scale.shape(scale.units[0], scale.frames)), scale.plan, scale.device, {"copy", "sdpa"}
            )
        label = f"{op} (triton)"
        yield replace(found, name=f"{label}: {found.name}") if isinstance(found, Failure) else replace(found, op=label)
        _let_go(scale)
    shape, gain, _ = _over_bf16(scale, "triton")
    yield _told("fp8 pool over bf16 (triton)", _size(shape), gain, "x", scale)
