"""What the tests that need a GPU share: they are skipped aloud without one, and new memory is full of NaN."""

from __future__ import annotations

import pytest
import torch

import svm_ext

GPU = torch.device("cuda")
MARKS = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="NO GPU: this CUDA kernel was not run"),
    pytest.mark.usefixtures("cuda_kernels"),
]
_PIECES = {1 << 16: 64, 1 << 20: 16, 1 << 25: 8}  # bytes -> how many, of both kinds of pieces that torch keeps


def require_kernels() -> None:
    """Skip aloud where the kernels were not built for this GPU."""
    status = svm_ext.info().backends["cuda"]
    if not status.usable:
        pytest.skip(f"CUDA BACK END NOT USABLE: {status.reason}")


def poison() -> None:
    """Leave NaN in the memory that torch hands out next."""
    pieces = [
        torch.full((size // 4,), float("nan"), device=GPU) for size, count in _PIECES.items() for _ in range(count)
    ]
    del pieces
    torch.cuda.synchronize()
