"""Where the torch that we build against lies, found without importing it.

A build needs torch's stable headers and three of its libraries, nothing else, and any torch from 2.11 on serves: the
extension that results runs on all of them. So a torch on disk is enough, also one that an isolated build cannot import.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MINIMUM = (2, 11)
NEEDED = ("include/torch/csrc/stable/library.h", "lib/libtorch.so", "lib/libtorch_cpu.so", "lib/libc10.so")
ADVICE = "type: pip install -c constraints.txt torch   (or set SVM_EXT_TORCH_DIR to a torch folder)"


class TorchNotFoundError(Exception):
    """No torch to build against; the text is one line that says what to type."""


def find_torch() -> Path:
    """The folder of a torch that serves for building, or TorchNotFoundError."""
    named = os.environ.get("SVM_EXT_TORCH_DIR")
    if named:
        fault = fault_of(Path(named))
        if fault:
            raise TorchNotFoundError(f"SVM_EXT_TORCH_DIR must be a torch folder, got {named}: {fault}")
        return Path(named).resolve()
    faults = []
    for folder in candidates():
        fault = fault_of(folder)
        if not fault:
            return folder.resolve()
        faults.append(f"{folder}: {fault}")
    seen = f" ({'; '.join(faults)})" if faults else ""
    raise TorchNotFoundError(f"the build needs torch {MINIMUM[0]}.{MINIMUM[1]} or newer, found none{seen}; {ADVICE}")


def candidates() -> list[Path]:
    """Torch folders that exist, likeliest first: importable, in the target environment, in the active one."""
    folders = []
    spec = importlib.util.find_spec("torch")
    if spec is not None and spec.origin:
        folders.append(Path(spec.origin).parent)
    # pip's isolated build hides the target environment's packages, but sys.prefix still names it. `python -m build` and
    # uv build in an environment of their own; the caller's is then the active one, on PATH, or uv's usual place.
    active = [Path(entry).parent for entry in os.environ.get("PATH", "").split(os.pathsep) if Path(entry).name == "bin"]
    for prefix in (Path(sys.prefix), *active, ROOT / ".venv", Path(sys.base_prefix)):
        folders += _torch_under(prefix)
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def _torch_under(prefix: Path) -> list[Path]:
    # An environment of another Python version serves as well: the libraries are the same.
    scheme = {"base": str(prefix), "platbase": str(prefix)}
    own = [Path(sysconfig.get_path(name, vars=scheme)) for name in ("purelib", "platlib")]
    others = sorted(prefix.glob("lib/python3.*/site-packages"), reverse=True)
    return [site / "torch" for site in (*own, *others)]


def fault_of(folder: Path) -> str:
    """Why this torch folder does not serve for building; empty where it does."""
    missing = [name for name in NEEDED if not (folder / name).exists()]
    if missing:
        return f"{missing[0]} is missing"
    version = version_of(folder)
    if tuple(int(part) for part in version.split(".")[:2]) < MINIMUM:
        return f"version {version} is too old"
    return ""


def version_of(folder: Path) -> str:
    """The version of the torch in this folder, read as text."""
    text = (folder / "version.py").read_text() if (folder / "version.py").exists() else ""
    found = re.search(r"__version__ = ['\"](\d+\.\d+[^'\"]*)", text)
    return found.group(1) if found else "0.0"
