"""Builds the op library and the tracker with CMake and puts them into the package. The rest stands in pyproject.toml.

Environment variables:
    SVM_EXT_TORCH_DIR    the torch folder to build against (default: the one found, see csrc/packaging/torch_dir.py)
    SVM_EXT_CUDA         auto (default: build the CUDA kernels where nvcc is there), on, off
    SVM_EXT_CUDA_ARCHS   what to compile them for, CMake's notation (default: 80-real,90a-real,90-virtual)
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "csrc/packaging"))

from torch_dir import TorchNotFoundError, find_torch, version_of  # noqa: E402

# Runs on sm_80 and all that is newer: the last one is PTX, which the driver compiles for what comes after Hopper.
DEFAULT_CUDA_ARCHS = "80-real,90a-real,90-virtual"


def stop(line: str) -> SystemExit:
    """An error that pip shows as one line, without a traceback."""
    return SystemExit(f"svm_ext: {line}")


def pybind11_include() -> str:
    """The folder of pybind11's headers."""
    try:
        import pybind11
    except ImportError:
        raise stop("the build needs pybind11, found none; type: pip install pybind11") from None
    return pybind11.get_include()


class CMakeBuild(build_ext):
    """Builds the extensions with CMake instead of the compiler that setuptools knows."""

    def build_extensions(self) -> None:
        """Configure, compile, and copy the modules to where setuptools expects them."""
        try:
            torch_dir = find_torch()
        except TorchNotFoundError as error:
            raise stop(str(error)) from None
        # Not setuptools' temporary folder: an editable install throws it away, and with it what need not be rebuilt.
        build_dir = ROOT / "build" / f"{self.plat_name}-{sys.implementation.cache_tag}"
        cmake, ninja = self._program("cmake"), self._program("ninja")
        self._run([cmake, "-S", str(ROOT), "-B", str(build_dir), *self._options(torch_dir, ninja)], "configure")
        jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL") or str(os.cpu_count() or 1)
        self._run([cmake, "--build", str(build_dir), "--parallel", jobs], "compile")
        for ext in self.extensions:
            self._place(build_dir, Path(self.get_ext_fullpath(ext.name)))
        self._announce(build_dir, torch_dir)

    def _place(self, build_dir: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        # By way of a rename: a process that has the old library loaded keeps its own copy.
        fresh = target.with_suffix(".new")
        shutil.copy2(build_dir / target.name, fresh)
        fresh.replace(target)

    def _options(self, torch_dir: Path, ninja: str) -> list[str]:
        cuda = os.environ.get("SVM_EXT_CUDA", "auto").lower()
        if cuda not in ("auto", "on", "off"):
            raise stop(f"SVM_EXT_CUDA must be auto, on or off, got {cuda!r}")
        archs = os.environ.get("SVM_EXT_CUDA_ARCHS", DEFAULT_CUDA_ARCHS)
        include = sysconfig.get_path("include")
        if not (Path(include) / "Python.h").exists():
            raise stop(f"the build needs Python's headers, found no Python.h in {include}; install python3-dev")
        # Named anew each time: in an isolated build ninja lies in a temporary folder, and CMake remembers the last one.
        return [
            "-GNinja",
            f"-DCMAKE_MAKE_PROGRAM={ninja}",
            "-DCMAKE_BUILD_TYPE=Release",
            f"-DSVM_TORCH_DIR={torch_dir}",
            f"-DSVM_PYTHON_INCLUDE={include}",
            f"-DSVM_PYTHON_SUFFIX={sysconfig.get_config_var('EXT_SUFFIX')}",
            f"-DSVM_PYBIND11_INCLUDE={pybind11_include()}",
            f"-DSVM_CUDA={cuda}",
            f"-DSVM_CUDA_ARCHS={archs.replace(',', ';').replace(' ', ';')}",
        ]

    def _program(self, name: str) -> str:
        path = shutil.which(name)
        if path is None:
            raise stop(f"the build needs {name}, found none; type: pip install cmake ninja")
        return path

    def _run(self, command: list[str], what: str) -> None:
        try:
            subprocess.run(command, check=True)
        except subprocess.CalledProcessError:
            line = f"could not {what} the extension; the reason stands above. SVM_EXT_CUDA=off leaves out the CUDA part"
            raise stop(line) from None

    def _announce(self, build_dir: Path, torch_dir: Path) -> None:
        built = (build_dir / "built.txt").read_text().strip()
        lines = [f"svm_ext built against torch {version_of(torch_dir)}", *built.splitlines()]
        print("=" * 72, *lines, "=" * 72, sep="\n", file=sys.stderr)


def native_sources() -> list[str]:
    """Everything that the extensions are made from: rebuilt when it changes, and part of a source distribution."""
    kinds = ("*.cpp", "*.h", "*.cu", "*.cuh", "*.py")
    files = [file for top in ("csrc", "kernels") for kind in kinds for file in (ROOT / top).rglob(kind)]
    return ["CMakeLists.txt", "constraints.txt", *sorted(str(file.relative_to(ROOT)) for file in files)]


# The ops are one file for Python 3.10 and newer, the tracker is not: a wheel with both is for the Python that built it.
setup(
    ext_modules=[
        Extension("svm_ext._C", sources=[], depends=native_sources(), py_limited_api=True),
        Extension("svm_ext._tracker", sources=[], depends=native_sources()),
    ],
    cmdclass={"build_ext": CMakeBuild},
)
