"""What a figure was measured on, and what that machine can do: bandwidth, multiply-adds, free memory."""

from __future__ import annotations

import ctypes
import datetime
import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from .. import __version__, _info, backend

_PEAK_ROUNDS = 500_000  # about a millisecond
_PEAK_REPEATS = 5
_BANDWIDTH_BYTES = 256 << 20  # beyond any cache


def describe(device: str, command: str) -> dict[str, Any]:
    """Return what somebody needs to take a figure again."""
    found = _info.info()
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else found.cpu,
        "cpu": found.cpu,
        "backend": backend.backend_for(device),
        "isa": found.cpu_isa,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),  # of all programs, over the minute before
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "svm_ext": __version__,
        "compiler": found.compiler,
        "commit": commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": command,
    }


def commit() -> str | None:
    """Return the commit of the sources that run, `+` behind it where they were changed since; None for a package
    that was installed from elsewhere."""
    folder = Path(__file__).parent
    found = _git(folder, "rev-parse", "HEAD")
    if found is None or _git(folder, "ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    return found + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def peak_kind(dtype: torch.dtype, device: str) -> str:
    """Return which multiply-adds a row is measured against: `dot` (bf16 dot product), `fma`, or nothing on a
    GPU."""
    if device != "cpu":
        return ""
    return "dot" if dtype == torch.bfloat16 and torch.ops.svm_ext.cpu_peak(True, 1) > 0 else "fma"


def peak_probe(kind: str) -> Callable[[], float] | None:
    """Return what measures this peak now, in GFLOP/s, on all of torch's threads."""

    def probe() -> float:
        # The best of a few: a neighbour that takes a core for a moment would make our share of the peak look better.
        return max(torch.ops.svm_ext.cpu_peak(kind == "dot", _PEAK_ROUNDS) for _ in range(_PEAK_REPEATS))

    return probe if kind else None


def copier(count: int, device: str) -> Callable[[], Any]:
    """Return a copy that moves so many bytes: it reads one half of them and writes the other."""
    source = torch.arange(max(1, count // 8), dtype=torch.float32, device=device)  # written, so that it has pages
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def bandwidth(device: str, clock: Callable[[Callable[[], Any]], float]) -> dict[str, float]:
    """Return the GB/s of a copy (read and written bytes) and of a sum (read bytes), the best of five."""
    numbers = torch.arange(_BANDWIDTH_BYTES // 4, dtype=torch.float32, device=device)
    copy = copier(_BANDWIDTH_BYTES, device)
    calls = {"copy_gb_s": copy, "read_gb_s": numbers.sum}
    return {name: _BANDWIDTH_BYTES / min(clock(call) for _ in range(6)) / 1e6 for name, call in calls.items()}


def available_bytes(device: str) -> int:
    """Return the memory that is free for a benchmark."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return min(int(line.split()[1]) * 1024, _group_limit())
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _group_limit() -> int:
    """Return what a container may still take."""
    folder = Path("/sys/fs/cgroup")
    versions = ("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")
    for most, used in versions:
        if (folder / most).exists() and (text := (folder / most).read_text().strip()) != "max":
            return max(0, int(text) - int((folder / used).read_text()))
    return 1 << 62


def peak_memory(run: Callable[[], Any], device: str) -> tuple[Any, int | None]:
    """Return the result of one call, and the bytes that it had in use at most beyond those before it; None where
    the system does not tell."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        return run(), torch.cuda.max_memory_allocated() - before
    if not _forget_peak():
        return run(), None
    before = _resident("VmRSS")
    return run(), max(0, _resident("VmHWM") - before)


def _forget_peak() -> bool:
    """Let the kernel count this process's peak of resident memory from now on."""
    # What was freed before goes back to the system first: a call that finds it ready would seem to need nothing.
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
