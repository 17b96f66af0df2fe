"""What the suites share: which rows there are, each checked against the reference before it is timed.

The files are called bench_*.py, so that no ordinary test run collects them:

    pytest benchmarks --benchmark-only
    pytest benchmarks/bench_memory_attend.py --benchmark-only --units 336 --frames 32 --dtype bf16
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from svm_ext.bench import cases, machine, measure, refcheck
from svm_ext.bench.case import DTYPES, Case, Contender, Room

sys.path.append(str(Path(__file__).parent))  # for what the suites of this folder share


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("svm_ext benchmarks")
    group.addoption("--quick", action="store_true", help="few shapes, few rounds")
    group.addoption("--units", type=int, action="append", help="windows x heads x streams; may be repeated")
    group.addoption("--frames", type=int, action="append", help="frames in memory or clip; may be repeated")
    group.addoption("--dtype", choices=list(DTYPES), action="append", help="may be repeated; default: all")
    group.addoption("--device", choices=("cpu", "cuda"), default="cpu")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    # A file that is named on the command line is collected by pytest itself; `pytest .` means the tests.
    if not file_path.match("bench_*.py") or parent.session.isinitpath(file_path) or not _asked_for(parent.config):
        return None
    return pytest.Module.from_parent(parent, path=file_path)


def _asked_for(config: pytest.Config) -> bool:
    """Whether this folder was named on the command line."""
    return any(Path(argument).resolve() == Path(__file__).parent.resolve() for argument in config.args)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every row with every contender of its op, those of one row next to each other."""
    if not hasattr(metafunc.module, "OP"):
        return
    option = metafunc.config.getoption
    dtypes = [DTYPES[name] for name in option("dtype") or DTYPES]
    shapes = dict(units=option("units"), frames=option("frames"), quick=option("quick"), device=option("device"))
    entries = cases.entries([metafunc.module.OP], dtypes, **shapes)
    there = [name for name in metafunc.module.CONTENDERS if name != "flex" or option("device") == "cuda"]
    rows = [(entry, name) for entry in entries for name in there]
    names = [f"{entry.name}-{name}".replace(" ", "_") for entry, name in rows]
    metafunc.parametrize(("entry", "contender"), rows, ids=names)


_built: dict[str, Case | str] = {}  # the row at hand, or why it cannot be had


def checked(entry: cases.Entry, device: str) -> Case:
    """Build a row and check all of its contenders; the memories of the row before are let go."""
    if entry.name not in _built:
        _built.clear()
        torch.manual_seed(0)
        room = Room(machine.available_bytes(device))
        try:
            case = entry.build(room)
            refcheck.check(case, lambda contender: contender.run())
            _built[entry.name] = case
        except (refcheck.WrongResultError, NotImplementedError, MemoryError) as error:
            _built[entry.name] = f"{'wrong' if isinstance(error, refcheck.WrongResultError) else 'not here'}: {error}"
    case = _built[entry.name]
    if isinstance(case, str):
        (pytest.fail if case.startswith("wrong") else pytest.skip)(case)
    return case


class Contest:
    """Times one contender of one row under pytest-benchmark."""

    def __init__(self, benchmark: BenchmarkFixture, device: str, plan: measure.Plan) -> None:
        self.benchmark, self.device, self.plan = benchmark, device, plan

    def run(self, entry: cases.Entry, name: str) -> None:
        """Time it, with the row's name as the group; bytes and FLOP of the row are the same for all."""
        case = checked(entry, self.device)
        contender = self._contender(case, name)
        clock = measure.cuda_clock if self.device == "cuda" else measure.cpu_clock
        contender.prepare()
        rounds = measure.rounds_for(self.plan, clock(contender.run))
        self.benchmark.group = entry.name
        self.benchmark.extra_info.update(contender=name, bytes=case.bytes, flops=case.flops, **case.sizes)
        self.benchmark.pedantic(self._timed(contender), setup=lambda: contender.prepare() and None, rounds=rounds)
        if self.benchmark.stats is not None:  # None with --benchmark-disable
            seconds = self.benchmark.stats.stats.median
            self.benchmark.extra_info.update(gb_s=case.bytes / seconds / 1e9, gflop_s=case.flops / seconds / 1e9)

    def _contender(self, case: Case, name: str) -> Contender:
        if name == "copy":
            return Contender(name, machine.copier(case.bytes, self.device))
        for contender in case.contenders:
            if contender.name == name:
                return contender
        pytest.skip(f"no {name}: {case.left_out[name]}")

    def _timed(self, contender: Contender):
        if self.device == "cpu":
            return contender.run

        def run() -> None:
            contender.run()
            torch.cuda.synchronize()

        return run


@pytest.fixture
def contest(benchmark: BenchmarkFixture, request: pytest.FixtureRequest) -> Contest:
    """What a suite hands its row and contender to."""
    option = request.config.getoption
    return Contest(benchmark, option("device"), measure.QUICK if option("quick") else measure.FULL)
