"""Checks the CUDA kernels on the GPU of this machine: builds them if need be, tests them, times them, sanitizes them.

    python benchmarks/gpu_check.py                          everything, under eight minutes, no network
    python benchmarks/gpu_check.py --json FILE              and where the figures go
    python benchmarks/gpu_check.py --only tests timings

Ends with 0 where everything is right, 1 where something is wrong, 2 without a GPU. A goal that is missed is told and is
not wrong. What runs out of time is told too, and what was measured until then is kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
STEPS = ("tests", "timings", "sanitizer")
SECONDS = 465  # of all steps together
LIMITS = {"build": 240, "tests": 150, "timings": 200, "sanitizer": 120}
TOOLS = ("memcheck", "synccheck", "racecheck")
OURS = "3svm4cuda"  # in the names of our kernels, as the compiler writes them
_LAST_WORDS = 40  # lines of a step that fails


@dataclass(frozen=True)
class Step:
    """What became of one step."""

    name: str
    right: bool
    seconds: float
    told: str  # one line
    last_words: str = ""  # of one that failed


@dataclass
class Machine:
    """Where the children run, and how long they may."""

    python_path: str = ""  # empty: the installed package
    started: float = field(default_factory=time.monotonic)

    def run(self, command: list[str], limit: float, **environment: str) -> tuple[int | None, str]:
        """Run a child away from the sources; return its exit code, None where it ran out of time, and its output."""
        left = min(limit, SECONDS - (time.monotonic() - self.started))
        if left < 5:
            return None, "no time is left for it"
        path = [self.python_path, os.environ.get("PYTHONPATH", "")]
        variables = os.environ | environment | {"PYTHONPATH": os.pathsep.join(filter(None, path))}
        with tempfile.TemporaryDirectory() as folder:
            try:
                done = subprocess.run(
                    command, cwd=folder, env=variables, timeout=left, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
                )
            except subprocess.TimeoutExpired as late:
                return None, (late.stdout or b"").decode(errors="replace")
        return done.returncode, done.stdout.decode(errors="replace")


def timed(name: str, work: Callable[[], tuple[bool, str, str]]) -> Step:
    """Run a step and tell it."""
    start = time.monotonic()
    right, told, output = work()
    words = "" if right else "\n".join(output.splitlines()[-_LAST_WORDS:])
    step = Step(name, right, round(time.monotonic() - start, 1), told, words)
    print(f"{step.name:<12}{'ok' if right else 'WRONG':<7}{step.seconds:>6.0f} s  {step.told}", flush=True)
    if words:
        print(words, flush=True)
    return step


def status(machine: Machine) -> tuple[bool, str]:
    """Return whether the package that the children see has kernels for this GPU, and its words."""
    code = "import svm_ext; it = svm_ext.info().backends['cuda']; print(it.usable, it.reason)"
    failed, output = machine.run([sys.executable, "-c", code], 60)
    words = output.strip().splitlines()[-1] if output.strip() else "nothing"
    return failed == 0 and words.startswith("True"), words.removeprefix("True ").removeprefix("False ")


def build(machine: Machine) -> tuple[bool, str, str]:
    """Take the installed package, or else compile the sources in place, for this GPU alone."""
    usable, words = status(machine)
    if usable:
        return True, f"installed: {words}", ""
    machine.python_path = str(ROOT)
    usable, words = status(machine)
    if usable:
        return True, f"these sources, built before: {words}", ""
    major, minor = torch.cuda.get_device_capability()
    archs = f"{major}{minor}{'a' if major >= 9 else ''}-real"
    command = [sys.executable, str(ROOT / "setup.py"), "build_ext", "--inplace"]
    setup = ["-c", "import os, sys; os.chdir(sys.argv[1]); os.execv(sys.argv[2], sys.argv[2:])", str(ROOT), *command]
    code, output = machine.run([sys.executable, *setup], LIMITS["build"], SVM_EXT_CUDA="on", SVM_EXT_CUDA_ARCHS=archs)
    if code != 0:
        return False, "out of time" if code is None else "did not compile", output
    usable, words = status(machine)
    return usable, f"these sources, built now for {archs}: {words}", "" if usable else output


def tests(machine: Machine) -> tuple[bool, str, str]:
    """Run the tests that need a GPU; the memory that they get is full of NaN."""
    files = sorted(map(str, (ROOT / "python_tests/ops").glob("test_*_cuda.py")))
    options = ["-q", "-m", "gpu", "-p", "no:cacheprovider", f"--rootdir={ROOT}", "-c", str(ROOT / "pyproject.toml")]
    code, output = machine.run([sys.executable, "-m", "pytest", *options, *files], LIMITS["tests"])
    return (*judged(code, output), output)


def judged(code: int | None, output: str) -> tuple[bool, str]:
    """Return whether pytest was content, and with how many; where nothing ran there is nothing to be content with."""
    counts = {kind: int(number) for number, kind in re.findall(r"(\d+) (passed|failed|skipped|error)", output)}
    told = ", ".join(f"{number} {kind}" for kind, number in counts.items()) or "no test ran"
    if code is None:
        return False, f"out of time; {told}"
    return code == 0 and counts.get("passed", 0) > 0, told


def timings(machine: Machine, results: dict[str, Any]) -> tuple[bool, str, str]:
    """Measure in a process of its own, which writes what it has after every row."""
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "rows.json"
        code, output = machine.run([sys.executable, str(Path(__file__)), "--measure", str(part)], LIMITS["timings"])
        if part.exists():
            results |= json.loads(part.read_text())
    wrong = [failure["name"] for failure in results.get("failures", []) if failure["wrong"]]
    told = f"{len(results.get('rows', []))} rows, {len(results.get('targets', []))} goals"
    if wrong:
        return False, f"wrong results: {', '.join(wrong)}", output
    if code is None:
        return False, f"out of time; {told}", output
    return code == 0, told, output


def sanitizer(machine: Machine) -> tuple[bool, str, str]:
    """Run small calls of every kernel under each tool of compute-sanitizer, where it is there."""
    tool = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if tool is None:
        return True, "left out: no compute-sanitizer on this machine", ""
    told, right, outputs = [], True, []
    for name in TOOLS:
        options = ["--tool", name, "--error-exitcode", "9", "--kernel-name", f"kns={OURS}"]
        options += ["--report-api-errors", "no"] if name == "memcheck" else []  # torch asks what it need not know
        command = [tool, *options, sys.executable, str(Path(__file__)), "--exercise"]
        code, output = machine.run(command, LIMITS["sanitizer"] / len(TOOLS) * 1.5, PYTORCH_NO_CUDA_MEMORY_CACHING="1")
        told.append(f"{name} {'out of time' if code is None else 'clean' if code == 0 else 'NOT CLEAN'}")
        right = right and code in (0, None)
        outputs.append(output if code not in (0, None) else "")
    return right, ", ".join(told), "\n".join(outputs)


def exercise() -> None:
    """Call every kernel once or twice on small inputs and compare with the reference."""
    sys.path.append(str(ROOT / "python_tests"))
    import append_cases
    import cuda_cases
    from cuda_cases import FEW, LITTLE, Attend

    gpu, ops = torch.device("cuda"), torch.ops.svm_ext
    import svm_ext.ops  # noqa: F401  loads them

    attends = [Attend(windows=2, real=((14, 9), (3, 14))), Attend(side=7, dim=128), Attend(side=5, dim=40)]
    for case in [*attends, *(dataclasses.replace(case, pool=torch.float8_e4m3fn) for case in attends)]:
        cuda_cases.check_attend(ops, case, gpu)
    for case in (append_cases.PLAIN, append_cases.CODED):
        append_cases.check(ops.memory_append_, case, gpu)
    for evict in ("merge", "clear"):
        sized = LITTLE.size._replace(streams=1, frames=2, side=7)
        cuda_cases.check_steps(ops, dataclasses.replace(LITTLE, size=sized, evict=evict), gpu)
    cuda_cases.check_clip(ops, dataclasses.replace(FEW, frames=2), gpu)
    cuda_cases.check_nms(ops, 130, 2, torch.float32, 0.5, gpu)
    torch.cuda.synchronize()


def measure(path: Path) -> int:
    """Measure all rows and write what is there after each."""
    sys.path.append(str(Path(__file__).parent))
    import gpu_rows

    from svm_ext.bench import report

    scale = gpu_rows.Scale()
    results = gpu_rows.results(scale, command([]))
    for found in gpu_rows.measure(scale):
        results.add(found)
        results.write(path)
    results.complete = True
    results.write(path)
    print(*report.failure_lines(results.failures), sep="\n")
    return 1 if results.wrong else 0


def described() -> dict[str, Any]:
    """Return the GPU and what drives it."""
    properties = torch.cuda.get_device_properties(0)
    query = [
        "nvidia-smi",
        "--query-gpu=driver_version,clocks.max.sm,clocks.max.mem",
        "--format=csv,noheader",
        "-i",
        "0",
    ]
    try:
        smi = subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        smi = ""
    driver, sm, memory = (smi.split(", ") + ["", "", ""])[:3]
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "l2_bytes": getattr(properties, "L2_cache_size", None),
        "driver": driver,
        "clocks_max": f"{sm}, {memory}",
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
    }


def command(arguments: list[str]) -> str:
    """Return what to type to have this again."""
    return shlex.join(["python", "benchmarks/gpu_check.py", *arguments])


def summary(results: dict[str, Any]) -> list[str]:
    """Return the short table that ends the run: goals, other rows, what failed."""
    from svm_ext.bench import report
    from svm_ext.bench.targets import Target

    names = {one.name for one in dataclasses.fields(Target)}
    targets = [Target(**{name: value for name, value in it.items() if name in names}) for it in results["targets"]]
    lines = [report.target_line(target) for target in targets]
    lines += [f"{row['op']}: {report.size_text(row['sizes'])}: {report.number(row['ms'])} ms, "
              f"{report.number(row['gb_s'])} GB/s" for row in results["rows"]]  # fmt: skip
    lines += [f"not measured: {failure['name']}: {failure['reason']}" for failure in results["failures"]]
    met = sum(target.met for target in targets)
    return [*lines, f"{met} of {len(targets)} goals reached"]


def main(arguments: list[str] | None = None) -> int:
    """Do all steps, write the JSON, and print the table last."""
    parser = argparse.ArgumentParser(description="Check the CUDA kernels on this machine's GPU.")
    parser.add_argument(
        "--only", nargs="+", choices=STEPS, default=STEPS, metavar="STEP", help=f"of {', '.join(STEPS)}"
    )
    parser.add_argument("--json", type=Path, default="gpu_check.json", metavar="FILE", help="default: %(default)s")
    parser.add_argument("--measure", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    parser.add_argument("--exercise", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print(f"NO GPU: torch {torch.__version__} finds none; nothing was built, tested or measured")
        return 2
    if given.measure:
        return measure(given.measure)
    if given.exercise:
        exercise()
        return 0
    return check(given)


def check(given: argparse.Namespace) -> int:
    """Do the steps that are asked for; without a build there is nothing to do."""
    machine = Machine()
    results: dict[str, Any] = {"gpu": described(), "command": command(sys.argv[1:]), "rows": [], "targets": [],
                               "failures": []}  # fmt: skip
    print(*(f"{name}: {value}" for name, value in results["gpu"].items()), sep="\n", flush=True)
    steps = [timed("build", lambda: build(machine))]
    works = {"tests": lambda: tests(machine), "timings": lambda: timings(machine, results),
             "sanitizer": lambda: sanitizer(machine)}  # fmt: skip
    if machine.python_path:
        sys.path.insert(0, machine.python_path)
    for name in STEPS:
        if steps[0].right and name in given.only:
            steps.append(timed(name, works[name]))
    results["steps"] = [dataclasses.asdict(step) for step in steps]
    part = given.json.with_name(given.json.name + ".part")
    part.write_text(json.dumps(results, indent=1) + "\n")
    part.replace(given.json)
    print("", f"wrote {given.json}", *(summary(results) if steps[0].right else []), sep="\n")
    return 0 if all(step.right for step in steps) else 1


if __name__ == "__main__":
    sys.exit(main())
