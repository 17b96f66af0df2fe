"""The house keeps its own rules: walls between the rooms, short files and functions, nothing imported in secret."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from setuptools import find_packages

import house
from house import CPP, ROOT

PACKAGE = house.files(".py", under="svm_ext")
ALL_PYTHON = house.files(".py")
# What a bare GPU machine has; everything else is imported where it is used.
ALLOWED = {"torch", "numpy", "einops", "safetensors", "svm_ext"} | set(sys.stdlib_module_names)
BANNED = ["torchvision", "timm", "open_clip", "mmcv", "mmdet", "mmengine"]
# More constructor arguments than eight: promised names, with a default for whatever has one.
PROMISED = {"StreamMemory"}


def test_kernels_know_no_torch() -> None:
    """Below this line there is only arithmetic, so that a kernel can be read, built and measured without torch."""
    foreign = re.compile(r'#include\s*[<"](torch/|ATen/|c10/|Python\.h|check\.h|tensors\.h|\.\./\.\./csrc)')
    assert [house.name(file) for file in house.files(*CPP, under="kernels") if foreign.search(file.read_text())] == []


def test_triton_kernels_import_triton_alone() -> None:
    files = house.files(".py", under="kernels/triton")
    foreign = {
        house.name(f): house.imports(f, everywhere=True) - {"triton"} - set(sys.stdlib_module_names) for f in files
    }
    assert {name: found for name, found in foreign.items() if found} == {}
    assert "svm_ext.kernels_triton" in find_packages(str(ROOT), include=["svm_ext.*"])  # a link, which builds follow


def test_only_heuristics_choose() -> None:
    """Block sizes and their reasons stand in one file; a kernel that needs a number asks there."""
    kernels = house.files(".cu", ".cuh", under="kernels")
    chosen = [house.name(file) for file in kernels if re.search(r"constexpr int k\w*Threads\s*=", file.read_text())]
    assert chosen == []


@pytest.mark.parametrize("file", house.files(".py", *CPP), ids=house.name)
def test_files_are_short(file: Path) -> None:
    most = 400 if file in PACKAGE else 500
    lines = len(file.read_text().splitlines())
    assert lines <= most, f"{house.name(file)} has {lines} lines; split it at {most}"


def test_functions_are_short() -> None:
    found = [item for file in PACKAGE for item in house.functions(file)]
    lengths = sorted(item.lines for item in found)
    assert [item.where for item in found if item.lines > 100] == []
    assert statistics.median(lengths) <= 12
    assert lengths[len(lengths) * 9 // 10] <= 45


def test_public_functions_are_annotated_and_documented() -> None:
    public = [item for file in PACKAGE for item in house.described(file) if item.public]
    bare = [
        item.where for item in public if item.node.name != "__init__" and house.ast.get_docstring(item.node) is None
    ]
    assert bare == []
    silent = [f"{item.where}: {names}" for file in PACKAGE for item in house.functions(file)
              if item.public and (names := house.unannotated(item))]  # fmt: skip
    assert silent == []


def test_constructors_take_few_arguments() -> None:
    long = [
        item.where
        for file in PACKAGE
        for item in house.functions(file)
        if item.node.name == "__init__" and item.in_class and item.in_class.name not in PROMISED
        if len(item.node.args.args) + len(item.node.args.kwonlyargs) - 1 > 8
    ]
    assert long == []


def test_shapes_are_told_where_tensors_change() -> None:
    """A comment like `# [B*W, H, N, D]`, in code or docstring, at least every forty lines of tensor code."""
    told = re.compile(r"\[[A-Z][A-Za-z*/ ]*(, ?[A-Za-z0-9*+/ ().]+)+\]")
    tensor_code = [
        ROOT / "svm_ext/memory.py",
        *house.files(".py", under="svm_ext/ops"),
        *house.files(".py", under="svm_ext/models"),
    ]
    shapes = sum(len(told.findall(file.read_text())) for file in tensor_code)
    assert shapes >= 0.025 * sum(map(house.code_lines, tensor_code))


def test_there_is_as_much_test_as_code() -> None:
    code = sum(map(house.code_lines, PACKAGE))
    tests = sum(map(house.code_lines, house.files(".py", under="python_tests")))
    assert tests >= code


def test_one_op_one_stem() -> None:
    """A reader walks from Python to the metal without a search."""
    stems = {file.stem for file in house.files(".py", under="svm_ext/ops")}
    stems = {stem for stem in stems if not stem.startswith(("_", "reference"))}
    assert stems
    for stem in stems:
        homes = ("csrc/ops/{}.cpp", "kernels/triton/{}.py", "python_tests/ops/test_{}.py", "benchmarks/bench_{}.py")
        for home in homes:
            assert (ROOT / home.format(stem)).exists(), f"{stem} has no {home.format(stem)}"
    for file in house.files(".cu", under="kernels"):
        stem = file.name.partition(".")[0]  # an op of many kernels has files like memory_attend.bf16.cu
        assert (ROOT / f"csrc/ops/{stem}_cuda.cpp").exists(), f"{house.name(file)} is called from nowhere"


def test_the_top_level_is_a_table_of_contents() -> None:
    ignored = [line for line in (ROOT / ".gitignore").read_text().splitlines() if line.startswith("/")]
    left = {"svm_ext.egg-info", *(line.strip("/") for line in ignored)}  # by builds, and by the README's commands
    visible = {entry.name for entry in ROOT.iterdir() if not entry.name.startswith(".")}
    assert visible - left == house.TOP_LEVEL | {room for room in house.FOLDERS if not room.startswith(".")}


def test_repository_speaks_only_of_the_project() -> None:
    words = ["TO" + "DO", "FIX" + "ME", "XX" + "X", "/wo" + "rk/", "/ro" + "ot/"]
    spoken = [
        f"{house.name(file)}: {word}"
        for file in house.files(".py", ".md", ".toml", ".txt", "", *CPP)
        for word in words
        if word in file.read_text()
    ]
    assert spoken == []


def test_nothing_banned_is_imported() -> None:
    assert {house.name(f): found for f in PACKAGE if (found := house.imports(f, everywhere=True) & set(BANNED))} == {}


def test_modules_import_only_what_a_bare_machine_has() -> None:
    foreign = {house.name(f): found for f in PACKAGE if (found := house.imports(f, everywhere=False) - ALLOWED)}
    assert foreign == {}


def run_python(code: str, tmp_path: Path) -> str:
    """Run code in a new process, away from the sources, and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_modules_import_without_optional_packages(tmp_path: Path) -> None:
    code = f"""
import sys
for name in {[*BANNED, "cv2", "av", "PIL", "matplotlib", "pytest", "triton"]}:
    sys.modules[name] = None  # an import of it now fails
import importlib, pkgutil, svm_ext
for module in pkgutil.walk_packages(svm_ext.__path__, "svm_ext."):
    if not module.name.endswith("_C") and "kernels_triton." not in module.name:
        importlib.import_module(module.name)
        print(module.name)
"""
    assert "svm_ext.memory" in run_python(code, tmp_path)


def test_import_takes_under_a_second_beyond_torch(tmp_path: Path) -> None:
    code = """
import torch, time
start = time.perf_counter()
import svm_ext
svm_ext.StreamMemory, svm_ext.ops, svm_ext.info
print(time.perf_counter() - start)
"""
    assert min(float(run_python(code, tmp_path)) for _ in range(3)) < 1.0


def test_help_answers_at_once_and_without_torch(tmp_path: Path) -> None:
    code = """
import sys
from svm_ext.cli.main import main
try:
    main(["--help"])
except SystemExit:
    pass
assert "torch" not in sys.modules
"""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        assert "examples:" in run_python(code, tmp_path)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.2


README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("index", range(len(house.blocks(README, "python"))))
def test_readme_python_runs(index: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = house.blocks(README, "python")[index]
    exec(compile(code, f"README.md python block {index}", "exec"), {"__name__": "__main__"})


def test_ci_runs_the_readmes_test_command() -> None:
    [command] = [block for block in house.blocks(README, "bash") if "[test]" in block]
    script = (ROOT / ".ci/run").read_text().splitlines()
    for line in command.strip().splitlines():
        if line.startswith(("pip", "pytest")):
            assert line in script
