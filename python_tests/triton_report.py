"""Compiles every Triton kernel without a GPU, as the launcher would launch it, and reads registers and spills.

    python python_tests/triton_report.py [TARGET ...]        (default: sm_80 sm_90 gfx942)

The launcher runs as it is, over tensors that have shapes only and for a GPU that is only named; every launch ends
after Triton's own compiler. A hot kernel that spills registers to memory on an NVIDIA target is a fault: it runs,
slowly, and nobody notices. The cache is left aside, so that the times are those of a first start.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from svm_ext.ops import _pool, _triton, _triton_nms

TARGETS = {  # name -> (kind, generation, threads of a warp, processors)
    "sm_80": ("cuda", 80, 32, 108),
    "sm_90": ("cuda", 90, 32, 132),
    "gfx942": ("hip", "gfx942", 64, 304),
}
META = torch.device("meta")
MODEL_FRAMES, MODEL_HEADS, SIDE = 32, 12, 14


@dataclass(frozen=True)
class Kernel:
    """What the assembler says of one kernel."""

    name: str
    case: str
    target: str
    registers: int
    spilled_bytes: int
    shared_bytes: int
    seconds: float

    @property
    def hot(self) -> bool:
        """Whether a frame of a model in bf16 with heads of 64 waits for it."""
        return self.case.startswith("bf16 64 ") and "merge" not in self.name


class _Driver:
    """A GPU that is only named: what Triton asks a driver before it compiles."""

    def __init__(self, target: Any) -> None:
        self.target = target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int | None = None) -> int:
        return 0

    def get_current_target(self) -> Any:
        return self.target

    def get_active_torch_device(self) -> torch.device:
        return META


@contextmanager
def named_gpu(target: str) -> Iterator[list[tuple[str, Any, float]]]:
    """Let launches end after the compiler, for this target; yields (name, kernel, seconds) of each."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.runtime.jit import JITFunction

    kind, arch, warp, processors = TARGETS[target]
    gpu = _triton._kernels("heuristics").Gpu(kind, arch if kind == "cuda" else 94, processors)
    compiled: list[tuple[str, Any, float]] = []
    run = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        begin = time.perf_counter()
        kernel = run(self, *args, grid=grid, warmup=True, **options)
        compiled.append((self.fn.__name__, kernel, time.perf_counter() - begin))
        return kernel

    # One cache serves all launches of a function on a device, and here every target is device 0.
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, TRITON_CACHE_DIR=folder),
        mock.patch.object(JITFunction, "run", compile_only),
        mock.patch.object(_triton, "_gpu", return_value=gpu),
    ):
        before = triton.runtime.driver._active if hasattr(triton.runtime.driver, "_active") else None
        triton.runtime.driver.set_active(_Driver(GPUTarget(kind, arch, warp)))
        try:
            yield compiled
        finally:
            triton.runtime.driver._active = before
            _forget_compiled()


def _forget_compiled() -> None:
    """Empty the kernels' caches in this process: another target follows."""
    for name in ("memory_append", "memory_attend", "stream_step", "clip_attend", "nms"):
        for function in vars(_triton._kernels(name)).values():
            if hasattr(function, "device_caches"):
                function.device_caches.clear()


def read(name: str, case: str, target: str, kernel: Any, seconds: float) -> Kernel:
    """What the assembler says of a compiled kernel."""
    registers, spilled = _amd_usage(kernel) if "amdgcn" in kernel.asm else _ptxas_usage(kernel, target)
    return Kernel(name, case, target, registers, spilled, kernel.metadata.shared, seconds)


def _amd_usage(kernel: Any) -> tuple[int, int]:
    def number(key: str) -> int:
        return int(re.search(rf"\.{key}: *(\d+)", kernel.asm["amdgcn"])[1])

    return number("vgpr_count"), 4 * (number("vgpr_spill_count") + number("sgpr_spill_count"))


def _ptxas_usage(kernel: Any, target: str) -> tuple[int, int]:
    from triton.backends.nvidia.compiler import get_ptxas

    arch = re.search(r"\.target (\w+)", kernel.asm["ptx"])[1]
    ptxas = get_ptxas(TARGETS[target][1]).path
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernel.ptx")
        source.write_text(kernel.asm["ptx"])
        command = [ptxas, "-v", f"--gpu-name={arch}", str(source), "-o", os.devnull]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    report = done.stdout + done.stderr
    spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", report)
    return int(re.search(r"Used (\d+) registers", report)[1]), int(spills[1]) + int(spills[2])


class Layer:
    """One layer's tensors as a model hands them over, with shapes only."""

    def __init__(self, dtype: torch.dtype, dim: int, frames: int, units: int) -> None:
        windows = units // MODEL_HEADS
        size = _pool.PoolSize(1, windows, MODEL_HEADS, SIDE, frames, dim)
        self.frames = frames
        self.pools = *_pool.empty_pool(size, dtype, META, "tokens"), _pool.empty_cursor(size, META)
        self.q, self.k, self.v = self._projected(dtype, windows, dim)
        self.clip = self._projected(dtype, 1, 4, windows, dim)
        self.step = torch.zeros(1, dtype=torch.int64, device=META)
        self.real = torch.zeros(windows, 2, dtype=torch.int32, device=META)
        self.pads = tuple(torch.zeros(MODEL_HEADS, dim, device=META) for _ in range(2))

    def _projected(self, dtype: torch.dtype, *sizes: int) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v as slices of one projection's output."""
        *front, dim = sizes
        fused = torch.empty(*front, SIDE * SIDE, 3, MODEL_HEADS, dim, dtype=dtype, device=META)
        return tuple(fused.unbind(-3)[i].transpose(-3, -2) for i in range(3))

    def run_frame(self) -> None:
        """What a live frame needs."""
        settings = None, self.real, *self.pads, 0.125
        _triton.memory_append_(*self.pools, self.k, self.v, self.step, None, self.real, 0)
        _triton.memory_attend(self.q, *self.pools, *settings, False)
        _triton.stream_step_(*self.pools, self.q, self.k, self.v, self.step, *settings, 0)

    def run_training(self) -> None:
        """What a training step needs, frame by frame and as a clip."""
        settings = None, self.real, *self.pads
        results = _triton.memory_attend(self.q, *self.pools, *settings, 0.125, True)
        _triton.memory_attend_backward(results[0], self.q, *self.pools, *settings, *results, 0.125)
        results = _triton.clip_attend(*self.clip, self.real, *self.pads, 0.125, self.frames, 2, True)
        _triton.clip_attend_backward(results[0], *self.clip, self.real, *self.pads, *results, 0.125, self.frames, 2)


def run_nms() -> None:
    """What a detector needs."""
    boxes, scores = torch.empty(1000, 4, device=META), torch.empty(1000, device=META)
    _triton_nms.nms_mask(boxes, scores, torch.empty(1000, dtype=torch.int64, device=META), 0.7)


BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
MODEL = [  # what one model in bf16 compiles: live, in training, and its boxes
    ("bf16 64 frame", lambda: Layer(BF16, 64, MODEL_FRAMES, 336).run_frame()),
    ("bf16 64 training", lambda: Layer(BF16, 64, MODEL_FRAMES, 336).run_training()),
    ("nms", run_nms),
]
OTHERS = [  # the other classes of the heuristics: few units, few frames, other types and heads
    ("bf16 64 few units", lambda: Layer(BF16, 64, MODEL_FRAMES, 12).run_frame()),
    ("bf16 64 few frames", lambda: Layer(BF16, 64, 4, 336).run_frame()),
    ("fp16 64", lambda: Layer(FP16, 64, MODEL_FRAMES, 336).run_frame()),
    ("bf16 32", lambda: Layer(BF16, 32, MODEL_FRAMES, 336).run_frame()),
    ("bf16 96", lambda: Layer(BF16, 96, MODEL_FRAMES, 336).run_frame()),
    ("bf16 128", lambda: Layer(BF16, 128, MODEL_FRAMES, 336).run_frame()),
    ("fp32 64", lambda: Layer(FP32, 64, MODEL_FRAMES, 336).run_frame()),
]


def compile_all(target: str, cases: list[tuple[str, Callable[[], None]]]) -> list[Kernel]:
    """Compile the kernels of these cases for one target."""
    with named_gpu(target) as compiled:
        kernels = []
        for case, run in cases:
            run()
            kernels += [read(name, case, target, kernel, seconds) for name, kernel, seconds in compiled]
            compiled.clear()
    return kernels


def main(arguments: list[str]) -> int:
    """Compile all, print one line for each kernel; 0 where all compile and no hot one spills on an NVIDIA target."""
    faults = 0
    for target in arguments or TARGETS:
        kernels = compile_all(target, MODEL + OTHERS)
        for it in kernels:
            remark = f"{it.registers} registers, {it.spilled_bytes} bytes spilled, {it.shared_bytes} bytes shared"
            print(f"{target} {it.case}: {it.name}: {remark}, {it.seconds:.1f} s", flush=True)
        model = {name for name, _ in MODEL}
        print(f"{target}: one model's kernels take {sum(it.seconds for it in kernels if it.case in model):.1f} s")
        faults += sum(it.hot and it.spilled_bytes > 0 and target.startswith("sm_") for it in kernels)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
