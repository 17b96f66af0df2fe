"""_pool: how a new pool lies in memory, and what the system is told of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from svm_ext.ops import _pool

CPU = torch.device("cpu")
SMALL = _pool.PoolSize(streams=1, windows=1, heads=1, side=2, frames=2, dim=16)
LARGE = _pool.PoolSize(streams=1, windows=2, heads=4, side=14, frames=32, dim=64)  # 12.8 MB of fp32 each
LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def flags_at(address: int) -> list[str]:
    """What Linux notes of the stretch of memory around an address."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, _, rest = line.partition(" ")
        if not name.endswith(":"):
            first, last = (int(end, 16) for end in name.split("-"))
            inside = first <= address < last
        elif inside and name == "VmFlags:":
            return rest.split()
    raise AssertionError(f"nothing at {address:#x}")


@pytest.mark.skipif(not LARGE_PAGES.exists(), reason="a system without large pages")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_pools_ask_for_large_pages(dtype):
    for pool in _pool.empty_pool(LARGE, dtype, CPU):
        assert "hg" in flags_at(pool.data_ptr() + pool.nbytes // 2)


@pytest.mark.parametrize("layout", ["columns", "tokens"])
@pytest.mark.parametrize("size", [SMALL, LARGE, SMALL._replace(streams=0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_pool_holds_what_is_written(size, dtype, layout):
    k_pool, v_pool = _pool.empty_pool(size, dtype, CPU, layout)
    assert _pool.layout_of(k_pool) == layout
    assert _pool.size_of(k_pool) == size
    for pool in (k_pool, v_pool):
        numbers = torch.arange(pool.numel()).remainder(251).to(dtype).view(pool.shape)
        assert torch.equal(pool.copy_(numbers), numbers)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_pools_without_memory(size):
    """A pool that is only thought of has no address to give advice about."""
    assert _pool.empty_pool(size, torch.float32, torch.device("meta"))[0].is_meta
    with FakeTensorMode():
        assert _pool.empty_pool(size, torch.float32, CPU)[0].shape[4] == size.frames


def test_without_linux_nothing_is_asked(monkeypatch):
    monkeypatch.setattr(_pool.sys, "platform", "darwin")
    monkeypatch.setattr(_pool.ctypes, "CDLL", lambda name: pytest.fail("no such call on this system"))
    _pool.empty_pool(LARGE, torch.float32, CPU)
