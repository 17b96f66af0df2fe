"""The CUDA kernel of memory_append_, run thread by thread on the CPU: the arithmetic of its indices without a GPU.

It proves what each thread reads and writes. It does not prove that the kernel runs on a GPU, nor how fast.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

import append_cases
from append_cases import CASES, Append, Case

ROOT = Path(__file__).parents[2]
CODES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}  # svm/params.h
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def append(tmp_path_factory: pytest.TempPathFactory) -> Append:
    """The kernel, compiled by the C++ compiler, with the arguments of the op's schema."""
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    library = tmp_path_factory.mktemp("cuda_on_cpu") / "memory_append.so"
    here = Path(__file__).parent / "cuda_on_cpu"
    folders = [here, ROOT / "kernels", ROOT / "kernels/include", Path(torch.__file__).parent / "include"]
    flags = ["-std=c++17", "-O1", "-shared", "-fPIC", "-Wno-unknown-pragmas", "-fsanitize=undefined"]
    sources = [str(here / "memory_append_entry.cpp"), "-o", str(library)]
    subprocess.run([compiler, *flags, *(f"-I{folder}" for folder in folders), *sources], check=True)
    entry = ctypes.CDLL(str(library)).memory_append_on_cpu
    entry.restype = ctypes.c_char_p

    def call(k_pool: Tensor, v_pool: Tensor, cursor: Tensor, k: Tensor, v: Tensor, step: Tensor,
             streams: Tensor | None, real: Tensor | None, evict: int) -> None:  # fmt: skip
        windows, heads, side, frames, dim = k_pool.shape[1], *k_pool.shape[2:5], k_pool.shape[6]
        batch = k_pool.shape[0] if streams is None else len(streams)
        codes = (ctypes.c_int32 * 3)(CODES[k.dtype], CODES[k_pool.dtype], evict)
        sizes = _int64s(k_pool.shape[0], windows, heads, side, frames, dim)
        pointers = [None if t is None else ctypes.c_void_p(t.data_ptr()) for t in (step, streams)]
        real_pointer = None if real is None else ctypes.c_void_p(real.data_ptr())
        pools = [ctypes.c_void_p(t.data_ptr()) for t in (k_pool, v_pool, cursor)]
        frames_in = [it for t in (k, v) for it in (ctypes.c_void_p(t.data_ptr()), _int64s(*t.stride()))]
        fault = entry(*pools, sizes, *frames_in, *pointers, ctypes.c_int64(batch), real_pointer, codes)
        assert fault is None, fault

    return call


def _int64s(*numbers: int) -> ctypes.Array:
    return (ctypes.c_int64 * len(numbers))(*numbers)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernel_equals_reference(append: Append, case: Case, capfd: pytest.CaptureFixture[str]) -> None:
    append_cases.check(append, case, CPU)
    assert "runtime error" not in capfd.readouterr().err  # the sanitizer's words for a misaligned access, say


def test_senseless_values_write_nothing(append: Append) -> None:
    append_cases.check_ignored(append, CPU)
