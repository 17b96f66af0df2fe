"""Compiles every CUDA kernel for every GPU generation that we name and reads what ptxas says of it.

    python csrc/packaging/ptxas_report.py [ARCH ...]        (default: sm_80 sm_90a)

A kernel that spills registers to memory is a fault: it runs, slowly, and nobody notices. Reports are kept in
build/ptxas and used again while the sources under kernels/ and the compiler stay as they are.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ARCHS = ("sm_80", "sm_90a")


@dataclass(frozen=True)
class Kernel:
    """What ptxas says of one kernel."""

    name: str
    registers: int
    spilled_bytes: int
    stack_bytes: int  # registers that spill, and arrays that are indexed by what only the run knows


def find_nvcc() -> str | None:
    """The CUDA compiler, on PATH or where a toolkit usually lies."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    places = os.pathsep.join([os.environ.get("PATH", ""), *(f"{home}/bin" for home in homes if home)])
    return shutil.which("nvcc", path=places)


def sources() -> list[Path]:
    """Every CUDA source of the repository."""
    return sorted((ROOT / "kernels/cuda").glob("*.cu"))


def compile_report(nvcc: str, source: Path, arch: str) -> str:
    """The text that ptxas prints for this source; RuntimeError with the compiler's words where it does not compile."""
    kept = ROOT / "build/ptxas" / f"{source.stem}.{arch}.{_fingerprint(nvcc)}.txt"
    if kept.exists():
        return kept.read_text()
    virtual = arch.replace("sm_", "compute_")
    # The long spelling: the -arch shorthand compiles a plain pass too, which refuses instructions of the "a" targets.
    target = ["-gencode", f"arch={virtual},code={arch}", "-Xptxas", "-v"]
    folders = ["-I", str(ROOT / "kernels/include"), "-I", str(ROOT / "kernels")]
    command = [nvcc, "-std=c++17", "-O3", *target, *folders, "-c", str(source), "-o", os.devnull]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{source.name} does not compile for {arch}:\n{done.stderr}{done.stdout}")
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(done.stderr + done.stdout)
    return kept.read_text()


def _fingerprint(nvcc: str) -> str:
    digest = hashlib.sha256(subprocess.run([nvcc, "--version"], capture_output=True).stdout)
    for file in sorted(ROOT.glob("kernels/**/*")):
        if file.suffix in (".h", ".cuh", ".cu"):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def parse(report: str) -> list[Kernel]:
    """The kernels of a ptxas report."""
    kernels = []
    for part in report.split("Compiling entry function ")[1:]:
        name = part.split("'")[1]
        spills = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", part)
        registers = re.search(r"Used (\d+) registers", part)
        if spills is None or registers is None:
            raise RuntimeError(f"ptxas reports in another form than expected: {part[:300]}")
        kernels.append(Kernel(name, int(registers[1]), int(spills[2]) + int(spills[3]), int(spills[1])))
    return kernels


def main(arguments: list[str]) -> int:
    """Compile all, print one line for each source and target; 0 where all compile and none spills."""
    nvcc = find_nvcc()
    if nvcc is None:
        print("CUDA COMPILE CHECK NOT DONE: no nvcc found; put it on PATH or set CUDA_HOME", file=sys.stderr)
        return 2
    faults = 0
    for source in sources():
        for arch in arguments or ARCHS:
            try:
                kernels = parse(compile_report(nvcc, source, arch))
            except RuntimeError as error:
                print(error, file=sys.stderr)
                faults += 1
                continue
            spilling = [kernel for kernel in kernels if kernel.spilled_bytes or kernel.stack_bytes]
            most = max((kernel.registers for kernel in kernels), default=0)
            print(f"{source.name} {arch}: {len(kernels)} kernels, at most {most} registers, {len(spilling)} spilling")
            for kernel in spilling:
                print(f"    {kernel.name} spills {kernel.spilled_bytes} bytes, keeps {kernel.stack_bytes} on its stack")
            faults += len(spilling)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
