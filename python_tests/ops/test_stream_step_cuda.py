"""stream_step_ on a GPU. Nothing here runs without one; it is then skipped, and says so."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import append_cases
import cuda_cases
import helpers
from append_cases import Case
from cuda_cases import STEP
from helpers import BF16, FP8
from on_gpu import GPU, MARKS
from svm_ext.ops import _check, reference

pytestmark = MARKS
OPS = torch.ops.svm_ext
# Several blocks a unit; one each; several units a block.
SIZES = [(1, 1), (4, 12), (7, 60)]


@pytest.mark.parametrize("case", [*cuda_cases.STEPS, *cuda_cases.FP8_STEPS], ids=str)
def test_equals_reference(case: Case) -> None:
    cuda_cases.check_steps(OPS, case, GPU)


@pytest.mark.parametrize("evict", ["merge", "fifo", "clear"])
@pytest.mark.parametrize(("windows", "heads"), SIZES)
@pytest.mark.parametrize("pool", [BF16, FP8], ids=str)
def test_any_number_of_units_equals_reference(windows: int, heads: int, evict: str, pool: torch.dtype) -> None:
    size = STEP.size._replace(streams=1, windows=windows, heads=heads)
    cuda_cases.check_steps(OPS, replace(STEP, size=size, evict=evict, pool_type=pool), GPU)


@pytest.mark.parametrize("evict", ["merge", "fifo", "clear"])
@pytest.mark.parametrize(("windows", "heads"), SIZES)
@pytest.mark.parametrize("pool", [BF16, FP8], ids=str)
def test_replays_in_a_graph(windows: int, heads: int, evict: str, pool: torch.dtype) -> None:
    """Step and cursor are read on the device: one captured launch serves every frame, round the ring twice."""
    size = STEP.size._replace(streams=1, windows=windows, heads=heads)
    case = replace(STEP, size=size, evict=evict, pool_type=pool)
    generator, code = torch.Generator().manual_seed(3), _check.EVICTIONS[evict]
    ours, theirs = (append_cases.Memory(case, GPU) for _ in range(2))
    inputs = [append_cases.new_frame(case, generator, GPU)[0] for _ in range(3)]
    warm = append_cases.Memory(case, GPU)

    def step(memory: append_cases.Memory) -> torch.Tensor:
        options = None, None, None, None, 0.3, code
        out = OPS.stream_step_(*memory.pools, memory.cursor, *inputs, memory.step, *options)
        memory.step += 1
        return out

    step(warm)  # CUDA loads kernels at their first launch
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = step(ours)
    for _ in range(2 * case.size.frames + 2):
        for held in inputs:
            held.copy_(append_cases.new_frame(case, generator, GPU)[0])
        graph.replay()
        theirs.append(reference.memory_append_, *inputs[1:])
        memory = helpers.Memory(*theirs.pools, theirs.cursor, theirs.step)
        truth, plain = (f(inputs[0], memory, scale=0.3)[0] for f in (helpers.oracle_attend, helpers.plain_attend))
        helpers.assert_close(out, truth, plain)
        theirs.step += 1
        append_cases.assert_same(ours, theirs)


def test_senseless_values_write_nothing() -> None:
    def append(k_pool, v_pool, cursor, k, v, step, streams, real, evict) -> None:
        OPS.stream_step_(k_pool, v_pool, cursor, k.clone(), k, v, step, streams, real, None, None, 0.3, evict)

    append_cases.check_ignored(append, GPU)


def test_runs_on_the_current_stream() -> None:
    """Work queued before it on a side stream is seen."""
    memory, generator = append_cases.Memory(STEP, GPU), torch.Generator().manual_seed(4)
    (q, _), (k, v) = (append_cases.new_frame(STEP, generator, GPU) for _ in range(2))
    late, side = [torch.zeros_like(x) for x in (q, k, v)], torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        torch.cuda._sleep(10_000_000)
        for target, source in zip(late, (q, k, v), strict=True):
            target.copy_(source)
        options = None, None, None, None, 0.3, 0
        out = OPS.stream_step_(*memory.pools, memory.cursor, *late, memory.step, *options)
    torch.cuda.current_stream().wait_stream(side)
    again = append_cases.Memory(STEP, GPU)
    helpers.assert_same(out, OPS.stream_step_(*again.pools, again.cursor, q, k, v, again.step, *options))
    append_cases.assert_same(memory, again)
