"""Every CUDA kernel compiles for every GPU generation that we name, and none spills registers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import ptxas_report

NVCC = ptxas_report.find_nvcc()
WITHOUT_KERNELS = {"memory_attend.cu", "clip_attend.cu", "stream_step.cu"}  # they choose and launch
# Of a block, as kernels/cuda/heuristics.h has it.
THREADS = {".any": 256, ".join": 256, "nms": 256, ".bf16": 512, ".fp16": 512, "attend.fp8": 512, ".backward": 512}
REPORT = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z4goodPf' for 'sm_90a'
ptxas info    : Function properties for _Z4goodPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 48 registers, used 1 barriers
ptxas info    : Compiling entry function '_Z3badPf' for 'sm_90a'
ptxas info    : Function properties for _Z3badPf
    64 bytes stack frame, 40 bytes spill stores, 24 bytes spill loads
ptxas info    : Used 255 registers
"""


def test_report_is_read() -> None:
    good, bad = ptxas_report.parse(REPORT)
    assert (good.name, good.registers, good.spilled_bytes, good.stack_bytes) == ("_Z4goodPf", 48, 0, 0)
    assert (bad.name, bad.registers, bad.spilled_bytes, bad.stack_bytes) == ("_Z3badPf", 255, 64, 64)
    with pytest.raises(RuntimeError, match="another form than expected"):
        ptxas_report.parse("Compiling entry function '_Z4goodPf' for 'sm_90a'\nall is well")


def test_there_is_a_compiler_where_one_is_promised() -> None:
    """In CI a missing nvcc is a fault, elsewhere a skip that says so."""
    if NVCC is None and not os.environ.get("CI"):
        pytest.skip("no nvcc found: the CUDA kernels were not compiled")
    assert NVCC is not None, "no nvcc found in CI; put it on PATH or set CUDA_HOME"


@pytest.mark.slow
@pytest.mark.skipif(NVCC is None, reason="no nvcc found")
@pytest.mark.parametrize("arch", ptxas_report.ARCHS)
@pytest.mark.parametrize("source", ptxas_report.sources(), ids=lambda source: source.stem)
def test_kernels_compile_and_spill_nothing(source: Path, arch: str) -> None:
    kernels = ptxas_report.parse(ptxas_report.compile_report(NVCC, source, arch))
    assert [kernel for kernel in kernels if kernel.spilled_bytes or kernel.stack_bytes] == []
    if source.name in WITHOUT_KERNELS:
        assert kernels == []
        return
    assert kernels
    # What one block asks for must be there, or it does not start.
    most = 65536 // next((threads for name, threads in THREADS.items() if name in source.name), 1024)
    assert max(kernel.registers for kernel in kernels) <= most


@pytest.mark.skipif(NVCC is None, reason="no nvcc found")
def test_a_source_that_does_not_compile_is_told_with_the_compilers_words(tmp_path: Path) -> None:
    broken = tmp_path / "broken.cu"
    broken.write_text("__global__ void kernel() { nothing_of_this_name(); }\n")
    with pytest.raises(RuntimeError, match=r"(?s)broken\.cu does not compile for sm_80.*nothing_of_this_name"):
        ptxas_report.compile_report(NVCC, broken, "sm_80")
