"""memory_append_ on a GPU against the reference. Nothing here runs without one; it is then skipped, and says so."""

from __future__ import annotations

import pytest
import torch

import append_cases
from append_cases import CASES, PLAIN, Case, Memory, new_frame
from on_gpu import GPU as DEVICE
from on_gpu import MARKS
from svm_ext.ops import reference

pytestmark = MARKS


def append(*arguments: object) -> None:
    torch.ops.svm_ext.memory_append_(*arguments)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_op_equals_reference(case: Case) -> None:
    append_cases.check(append, case, DEVICE)


@pytest.mark.parametrize("case", append_cases.FP8_CASES, ids=str)
def test_codes_equal_reference(case: Case) -> None:
    append_cases.check(append, case, DEVICE)


@pytest.mark.parametrize("evict", ["merge", "fifo"])
def test_codes_of_all_sizes(evict: str) -> None:
    append_cases.check_sizes(append, evict, DEVICE)


@pytest.mark.parametrize("pool", [torch.float32, append_cases.FP8], ids=str)
def test_senseless_values_write_nothing(pool: torch.dtype) -> None:
    append_cases.check_ignored(append, DEVICE, pool)


def test_replays_in_a_graph() -> None:
    """The step is read on the device: one captured launch serves every frame."""
    generator = torch.Generator().manual_seed(3)
    ours, theirs = Memory(PLAIN, DEVICE), Memory(PLAIN, DEVICE)
    k, v = new_frame(PLAIN, generator, DEVICE)
    append(*ours.pools, ours.cursor, k, v, ours.step, None, None, 0)  # CUDA loads the kernel at its first launch
    ours = Memory(PLAIN, DEVICE)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        ours.append(append, k, v)
        ours.step += 1
    for _ in range(2 * PLAIN.size.frames + 2):
        for held, new in zip((k, v), new_frame(PLAIN, generator, DEVICE), strict=True):
            held.copy_(new)
        graph.replay()
        theirs.append(reference.memory_append_, k, v)
        theirs.step += 1
        append_cases.assert_same(ours, theirs)


def test_runs_on_the_current_stream() -> None:
    """Work queued before it on a side stream is seen."""
    generator = torch.Generator().manual_seed(4)
    ours, theirs = Memory(PLAIN, DEVICE), Memory(PLAIN, DEVICE)
    k, v = new_frame(PLAIN, generator, DEVICE)
    late_k, late_v = torch.zeros_like(k), torch.zeros_like(v)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        torch.cuda._sleep(10_000_000)
        late_k.copy_(k)
        late_v.copy_(v)
        ours.append(append, late_k, late_v)
    torch.cuda.current_stream().wait_stream(side)
    theirs.append(reference.memory_append_, k, v)
    append_cases.assert_same(ours, theirs)


def test_offsets_beyond_32_bits() -> None:
    """A pool of more than 2^31 numbers: its last unit lies where a 32-bit offset cannot reach."""
    size = PLAIN.size._replace(streams=2, windows=1, heads=1, side=14, dim=128, frames=2**31 // (196 * 128) + 1)
    case = Case(size=size, pool_type=torch.bfloat16, frame_type=torch.bfloat16, streams=(1,), evict="fifo")
    pool = torch.empty(2, 1, 1, 14, size.frames, 14, 128, dtype=torch.bfloat16, device=DEVICE)
    cursor = torch.zeros(2, 1, 1, 2, dtype=torch.int64, device=DEVICE)
    cursor[..., 0] = size.frames - 1  # the next append goes to the last slot
    step = torch.full((2,), size.frames, dtype=torch.int64, device=DEVICE)
    k, _ = new_frame(case, torch.Generator().manual_seed(5), DEVICE)
    append(pool, pool, cursor, k, k, step, torch.tensor([1], device=DEVICE), None, 1)
    assert torch.equal(pool[1, 0, 0, :, -1].flatten(0, 1), k[0, 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": torch.float64}, "expected float32, bfloat16 or float16 on the GPU"),
        ({"device": "cpu"}, "k: expected a tensor on cuda:0 like k_pool"),
    ],
)
def test_bad_input_is_told_and_writes_nothing(change: dict[str, object], message: str) -> None:
    memory = Memory(PLAIN, DEVICE)
    k, v = (tokens.to(**change) for tokens in new_frame(PLAIN, torch.Generator().manual_seed(6), DEVICE))
    with pytest.raises((ValueError, RuntimeError), match=message):
        memory.append(append, k, v)
    assert int(memory.cursor[..., 0].max()) == 0
