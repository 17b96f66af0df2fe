"""Which torch a build takes, what it says when there is none, and what it makes. No network."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest
import torch

import abi_check
import build_backend
import svm_ext
import torch_dir

ROOT = Path(__file__).parents[1]
PINNED = "torch==2.13.0"


def make_torch(folder: Path, version: str = "2.12.1+cpu") -> Path:
    for name in torch_dir.NEEDED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "version.py").write_text(f"__version__ = '{version}'\ndebug = False\n")
    return folder


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment without torch: nothing to import, nothing on disk, nothing named."""
    monkeypatch.delenv("SVM_EXT_TORCH_DIR", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(torch_dir, "ROOT", tmp_path / "checkout")
    monkeypatch.setattr(torch_dir.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "env"))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "base"))
    return tmp_path


def site_packages(prefix: Path) -> Path:
    return prefix / f"lib/python3.{sys.version_info.minor}/site-packages"


def test_importable_torch_is_found() -> None:
    assert torch_dir.find_torch() == Path(torch.__file__).resolve().parent


def test_named_torch_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    named = make_torch(tmp_path / "torch")
    monkeypatch.setenv("SVM_EXT_TORCH_DIR", str(named))
    assert torch_dir.find_torch() == named.resolve()
    assert build_backend.torch_requirement() == []


def test_isolated_build_finds_torch_of_the_target_environment(bare: Path) -> None:
    """An isolated build cannot import torch, but sys.prefix is the environment that it installs into."""
    installed = make_torch(site_packages(bare / "env") / "torch")
    assert torch_dir.find_torch() == installed.resolve()
    assert build_backend.torch_requirement() == []


def test_separate_build_environment_finds_torch_of_the_active_one(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m build` and uv build in an environment of their own; another Python's torch serves as well."""
    monkeypatch.setenv("PATH", f"/nowhere{os.pathsep}{bare / 'active/bin'}")
    installed = make_torch(bare / "active/lib/python3.99/site-packages/torch")
    assert torch_dir.find_torch() == installed.resolve()


def test_torch_in_the_checkouts_own_environment_is_found(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """uv installs into .venv also where nobody has activated it."""
    monkeypatch.setattr(torch_dir, "ROOT", bare)
    installed = make_torch(site_packages(bare / ".venv") / "torch")
    assert torch_dir.find_torch() == installed.resolve()


def test_without_torch_the_build_asks_for_the_pinned_one(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build_backend.torch_requirement() == [PINNED]
    assert PINNED in capsys.readouterr().err
    assert PINNED in build_backend.get_requires_for_build_wheel()
    assert PINNED in build_backend.get_requires_for_build_editable()
    assert PINNED not in build_backend.get_requires_for_build_sdist()  # a source distribution compiles nothing


def test_without_torch_the_error_is_one_line_that_says_what_to_type(bare: Path) -> None:
    with pytest.raises(torch_dir.TorchNotFoundError, match=r"type: pip install -c constraints.txt torch") as caught:
        torch_dir.find_torch()
    assert "\n" not in str(caught.value)


def test_without_torch_and_isolation_the_build_stops_before_pip_fetches_anything(bare: Path) -> None:
    """Without isolation nobody asks what the build requires, and pip would fetch gigabytes before the compile fails."""
    for prepare in (build_backend.prepare_metadata_for_build_wheel, build_backend.prepare_metadata_for_build_editable):
        with pytest.raises(SystemExit, match="svm_ext: the build needs torch 2.11 or newer, found none; type: pip"):
            prepare(str(bare))


def test_old_torch_is_passed_over_and_named(bare: Path) -> None:
    make_torch(site_packages(bare / "env") / "torch", "2.10.0")
    with pytest.raises(torch_dir.TorchNotFoundError, match=r"version 2\.10\.0 is too old"):
        torch_dir.find_torch()
    assert build_backend.torch_requirement() == [PINNED]


def test_torch_without_libraries_is_passed_over(bare: Path) -> None:
    make_torch(site_packages(bare / "env") / "torch")
    (site_packages(bare / "env") / "torch/lib/libc10.so").unlink()
    with pytest.raises(torch_dir.TorchNotFoundError, match=r"lib/libc10\.so is missing"):
        torch_dir.find_torch()


def test_wrongly_named_torch_stops_the_build(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who names a torch means that one: none is fetched in its place."""
    monkeypatch.setenv("SVM_EXT_TORCH_DIR", "/no/such/torch")
    with pytest.raises(SystemExit, match="SVM_EXT_TORCH_DIR must be a torch folder, got /no/such/torch"):
        build_backend.torch_requirement()


def test_constraints_pin_the_torch_that_runs_the_tests() -> None:
    pinned = build_backend.pinned_torch((ROOT / "constraints.txt").read_text())
    assert pinned == PINNED
    with pytest.raises(SystemExit, match="must pin torch"):
        build_backend.pinned_torch("numpy==2.0\n# torch==1.0\n")


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("SVM_EXT_TORCH_DIR", "/no/such/torch", "svm_ext: SVM_EXT_TORCH_DIR must be a torch folder"),
        ("SVM_EXT_CUDA", "maybe", "svm_ext: SVM_EXT_CUDA must be auto, on or off, got 'maybe'"),
        ("PATH", "/nowhere", "svm_ext: the build needs cmake, found none; type: pip install cmake ninja"),
    ],
)
def test_setup_says_in_one_line_what_is_wrong(tmp_path: Path, variable: str, value: str, expected: str) -> None:
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(tmp_path)]
    environment = {**os.environ, variable: value}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1].startswith(expected)
    assert "Traceback" not in done.stderr


def test_setup_says_in_one_line_that_pybind11_is_missing(tmp_path: Path) -> None:
    (tmp_path / "pybind11.py").write_text("raise ImportError\n")
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    expected = "svm_ext: the build needs pybind11, found none; type: pip install pybind11"
    assert done.stderr.strip().splitlines()[-1] == expected


def test_a_wheel_claims_no_more_pythons_than_its_tracker_serves(tmp_path: Path) -> None:
    """The ops would run on any Python, the tracker only on the one that it was built with."""
    code = """
import setuptools, distutils.core
dist = distutils.core.run_setup("setup.py", [], stop_after="init")
wheel = dist.get_command_obj("bdist_wheel")
wheel.ensure_finalized()
modules = dist.get_command_obj("build_ext")
modules.ensure_finalized()
print(*wheel.get_tag()[:2], *(modules.get_ext_filename(ext.name) for ext in modules.extensions))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    python = f"cp3{sys.version_info.minor}"
    assert done.stdout.split() == [
        python,
        python,
        "svm_ext/_C.abi3.so",
        f"svm_ext/_tracker{sysconfig.get_config_var('EXT_SUFFIX')}",
    ]


def test_the_tracker_needs_no_torch() -> None:
    """So that it serves any torch, and loads where torch's C++ library is another."""
    module = abi_check.read_module(Path(svm_ext.__path__[0]) / f"_tracker{sysconfig.get_config_var('EXT_SUFFIX')}")
    assert set(module.libraries) <= abi_check.LIBRARIES - {"libtorch.so", "libtorch_cpu.so", "libc10.so"}
    assert module.runpath == ""


def test_the_extension_is_one_file_for_every_python_and_torch() -> None:
    assert abi_check.faults_of(Path(svm_ext.__path__[0]) / "_C.abi3.so") == []


def test_abi_check_finds_what_ties_a_module_to_one_release() -> None:
    """The check itself: torch's own module is tied to its torch by the very things that ours may not have."""
    [own] = Path(torch.__file__).parent.glob("_C.*.so")
    faults = abi_check.faults_of(own)
    assert any("must end in .abi3.so" in fault for fault in faults)
    assert any("depends on libtorch_python.so" in fault for fault in faults)


def test_source_distribution_holds_all_that_a_build_needs(tmp_path: Path) -> None:
    make = f"import build_backend; build_backend.build_sdist({str(tmp_path)!r})"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "csrc/packaging")}
    subprocess.run([sys.executable, "-c", make], cwd=ROOT, env=environment, check=True, capture_output=True)
    [archive] = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        held = {name.partition("/")[2] for name in tar.getnames()}
    needed = {"CMakeLists.txt", "constraints.txt", "setup.py", "pyproject.toml", "LICENSE", "README.md"}
    for folder in ("csrc", "kernels"):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in (".cpp", ".h", ".cu", ".cuh") or file.parent.name == "packaging" and file.suffix == ".py":
                needed.add(str(file.relative_to(ROOT)))
    assert needed <= held
    assert not any(name.endswith(".so") for name in held)
