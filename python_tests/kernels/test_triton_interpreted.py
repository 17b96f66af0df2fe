"""The tests of the Triton back end, through Triton's interpreter: in another process, for Triton reads when it is
imported whether it is to interpret."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
import pytest
import torch

from svm_ext.ops import _triton_launch

TESTS = [Path(__file__).with_name(f"test_triton{which}.py") for which in ("", "_any", "_fp8")]
ROOT = Path(__file__).parents[2]


def why_not() -> str:
    """Why Triton's interpreter cannot run here, or nothing."""
    if not _triton_launch.installed():
        return "no Triton found; type `pip install triton`"
    import triton

    version = tuple(map(int, triton.__version__.split(".")[:2]))
    if version < (3, 7) and numpy.lib.NumpyVersion(numpy.__version__) >= "2.4.0":
        return f"the interpreter of Triton {triton.__version__} fails with NumPy {numpy.__version__}"
    return ""


def interpreted(file: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run one file of tests away from the sources: `-m pytest` looks there first, and would find an unbuilt package."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(ROOT), str(file)]
    env = os.environ | {"TRITON_INTERPRET": "1"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


@pytest.mark.slow
def test_every_kernel_through_the_interpreter(tmp_path):
    """Minutes of two cores: for each tile the interpreter calls Python dozens of times."""
    if reason := why_not():
        assert not os.environ.get("CI"), reason
        pytest.skip(f"TRITON KERNELS NOT RUN: {reason}")
    with ThreadPoolExecutor(2) as two:
        runs = list(two.map(lambda file: interpreted(file, tmp_path), TESTS))
    for done in runs:
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    passed = [int(re.search(r"(\d+) passed", done.stdout)[1]) for done in runs]
    assert all(count >= least for count, least in zip(passed, (100, 40, 40), strict=True)), passed


def test_interpreted_only_on_demand(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert _triton_launch.devices() == ("cuda",)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert _triton_launch.devices() == ("cuda", "cpu")


def test_ops_over_shapes_alone_need_no_triton():
    """Fakes are shared with the other back ends."""
    q = torch.empty(1, 1, 9, 16, device="meta")
    with torch.device("meta"):
        pools = torch.empty(1, 1, 1, 3, 2, 3, 16), torch.empty(1, 1, 1, 3, 2, 3, 16)
        cursor = torch.zeros(1, 1, 1, 2, dtype=torch.int64)
    fake = torch._subclasses.FakeTensorMode()
    with fake:
        arguments = [fake.from_tensor(x) for x in (q, *pools, cursor)]
        out, column, lse = torch.ops.svm_ext_triton.memory_attend(*arguments, None, None, None, None, 1.0, True)
    assert out.shape == column.shape == q.shape
    assert lse.shape == (1, 1, 2, 9)
