"""The CUDA kernels' own source, played by the CPU, against the reference; no result hangs on an order of threads.

It proves what the kernels compute, which memory they touch, and that a barrier stands wherever these orders would miss
one. It does not prove that a GPU does the same, nor how fast.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

import append_cases
import cuda_cases
import cuda_on_cpu
import helpers
from cuda_cases import FEW, LITTLE, SMALL, STEP, Attend, Clip
from cuda_on_cpu import A100, ADA, DOWN, H100, RANDOM, UP
from helpers import BF16, FP8
from svm_ext.ops import _fp8

pytestmark = pytest.mark.skipif(cuda_on_cpu.compiler() is None, reason="needs a C++ compiler")
CPU = torch.device("cpu")
# Multiprocessors and shared memory: with a few of them blocks do unit after unit, with many a unit is split.
GPUS = {"few": (3, H100), "splits of 4 rows": (8, H100), "of 2 rows": (20, H100), "of 1 row": (132, H100),
        "little shared": (3, ADA), "two stages": (2, A100)}  # fmt: skip
ON_GPUS = [
    Attend(),
    Attend(windows=3, real=((14, 9), (2, 14), (0, 5)), counts=(3, 1)),
    Attend(side=7, dim=96, windows=2, real=((7, 4), (5, 7))),
    Attend(side=16, dim=128, frames=2),
    Attend(side=16, dim=32, frames=8, counts=(8, 2)),
]
ON_GPUS += [replace(case, pool=FP8) for case in ON_GPUS]


@pytest.fixture(autouse=True)
def sanitized(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """No access was out of line with its type."""
    cuda_on_cpu.build()
    capfd.readouterr()
    yield
    assert "runtime error" not in capfd.readouterr().err


@pytest.mark.parametrize("case", append_cases.CASES, ids=str)
def test_append_equals_reference(case: append_cases.Case) -> None:
    append_cases.check(cuda_on_cpu.memory_append_, case, CPU)


def floats(generator: torch.Generator) -> torch.Tensor:
    """Numbers of all sizes, of random bits, and all that lie halfway between two codes, with their neighbours."""
    codes = torch.arange(127, dtype=torch.uint8).view(FP8).float()
    halfway = (codes[1:] + codes[:-1]) / 2
    near = [torch.nextafter(halfway, torch.tensor(end)) for end in (0.0, float("inf"))]
    bits = torch.randint(-(2**31), 2**31, (200_000,), generator=generator).int().view(torch.float32)
    sized = torch.randn(200_000, generator=generator) * 2.0 ** torch.randint(-14, 10, (200_000,), generator=generator)
    x = torch.cat([codes, halfway, *near, bits, sized, torch.tensor([0.0, 448, 464, 480, 1e-45])])
    return torch.cat([x, -x])


def test_numbers_and_codes_are_those_of_torch() -> None:
    """All codes, and the nearest code of many numbers, of two equally near the even one."""
    x = floats(torch.Generator().manual_seed(1))
    finite = x[x.isfinite()].contiguous()
    assert torch.equal(cuda_on_cpu.codes_of(finite, 0), finite.clamp(-448, 448).to(FP8).view(torch.uint8))
    codes = torch.arange(256, dtype=torch.uint8)
    codes = codes[codes % 128 != 127]
    for exponent in (-117, -8, 0, 3, 118):
        power = torch.tensor(exponent, dtype=torch.int32)
        assert torch.equal(cuda_on_cpu.values_of(codes, exponent), _fp8.numbers(codes, power).float())
        assert torch.equal(cuda_on_cpu.codes_of(finite, exponent), _fp8.quantised(finite, power))
    assert bool(cuda_on_cpu.values_of(codes, _fp8.NOT_FINITE).isnan().all())
    assert not bool(cuda_on_cpu.codes_of(x, _fp8.NOT_FINITE).any())
    assert torch.equal(cuda_on_cpu.exponents_for(x), _fp8.exponents_for(x.abs()))


@pytest.mark.parametrize("case", append_cases.FP8_CASES, ids=str)
def test_append_of_codes_equals_reference(case: append_cases.Case) -> None:
    append_cases.check(cuda_on_cpu.memory_append_, case, CPU)


@pytest.mark.parametrize("evict", ["merge", "fifo"])
def test_append_of_codes_of_all_sizes(evict: str) -> None:
    append_cases.check_sizes(cuda_on_cpu.memory_append_, evict, CPU)


@pytest.mark.parametrize("pool", [torch.float32, FP8], ids=str)
def test_senseless_values_append_nothing(pool: torch.dtype) -> None:
    append_cases.check_ignored(cuda_on_cpu.memory_append_, CPU, pool)


@pytest.mark.parametrize("case", cuda_cases.ATTENDS, ids=str)
def test_attend_equals_oracle(case: Attend) -> None:
    cuda_cases.check_attend(cuda_on_cpu, case, CPU)


@pytest.mark.parametrize("case", cuda_cases.FP8_ATTENDS, ids=str)
def test_attend_of_codes_equals_oracle(case: Attend) -> None:
    cuda_cases.check_attend(cuda_on_cpu, case, CPU)


def test_every_code_under_every_kind_of_exponent() -> None:
    cuda_cases.check_all_codes(cuda_on_cpu, CPU)


def test_frames_that_are_not_finite_are_nan() -> None:
    cuda_cases.check_not_finite(cuda_on_cpu, CPU)


@pytest.mark.parametrize("case", cuda_cases.ANY, ids=str)
def test_any_sizes_equal_oracle(case: Attend) -> None:
    cuda_cases.check_attend(cuda_on_cpu, case, CPU)


@pytest.mark.parametrize("case", ON_GPUS, ids=str)
@pytest.mark.parametrize("gpu", GPUS)
def test_attend_on_gpus_of_all_sizes(gpu: str, case: Attend) -> None:
    """One block a unit, several blocks and a second kernel that adds their shares, and rings of two to four stages."""
    with cuda_on_cpu.playing(*GPUS[gpu]):
        cuda_cases.check_attend(cuda_on_cpu, case, CPU)


@pytest.mark.parametrize("case", [Attend(), Attend(pool=FP8), replace(SMALL, pool=torch.float32)], ids=str)
@pytest.mark.parametrize("gpu", ["few", "of 2 rows"])
def test_senseless_values_are_an_empty_memory(gpu: str, case: Attend) -> None:
    with cuda_on_cpu.playing(*GPUS[gpu]):
        cuda_cases.check_senseless(cuda_on_cpu, case, CPU)


@pytest.mark.parametrize("case", [*cuda_cases.STEPS, *cuda_cases.FP8_STEPS], ids=str)
def test_steps_equal_reference(case: append_cases.Case) -> None:
    with cuda_on_cpu.playing(*GPUS["few"]):
        cuda_cases.check_steps(cuda_on_cpu, case, CPU)


@pytest.mark.parametrize("gpu", list(GPUS)[1:])
@pytest.mark.parametrize("evict", ["merge", "fifo", "clear"])
def test_steps_on_gpus_of_all_sizes(gpu: str, evict: str) -> None:
    """Rows of a unit are appended by several blocks, and several frames lie in one tile."""
    sized = replace(LITTLE, size=LITTLE.size._replace(streams=2, heads=1, side=7, frames=5), real=((7, 7), (3, 5)))
    with cuda_on_cpu.playing(*GPUS[gpu]):
        cuda_cases.check_steps(cuda_on_cpu, replace(sized, evict=evict), CPU)


def test_senseless_values_step_nothing() -> None:
    """As an append ignores them; an attend of what is there comes all the same."""

    def append(k_pool, v_pool, cursor, k, v, step, streams, real, evict) -> None:
        nothing = (real, None, None, 0.3)
        cuda_on_cpu.stream_step_(k_pool, v_pool, cursor, q_like(k), k, v, step, streams, *nothing, evict)

    def q_like(k: torch.Tensor) -> torch.Tensor:
        return torch.randn(k.shape).to(k.dtype)

    append_cases.check_ignored(append, CPU)


@pytest.mark.parametrize("case", cuda_cases.CLIPS, ids=str)
def test_clip_equals_oracle(case: Clip) -> None:
    cuda_cases.check_clip(cuda_on_cpu, case, CPU)


@pytest.mark.parametrize("gpu", list(GPUS)[1:])
def test_clip_on_gpus_of_all_sizes(gpu: str) -> None:
    with cuda_on_cpu.playing(*GPUS[gpu]):
        cuda_cases.check_clip(cuda_on_cpu, replace(FEW, batch=1, windows=1, side=7, real=((6, 7),)), CPU)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.7])
@pytest.mark.parametrize(("count", "groups"), cuda_cases.BOXES)
def test_nms_equals_reference(count: int, groups: int, dtype: torch.dtype, threshold: float) -> None:
    cuda_cases.check_nms(cuda_on_cpu, count, groups, dtype, threshold, CPU)


ORDERS = [(order, at_once, dice) for order in (UP, DOWN) for at_once in (False, True) for dice in (1,)]
ORDERS += [(RANDOM, at_once, dice) for at_once in (False, True) for dice in (1, 2, 3)]


@pytest.mark.slow
@pytest.mark.parametrize("gpu", ["few", "of 2 rows", "little shared", "two stages"])
@pytest.mark.parametrize(
    "run",
    [
        pytest.param(lambda: attended(Attend(side=7, dim=32, windows=2, real=((7, 4), (5, 7)), frames=5)), id="attend"),
        pytest.param(lambda: attended(Attend(side=7, dim=96, counts=(3, 1))), id="one plane a block"),
        pytest.param(lambda: attended(Attend(counts=(3, 1))), id="the tuned kernel"),
        pytest.param(lambda: attended(Attend(pool=FP8, side=7, dim=32, windows=2, real=((7, 4), (5, 7)))), id="fp8"),
        pytest.param(lambda: attended(Attend(pool=FP8, counts=(3, 1))), id="the tuned kernel of fp8"),
        pytest.param(lambda: appended(), id="appends of fp8"),
        pytest.param(lambda: stepped("merge"), id="merging steps"),
        pytest.param(lambda: stepped("fifo"), id="steps"),
        pytest.param(lambda: boxes(), id="nms"),
    ],
)
def test_no_order_of_threads_changes_a_bit(gpu: str, run) -> None:
    """Warps in turn from either end and by dice; copies that land at once, or when they are waited for."""
    found = []
    for order, at_once, dice in ORDERS:
        torch.manual_seed(3)
        with cuda_on_cpu.playing(*GPUS[gpu], order, at_once, dice):
            found.append(run())
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            helpers.assert_same(a, b)


def attended(case: Attend) -> tuple[torch.Tensor, ...]:
    it = cuda_cases.given(case, CPU)
    results = cuda_on_cpu.memory_attend(it.q, *it.arguments, case.scale, True)
    return *results, cuda_on_cpu.memory_attend_backward(it.dout, it.q, *it.arguments, *results, case.scale)


def stepped(evict: str) -> list[torch.Tensor]:
    case = replace(LITTLE, size=LITTLE.size._replace(streams=2, windows=1, frames=3, side=7), evict=evict)
    memory, generator, found = append_cases.Memory(case, CPU), torch.Generator().manual_seed(5), []
    for _ in range(5):
        (q, _), (k, v) = (append_cases.new_frame(case, generator, CPU) for _ in range(2))
        options = None, None, None, None, 0.3, ["merge", "fifo", "clear"].index(evict)
        found.append(cuda_on_cpu.stream_step_(*memory.pools, memory.cursor, q, k, v, memory.step, *options))
        memory.step += 1
    return [*found, *memory.held()]


def appended() -> list[torch.Tensor]:
    case = replace(append_cases.CODED, size=append_cases.CODED.size._replace(streams=1, side=7))
    memory, generator = append_cases.Memory(case, CPU), torch.Generator().manual_seed(5)
    for _ in range(5):
        memory.append(cuda_on_cpu.memory_append_, *append_cases.new_frame(case, generator, CPU))
        memory.step += 1
    return memory.held()


def boxes() -> list[torch.Tensor]:
    corners = torch.rand(150, 2) * 30
    rows = torch.cat([corners, corners + torch.rand(150, 2) * 20], 1)
    groups = torch.randint(2, (150,))
    return [cuda_on_cpu.nms_mask(rows, torch.rand(150), groups, 0.4)]


@pytest.mark.parametrize("dim", [32, 64, 96, 128])
@pytest.mark.parametrize("side", [7, 14, 16])
@pytest.mark.parametrize("pool", [BF16, FP8], ids=str)
def test_no_bank_conflicts(side: int, dim: int, pool: torch.dtype) -> None:
    """Both planes read eight places of shared memory in one pass, forward and backward."""
    if pool == FP8 and (side, dim) == (16, 128):
        pytest.skip("shared memory is too short: the kernel of any sizes does it")
    cuda_on_cpu.count()
    attended(Attend(side=side, dim=dim, streams=1, counts=(2,), frames=2, pool=pool))
    counts = cuda_on_cpu.count()
    assert counts.matrices > 0
    assert counts.passes == counts.matrices


@pytest.mark.parametrize("pool", [BF16, FP8], ids=str)
@pytest.mark.parametrize(("gpu", "launches"), [("few", 1), ("of 2 rows", 2)])
def test_a_step_is_one_launch(gpu: str, launches: int, pool: torch.dtype) -> None:
    """Or two where several blocks share a unit; and one more for fp8, whose exponents come from all of a frame."""
    launches += pool == FP8
    memory, generator = append_cases.Memory(replace(STEP, pool_type=pool), CPU), torch.Generator().manual_seed(5)
    (q, _), (k, v) = (append_cases.new_frame(STEP, generator, CPU) for _ in range(2))
    with cuda_on_cpu.playing(*GPUS[gpu]):
        cuda_on_cpu.count()
        cuda_on_cpu.stream_step_(*memory.pools, memory.cursor, q, k, v, memory.step, None, None, None, None, 0.3, 0)
        assert cuda_on_cpu.count().launches == launches


def test_the_emulator_finds_a_missing_barrier() -> None:
    """The tests above are worth something: without one kind of barrier an order of threads shows it."""
    case = Attend(side=7, dim=32, q=BF16)
    torch.manual_seed(3)
    right = attended(case)
    with cuda_on_cpu.playing(3, H100, DOWN, deaf=True):
        torch.manual_seed(3)
        wrong = attended(case)
    assert not all(torch.equal(a, b) for a, b in zip(right, wrong, strict=True))
