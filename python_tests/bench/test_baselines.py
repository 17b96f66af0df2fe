"""The baselines compute what the ops compute; a ratio to anything else would be worth nothing."""

from __future__ import annotations

import pytest
import torch

from svm_ext import ops
from svm_ext.bench import baselines, inputs
from svm_ext.bench.case import Shape
from svm_ext.bench.cases import nms
from svm_ext.ops import _check, _pool, _reference_nms, reference

SHAPE = Shape(units=3, frames=3, dtype=torch.float64, side=4, dim=8)
EVICTIONS = ["merge", "fifo"]
evictions = pytest.mark.parametrize("evict", EVICTIONS)


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def attended(memory: inputs.Memory, q: torch.Tensor) -> torch.Tensor:
    rest = (None, None, None, None, q.shape[-1] ** -0.5, False)
    return reference.memory_attend(q, *memory.pools, *rest)[0]


def lists_of(memory: inputs.Memory, evict: str = "merge") -> baselines.FrameLists:
    frames = (inputs.frame_list(memory.k), inputs.frame_list(memory.v))
    return baselines.FrameLists(*frames, SHAPE.frames, evict)


def rows_of(memory: inputs.Memory, evict: str = "merge") -> baselines.RowPools:
    pools = (inputs.row_pool(memory.k).clone(), inputs.row_pool(memory.v).clone())
    return baselines.RowPools(*pools, SHAPE.frames, evict)


def frames_of(memory: inputs.Memory, evict: str = "merge") -> baselines.FramePools:
    return baselines.FramePools(inputs.frame_pool(memory.k), inputs.frame_pool(memory.v), SHAPE.frames, evict)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_copies_of_a_pool_hold_the_same(dtype):
    shape = Shape(units=24, frames=3, dtype=dtype, side=3, dim=4)
    memory = inputs.memory(shape)
    for pool in (memory.k, memory.v):
        frames = _pool.read(pool).flatten(0, 1)  # [B, H, T, n, n, D]
        rows, cache, listed = inputs.row_pool(pool), inputs.frame_pool(pool), inputs.frame_list(pool)
        assert torch.equal(rows.transpose(2, 3), frames)
        assert torch.equal(cache.unflatten(3, (3, 3)).transpose(1, 2), frames)
        assert torch.equal(torch.stack(listed, 2).unflatten(3, (3, 3)), frames)
        assert rows.is_contiguous()
        assert all(frame.is_contiguous() for frame in listed)


def test_a_pool_that_lies_in_rows_is_not_copied():
    memory = inputs.memory(SHAPE)
    assert inputs.row_pool(memory.v).data_ptr() == memory.v.data_ptr()


def test_a_full_memory_has_no_unwritten_slot():
    memory = inputs.memory(SHAPE)
    assert torch.isfinite(memory.k).all()
    assert (memory.cursor == torch.tensor([SHAPE.frames, SHAPE.frames - 1])).all()
    assert (memory.step == SHAPE.frames).all()
    assert inputs.memory(SHAPE).advance().tolist() == [SHAPE.frames + 1]


def test_inputs_have_the_strides_of_a_projection():
    q, k, v = inputs.frame(SHAPE)
    assert q.shape == k.shape == v.shape == (1, 3, 16, 8)
    assert q.transpose(1, 2).is_contiguous()
    assert k.stride(2) == 3 * 3 * 8
    clip = inputs.clip(SHAPE)
    assert all(x.shape == (1, 3, 1, 3, 16, 8) for x in clip)
    assert [x.requires_grad for x in clip] == [True, False, False]
    assert clip[0].is_leaf


def test_a_few_units_are_those_units():
    memory, units = inputs.memory(SHAPE), torch.tensor([0, 2])
    few = inputs.few(memory, units)
    assert torch.equal(_pool.read(few.k)[:, 0, 0], _pool.read(memory.k).flatten(0, 2)[units])
    q, _, _ = inputs.frame(SHAPE)
    close(attended(few, inputs.tokens_of(q, units))[:, 0], attended(memory, q).flatten(0, 1)[units])


def test_eager_attend():
    memory, (q, _, _) = inputs.memory(SHAPE), inputs.frame(SHAPE)
    close(lists_of(memory).attend(q), attended(memory, q))


def test_sdpa_attend():
    memory, (q, _, _) = inputs.memory(SHAPE), inputs.frame(SHAPE)
    close(rows_of(memory).attend(q), attended(memory, q))


def test_sdpa_attends_views_of_the_pool():
    """No copy of keys or values: what the two calls get shares the pool's memory."""
    memory, seen = rows_of(inputs.memory(SHAPE)), []
    library = torch.nn.functional.scaled_dot_product_attention

    def spy(q, k, v):
        seen.extend([k, v])
        return library(q, k, v)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines.F, "scaled_dot_product_attention", spy)
        memory.attend(inputs.frame(SHAPE)[0])
    assert [x.untyped_storage().data_ptr() for x in seen] == [x.data_ptr() for x in (memory.keys, memory.values)] * 2


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attend():
    """As compiled on a GPU, but computed with its dense mask."""
    memory, (q, _, _) = inputs.memory(SHAPE), inputs.frame(SHAPE)
    pools = rows_of(memory)
    attend = baselines.flex_attend((SHAPE.side, SHAPE.frames), q.device, compiled=False)
    close(attend(q, pools.keys, pools.values), attended(memory, q))


@evictions
@pytest.mark.parametrize("make", [lists_of, rows_of], ids=["eager", "sdpa"])
def test_steps_around_the_ring(make, evict):
    memory = inputs.memory(SHAPE)
    baseline = make(memory, evict)
    for _ in range(2 * SHAPE.frames + 1):
        q, k, v = inputs.frame(SHAPE)
        inputs.append_few(memory, k, v, _check.evict_code(evict))
        close(baseline.step(q, k, v), attended(memory, q))
        memory.advance()


@evictions
def test_index_assignment_around_the_ring(evict):
    memory = inputs.memory(SHAPE)
    rows, frames = rows_of(memory, evict), frames_of(memory, evict)
    for _ in range(2 * SHAPE.frames + 1):
        _, k, v = inputs.frame(SHAPE)
        inputs.append_few(memory, k, v, _check.evict_code(evict))
        rows.append(k, v)
        frames.append(k, v)
        close(rows.keys, inputs.row_pool(memory.k))
        close(rows.values, inputs.row_pool(memory.v))
        close(frames.keys, inputs.frame_pool(memory.k))
        close(frames.values, inputs.frame_pool(memory.v))
        memory.advance()


def test_a_memory_that_fills_up():
    """Before it is full nothing is evicted; the slots of pools would hold nothing yet, so only the lists do this."""
    lists = baselines.FrameLists([], [], 2)
    frames = [torch.full((1, 1, 4, 2), float(i)) for i in range(4)]
    for frame in frames:
        lists.append(frame, -frame)
    assert [frame.max().item() for frame in lists.keys] == [1.25, 3.0]  # ((0 + 1) / 2 + 2) / 2, and 3
    assert [frame.min().item() for frame in lists.values] == [-1.25, -3.0]


def test_one_slot_is_overwritten():
    lists = baselines.FrameLists([], [], 1)
    for i in range(3):
        lists.append(torch.full((1, 1, 1, 1), float(i)), torch.zeros(1, 1, 1, 1))
    assert [frame.item() for frame in lists.keys] == [2.0]


@pytest.mark.parametrize("attend", [baselines.eager_clip, baselines.sdpa_clip], ids=["eager", "sdpa"])
def test_clip_and_its_gradient(attend):
    shape = Shape(units=4, frames=3, dtype=torch.float64, side=3, dim=4)
    q, k, v = (torch.randn(2, 3, 2, 2, 9, 4, dtype=shape.dtype) for _ in range(3))  # [B, T, W, H, N, D]
    q.requires_grad_()
    expected = ops.clip_attend(q, k, v, memory_frames=3)
    out, dout = attend(q, k, v), torch.randn_like(q)
    close(out, expected)
    close(torch.autograd.grad(out, q, dout)[0], torch.autograd.grad(expected, q, dout)[0])


@pytest.mark.parametrize("attend", [baselines.eager_clip, baselines.sdpa_clip], ids=["eager", "sdpa"])
def test_clip_gives_no_gradient_to_keys_and_values(attend):
    q, k, v = (torch.randn(1, 2, 1, 1, 4, 4, requires_grad=True) for _ in range(3))
    attend(q, k, v).sum().backward()
    assert q.grad is not None
    assert k.grad is None
    assert v.grad is None


@pytest.mark.parametrize("count", [1, 20, 300])
def test_nms_loop(count):
    boxes, scores, labels = nms.detections(count)
    kept = baselines.nms_loop(boxes, scores, labels, nms.THRESHOLD)
    mask = _reference_nms.nms_mask(boxes.double(), scores.double(), labels, nms.THRESHOLD)
    assert sorted(kept.tolist()) == mask.nonzero().flatten().tolist()
    assert torch.equal(kept, ops.nms(boxes, scores, labels, iou_threshold=nms.THRESHOLD))
