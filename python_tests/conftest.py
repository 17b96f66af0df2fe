"""Fixtures of all tests: every back end in turn, fixed seeds, the golden cases."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import helpers
import on_gpu
from helpers import Backend

GOLDEN = Path(__file__).parents[2] / "shared" / "golden"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", helpers.all_backends(), ids=lambda b: b.label, indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """One back end after the other, selected while the test runs."""
    with request.param.selected():
        yield request.param


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Shapes are tiny here: on a busy machine threads wait for each other far longer than they compute.

    The tests of threads choose their own number (helpers.threads).
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def seed(request: pytest.FixtureRequest) -> None:
    """The same random numbers for the same test, others for another."""
    torch.manual_seed(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture
def cuda_kernels() -> None:
    """CUDA kernels that run here, and NaN in the memory that they are given."""
    on_gpu.require_kernels()
    on_gpu.poison()


@pytest.fixture
def golden() -> Callable[[str], Path]:
    """The path of a golden case; without it the test is skipped aloud, or fails where data is required."""

    def path(name: str) -> Path:
        found = GOLDEN / name
        if not found.exists():
            message = f"GOLDEN CASE MISSING: no {name} in {GOLDEN}"
            required = os.environ.get("CI") == "true" or os.environ.get("SVM_EXT_REQUIRE_DATA") == "1"
            (pytest.fail if required else pytest.skip)(message)
        return found

    return path
