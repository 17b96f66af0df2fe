"""What is compiled for one instruction set stays in its own translation unit.

A function that two units both hold, an inline one of the standard library say, is kept once by the linker, and that may
be the one compiled for AVX-512. Then the portable kernels call it, and the program dies on an older CPU.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OBJECTS = sorted(ROOT.glob("build/*/CMakeFiles/svm_kernels_cpu.dir/kernels/cpu/isa_*.o"))


@pytest.mark.skipif(not OBJECTS, reason="no object files in build/: built elsewhere")
@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm")
@pytest.mark.parametrize("unit", OBJECTS, ids=lambda path: path.name.partition(".")[0])
def test_unit_shares_no_function_with_others(unit: Path) -> None:
    name = unit.name.partition(".")[0].removeprefix("isa_")
    listing = subprocess.run(["nm", "--demangle", str(unit)], check=True, capture_output=True, text=True).stdout
    symbols = [line[17:].split(" ", 1) for line in listing.splitlines()]  # [kind, name] after the address
    shared = [symbol for kind, symbol in symbols if kind in "WVu" and f"svm::cpu::{name}::" not in symbol]
    assert shared == []
