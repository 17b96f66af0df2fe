"""Fixtures of the evaluator's tests: the real sequence with ground truth."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PETS = Path(__file__).parents[3] / "shared" / "data" / "pets09_s2l1"


@pytest.fixture
def pets() -> Path:
    """The folder of PETS09-S2L1; without it the test is skipped aloud, or fails where data is required."""
    if not PETS.exists():
        required = os.environ.get("CI") == "true" or os.environ.get("SVM_EXT_REQUIRE_DATA") == "1"
        (pytest.fail if required else pytest.skip)(f"DATA MISSING: no {PETS}")
    return PETS
