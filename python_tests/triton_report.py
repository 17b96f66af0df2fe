"""Compiles every Triton kernel without a GPU, as the launcher would launch it, and reads registers and spills.

    python python_tests/triton_report.py [TARGET ...]        (default: sm_80 sm_90 gfx942)

The launcher runs as it is, over tensors that have shapes only and for a GPU that is only named; every launch ends
after Triton's own compiler. Faults are a kernel that asks for more shared memory than there is, and on NVIDIA targets
a hot one with more than a few instructions that move spilled registers within its loops: it runs, slowly, and nobody
notices. What waits in memory from before a loop until after it costs nothing. The cache is left aside, so that the
times are those of a first start.
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

from svm_ext.ops import _pool, _triton, _triton_launch, _triton_nms

TARGETS = {  # name -> (kind, generation, threads of a warp, processors, bytes of shared memory)
    "sm_80": ("cuda", 80, 32, 108, 163 << 10),
    "sm_90": ("cuda", 90, 32, 132, 227 << 10),
    "gfx942": ("hip", "gfx942", 64, 304, 64 << 10),
}
META = torch.device("meta")
MODEL_FRAMES, MODEL_HEADS, SIDE = 32, 12, 14
MODULES = "memory_append", "memory_attend", "stream_step", "clip_attend", "attend_any", "nms"
FEW = 4  # instructions, of about a thousand in a loop


@dataclass(frozen=True)
class Kernel:
    """What the assembler says of one kernel."""

    name: str
    case: str
    target: str
    registers: int
    spilled_bytes: int
    spilling_in_loops: int  # instructions
    shared_bytes: int
    seconds: float

    @property
    def fault(self) -> str:
        """What is wrong with it, or nothing."""
        if self.shared_bytes > TARGETS[self.target][4]:
            return f"more shared memory than {self.target} has"
        hot = self.case.startswith("bf16") and not self.name.endswith("backward_kernel")
        spills = hot and self.spilling_in_loops > FEW and self.target.startswith("sm_")
        return f"{self.spilling_in_loops} spilling instructions in loops" if spills else ""


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

    kind, arch, warp, processors, _ = TARGETS[target]
    gpu = _triton_launch.kernels_of("heuristics").Gpu(kind, arch if kind == "cuda" else 94, processors)
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
        mock.patch.object(_triton_launch, "gpu_of", return_value=gpu),
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
    for name in MODULES:
        for function in vars(_triton_launch.kernels_of(name)).values():
            if hasattr(function, "device_caches"):
                function.device_caches.clear()


def read(name: str, case: str, target: str, kernel: Any, seconds: float) -> Kernel:
    """What the assembler says of a compiled kernel."""
    usage = _amd_usage(kernel) if "amdgcn" in kernel.asm else _nvidia_usage(kernel, target)
    return Kernel(name, case, target, *usage, kernel.metadata.shared, seconds)


def _amd_usage(kernel: Any) -> tuple[int, int, int]:
    def number(key: str) -> int:
        return int(re.search(rf"\.{key}: *(\d+)", kernel.asm["amdgcn"])[1])

    return number("vgpr_count"), 4 * (number("vgpr_spill_count") + number("sgpr_spill_count")), 0


def _nvidia_usage(kernel: Any, target: str) -> tuple[int, int, int]:
    from triton import knobs
    from triton.backends.nvidia.compiler import get_ptxas

    arch = re.search(r"\.target (\w+)", kernel.asm["ptx"])[1]
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(kernel.asm["ptx"])
        report = _told(get_ptxas(TARGETS[target][1]).path, "-v", f"--gpu-name={arch}", str(source), "-o", str(binary))
        code = _told(knobs.nvidia.nvdisasm.path, "-c", str(binary))
    spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", report)
    registers = re.search(r"Used (\d+) registers", report)
    return int(registers[1]), int(spills[1]) + int(spills[2]), spills_in_loops(code)


def _told(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def spills_in_loops(code: str) -> int:
    """How many instructions between a label and a jump back to it touch what registers were spilled to."""
    labels: dict[str, int] = {}
    spills: list[int] = []
    loops: list[tuple[int, int]] = []
    for line, text in enumerate(code.splitlines()):
        if label := re.match(r"\s*(\.L_x_\d+):", text):
            labels[label[1]] = line
        elif re.search(r"\b(STL|LDL)\b", text):
            spills.append(line)
        elif (jump := re.search(r"\bBRA\b.*?(\.L_x_\d+)", text)) and jump[1] in labels:
            loops.append((labels[jump[1]], line))
    return sum(any(begin <= spill <= end for begin, end in loops) for spill in spills)


class Layer:
    """One layer's tensors as a model hands them over, with shapes only; bare of padding where pictures fill windows."""

    def __init__(
        self,
        dtype: torch.dtype,
        dim: int,
        frames: int,
        units: int,
        *,
        side: int = SIDE,
        pool: torch.dtype | None = None,
        bare: bool = False,
    ) -> None:
        windows = units // MODEL_HEADS
        size = _pool.PoolSize(1, windows, MODEL_HEADS, side, frames, dim)
        self.frames, self.side = frames, side
        pool = pool or dtype
        self.pools = *_pool.empty_pool(size, pool, META, "tokens"), _pool.empty_cursor(size, META, pool)
        self.q, self.k, self.v = self._projected(dtype, windows, dim)
        self.clip = self._projected(dtype, 1, 4, windows, dim)
        self.step = torch.zeros(1, dtype=torch.int64, device=META)
        self.real = None if bare else torch.zeros(windows, 2, dtype=torch.int32, device=META)
        self.pads = tuple(None if bare else torch.zeros(MODEL_HEADS, dim, device=META) for _ in range(2))

    def _projected(self, dtype: torch.dtype, *sizes: int) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v as slices of one projection's output."""
        *front, dim = sizes
        fused = torch.empty(*front, self.side**2, 3, MODEL_HEADS, dim, dtype=dtype, device=META)
        return tuple(fused.unbind(-3)[i].transpose(-3, -2) for i in range(3))

    def run_frame(self) -> None:
        """What a live frame needs."""
        self.run_append_and_attend()
        self.run_step()

    def run_append_and_attend(self) -> None:
        """What a step is where it takes two launches."""
        _triton.memory_append_(*self.pools, self.k, self.v, self.step, None, self.real, 0)
        _triton.memory_attend(self.q, *self.pools, None, self.real, *self.pads, 0.125, False)

    def run_step(self) -> None:
        """Both in one launch."""
        settings = None, self.real, *self.pads, 0.125
        _triton.stream_step_(*self.pools, self.q, self.k, self.v, self.step, *settings, 0)

    def run_all(self) -> None:
        """What a live frame and a training step need where a step takes two launches."""
        self.run_append_and_attend()
        self.run_training()

    def run_gradient(self) -> None:
        """A frame's queries and their gradient."""
        settings = None, self.real, *self.pads
        results = _triton.memory_attend(self.q, *self.pools, *settings, 0.125, True)
        _triton.memory_attend_backward(results[0], self.q, *self.pools, *settings, *results, 0.125)

    def run_training(self) -> None:
        """What a training step needs, frame by frame and as a clip."""
        self.run_gradient()
        results = _triton.clip_attend(*self.clip, self.real, *self.pads, 0.125, self.frames, 2, True)
        _triton.clip_attend_backward(results[0], *self.clip, self.real, *self.pads, *results, 0.125, self.frames, 2)


def run_nms() -> None:
    """What a detector needs."""
    boxes, scores = torch.empty(1000, 4, device=META), torch.empty(1000, device=META)
    _triton_nms.nms_mask(boxes, scores, torch.empty(1000, dtype=torch.int64, device=META), 0.7)


BF16, FP16, FP32, FP8 = torch.bfloat16, torch.float16, torch.float32, torch.float8_e4m3fn
MODEL = [  # what one model in bf16 compiles: live, in training, and its boxes
    ("bf16 64 frame", lambda: Layer(BF16, 64, MODEL_FRAMES, 336).run_frame()),
    ("bf16 64 training", lambda: Layer(BF16, 64, MODEL_FRAMES, 336).run_training()),
    ("nms", run_nms),
]
OTHERS = [  # the other classes of the heuristics: few units, few frames, wide heads, fp32; and other sizes and pools
    ("bf16 64 few units", lambda: Layer(BF16, 64, MODEL_FRAMES, 12).run_step()),
    ("bf16 64 few frames", lambda: Layer(BF16, 64, 4, 336).run_step()),
    ("fp16 128", lambda: Layer(FP16, 128, MODEL_FRAMES, 336).run_step()),
    ("fp32 64", lambda: Layer(FP32, 64, MODEL_FRAMES, 336).run_training()),
    ("bf16 64 side 20", lambda: Layer(BF16, 64, MODEL_FRAMES, 336, side=20).run_all()),
    ("bf16 256", lambda: Layer(BF16, 256, MODEL_FRAMES, 336).run_all()),
    ("bf16 256 bare", lambda: Layer(BF16, 256, MODEL_FRAMES, 336, bare=True).run_all()),
    ("bf16 64 bare", lambda: Layer(BF16, 64, MODEL_FRAMES, 336, bare=True).run_frame()),
    ("bf16 64 bare", lambda: Layer(BF16, 64, MODEL_FRAMES, 336, bare=True).run_training()),
    ("bf16 64 fp8 pool", lambda: Layer(BF16, 64, MODEL_FRAMES, 336, pool=FP8).run_append_and_attend()),
    ("bf16 64 fp8 pool", lambda: Layer(BF16, 64, MODEL_FRAMES, 336, pool=FP8).run_gradient()),
    ("bf16 128 fp8 pool", lambda: Layer(BF16, 128, MODEL_FRAMES, 12, pool=FP8).run_append_and_attend()),
    ("bf16 256 fp8 pool", lambda: Layer(BF16, 256, MODEL_FRAMES, 336, pool=FP8).run_append_and_attend()),
]


def compile_all(target: str, cases: list[tuple[str, Callable[[], None]]]) -> Iterator[Kernel]:
    """Compile the kernels of these cases for one target."""
    with named_gpu(target) as compiled:
        for case, run in cases:
            run()
            yield from (read(name, case, target, kernel, seconds) for name, kernel, seconds in compiled)
            compiled.clear()


def main(arguments: list[str]) -> int:
    """Compile all, print one line for each kernel; 0 where all compile and none is at fault."""
    faults = 0
    for target in arguments or TARGETS:
        live = training = 0.0
        for it in compile_all(target, MODEL + OTHERS):
            spilled = f"{it.spilled_bytes} bytes spilled ({it.spilling_in_loops} instructions in loops)"
            used = f"{it.registers} registers, {spilled}, {it.shared_bytes} bytes shared, {it.seconds:.1f} s"
            print(f"{target} {it.case}: {it.name}: {used}{it.fault and '  FAULT: ' + it.fault}", flush=True)
            live += it.seconds * (it.case in ("bf16 64 frame", "nms"))
            training += it.seconds * (it.case == "bf16 64 training")
            faults += bool(it.fault)
        print(f"{target}: a live model's kernels took {live:.1f} s to compile, those of training {training:.1f} s more")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
