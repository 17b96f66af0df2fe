"""What was built, what was found, and which back end runs: the one place that says so."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from . import backend
from ._version import __version__

_NO_CUDA_IN_TORCH = "this torch was built without CUDA"
_NEEDS_SCHEMAS = "needs the compiled ops' schemas"


@dataclass(frozen=True)
class BackEndStatus:
    """Whether one back end can be used here, and why or why not."""

    name: str
    built: bool
    usable: bool
    reason: str  # one plain sentence, also where it is usable
    ops: tuple[str, ...] = ()  # what it carries

    def __bool__(self) -> bool:
        return self.usable


@dataclass(frozen=True)
class Info:
    """What `svm_ext.info()` returns: print it for people, read its fields in scripts, `.json()` for bug reports."""

    version: str
    python: str
    torch: str  # the torch that was found
    torch_target: str  # the oldest torch that the compiled ops run on; empty where they are missing
    cpu: str
    cpu_isa: str  # the instruction set in use
    cpu_isas: tuple[str, ...]  # those that this CPU can run, best last
    threads: int
    cuda_archs: tuple[str, ...]  # what the CUDA kernels were compiled for; empty where they were not
    devices: tuple[str, ...]  # GPUs that torch sees
    compiler: str
    selected: str  # "auto", or the back end that use_backend or SVM_EXT_BACKEND names
    runs: dict[str, str]  # device type -> the back end that takes its tensors, and with which ops
    backends: dict[str, BackEndStatus]
    tracker: str  # whether the C++ tracker can be loaded, in one plain sentence
    problem: str = field(default="")  # why the compiled ops could not be loaded; empty where they were

    def __bool__(self) -> bool:
        return not self.problem

    def __str__(self) -> str:
        return "\n".join(_table(self))

    def json(self) -> str:
        """Return the same as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2)


def info() -> Info:
    """Say what was built, what was found, and which back end runs."""
    built, isa, isas, problem = {}, "", (), ""
    try:
        built, isa, isas = _load()
    except (ImportError, OSError) as error:
        problem = str(error).splitlines()[0]
    archs = tuple(built.get("cuda_archs", ()))
    backends = {status.name: status for status in (_cpu(problem, isa), _cuda(problem, archs), _triton(), _reference())}
    return Info(
        version=__version__,
        python=platform.python_version(),
        torch=torch.__version__,
        torch_target=built.get("torch_target", ""),
        cpu=_cpu_name(),
        cpu_isa=isa,
        cpu_isas=isas,
        threads=torch.get_num_threads(),
        cuda_archs=archs,
        devices=tuple(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())),
        compiler=built.get("compiler", ""),
        selected=backend.selected(),
        runs={kind: _what_runs(kind, backends) for kind in ("cpu", "cuda")},
        backends=backends,
        tracker=_tracker(),
        problem=problem,
    )


def _load() -> tuple[dict[str, Any], str, tuple[str, ...]]:
    """Return what the compiled library says: how it was built, the instruction set in use, those that it can use."""
    from .ops import _library

    ops = torch.ops.svm_ext
    return _library.build_info(), ops.cpu_isa(None), tuple(ops.cpu_isas().split(","))


def _ops_of(name: str) -> tuple[str, ...]:
    announced = backend.announced().get(name)
    return tuple(sorted(announced.ops)) if announced else ()


def _cpu(problem: str, isa: str) -> BackEndStatus:
    if problem:
        return BackEndStatus("cpu", False, False, problem)
    ops = _ops_of("cpu")
    return BackEndStatus("cpu", True, True, f"C++, {len(ops)} ops, instruction set {isa}", ops)


def _cuda(problem: str, archs: tuple[str, ...]) -> BackEndStatus:
    if problem or not archs:
        return BackEndStatus(
            "cuda", False, False, problem or "left out of the build: no nvcc was found, or SVM_EXT_CUDA=off"
        )
    ops = _ops_of("cuda")
    carries = "" if set(ops) == set(_ops_of("cpu")) else f"has only {', '.join(ops)} so far; "
    if torch.version.cuda is None:
        return BackEndStatus("cuda", True, False, carries + _NO_CUDA_IN_TORCH, ops)
    if not torch.cuda.is_available():
        return BackEndStatus("cuda", True, False, carries + "torch finds no GPU", ops)
    major, minor = torch.cuda.get_device_capability()
    if not archs_serve(archs, major, minor):
        reason = f"{carries}not built for sm_{major}{minor}; set SVM_EXT_CUDA_ARCHS"
        return BackEndStatus("cuda", True, False, reason, ops)
    return BackEndStatus("cuda", True, True, f"{carries}built for {' '.join(archs)}", ops)


def archs_serve(archs: tuple[str, ...], major: int, minor: int) -> bool:
    """Return whether code for these targets runs on a GPU of this compute capability.

    Machine code (sm_) runs on its own generation from its minor version on; an "a" target on its very own version only.
    PTX (compute_) is compiled by the driver for everything newer.
    """
    for arch in archs:
        kind, _, number = arch.partition("_")
        exact = number.endswith("a")
        value = int(number.rstrip("af"))
        have, same = (value // 10, value % 10), (major, minor)
        if have == same or (not exact and have <= same and (kind == "compute" or have[0] == major)):
            return True
    return False


def _triton() -> BackEndStatus:
    ops = _ops_of("triton")
    if not ops:
        reason = backend.NO_TRITON if backend.announced() else _NEEDS_SCHEMAS
        return BackEndStatus("triton", False, False, reason)
    found = f"Triton {_triton_version()}, {len(ops)} ops, compiled at their first use"
    if "cpu" in backend.announced()["triton"].devices:
        return BackEndStatus("triton", True, True, f"{found}; interpreted, as TRITON_INTERPRET=1 says", ops)
    if not torch.cuda.is_available():
        return BackEndStatus("triton", True, False, f"{found}; torch finds no GPU", ops)
    return BackEndStatus("triton", True, True, found, ops)


def _triton_version() -> str:
    """Return Triton's version without importing it; it comes under several names."""
    return next((metadata.version(name) for name in metadata.packages_distributions().get("triton", [])), "(unknown)")


def _reference() -> BackEndStatus:
    ops = _ops_of("reference")
    reason = "plain torch on any device, slow: the yardstick of the tests"
    return BackEndStatus("reference", bool(ops), bool(ops), reason if ops else _NEEDS_SCHEMAS, ops)


def _tracker() -> str:
    try:
        from . import _tracker
    except ImportError as error:
        return str(error).splitlines()[0]
    return f"C++, built for this Python ({Path(_tracker.__file__).name})"


def _what_runs(kind: str, backends: dict[str, BackEndStatus]) -> str:
    name = backend.backend_for(kind)
    status = backends[name]
    if not status:
        return f"nothing: {name} is not usable"
    return name if len(status.ops) == len(backends["reference"].ops) else f"{name}, for {', '.join(status.ops)}"


def _cpu_name() -> str:
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _table(found: Info) -> list[str]:
    """Return the lines that people see, at most one screen."""
    target = f"the compiled ops run on {found.torch_target} and newer" if found.torch_target else "compiled ops missing"
    forced = " (SVM_EXT_CPU_ISA)" if os.environ.get("SVM_EXT_CPU_ISA") else ""
    lines = [
        f"svm_ext {found.version} with Python {found.python} and torch {found.torch}; {target}",
        "",
        f"{'back end':<11}{'built':<7}{'usable':<8}remark",
    ]
    for status in found.backends.values():
        built, usable = ("yes" if it else "no" for it in (status.built, status.usable))
        lines.append(f"{status.name:<11}{built:<7}{usable:<8}{status.reason}")
    facts = {
        "choice": found.selected + (" (by the device of the tensors)" if found.selected == "auto" else ""),
        "on CPU": found.runs["cpu"],
        "on GPU": found.runs["cuda"],
        "CPU": f"{found.cpu}, {found.threads} threads",
        "  sets": f"{' '.join(found.cpu_isas) or 'unknown'}; in use: {found.cpu_isa or 'none'}{forced}",
        "GPU": ", ".join(found.devices) or "none found",
        "  built for": " ".join(found.cuda_archs) or "no GPU",
        "tracker": found.tracker,
        "compiler": found.compiler or "unknown",
    }
    return [*lines, "", *(f"{name:<13}{value}" for name, value in facts.items())]
