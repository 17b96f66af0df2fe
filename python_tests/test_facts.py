"""The facts of DESIGN section 5, one after the other, on every back end."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

import helpers
from helpers import BF16, FP32, FP64
from svm_ext import StreamMemory, ops
from svm_ext.ops import _pool

SCALE = 0.3


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    """Equal but for fp32 rounding."""
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pool_dtype", [FP32, BF16], ids=["fp32", "bf16pool"])
def test_fact_1_slot_order_does_not_change_the_result(backend, pool_dtype):
    """There is no temporal encoding, so a ring needs no rotation."""
    size = helpers.size(frames=6, dim=16)
    memory = helpers.filled_memory(size, [6, 9], pool_dtype, backend.layout)
    q = helpers.tokens(size).requires_grad_()
    out = ops.memory_attend(q, *memory.pools)
    dq = torch.autograd.grad(out.square().sum(), q)[0]
    order = torch.randperm(6)
    for pool in (memory.k, memory.v):
        view = _pool.frames_view(pool)
        view.copy_(view[:, :, :, order])
    shuffled = ops.memory_attend(q, *memory.pools)
    tolerance = dict(rtol=1e-5, atol=1e-5) if pool_dtype == FP32 else dict(rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(shuffled, out, **tolerance)
    torch.testing.assert_close(torch.autograd.grad(shuffled.square().sum(), q)[0], dq, **tolerance)


@pytest.mark.parametrize("fused", [False, True], ids=["append-attend", "step"])
def test_fact_2_the_memory_includes_the_current_frame(backend, fused):
    """The first frame attends itself: its own rows and its own columns."""
    memory = StreamMemory(1, 1, 2, 2, 16, window=4, frames=3)
    q, k, v = torch.randn(3, 2, 2, 16, 16)
    if fused:
        out = memory.stream_step(0, q, k, v, scale=SCALE)
    else:
        memory.append(0, k, v)
        out = memory.attend(0, q, scale=SCALE)
    rows = [x.unflatten(2, (4, 4)) for x in (q, k, v)]  # [W, H, row, column, D]
    columns = [x.transpose(2, 3) for x in rows]
    expected = scaled_dot_product_attention(*rows, scale=SCALE)
    expected = expected + scaled_dot_product_attention(*columns, scale=SCALE).transpose(2, 3)
    close(out, expected.flatten(2, 3))


def test_fact_3_merge_averages_the_oldest_into_the_next_oldest(backend):
    """slot[next] = (slot[next] + slot[oldest]) / 2; slot[oldest] = new. All but the last T-1 frames are one average."""
    memory = StreamMemory(1, 1, 1, 1, 8, window=2, frames=3, dtype=FP64)
    frames = torch.randn(9, 2, 1, 1, 4, 8, dtype=FP64)  # [t, (k, v), W, H, N, D]
    for t, (k, v) in enumerate(frames):
        memory.append(0, k, v)
        memory.advance()
        m = t - 2  # frames that had to leave
        if m < 0:
            continue
        average = frames[0] / 2**m + sum(frames[j] / 2 ** (m - j + 1) for j in range(1, m + 1))
        expected = torch.stack([average, frames[t - 1], frames[t]])  # [T, (k, v), W, H, N, D]
        for i, held in enumerate(memory.frames_of(0, 0)):
            torch.testing.assert_close(held, expected[:, i], rtol=1e-14, atol=1e-14)


def test_fact_3_with_one_slot_the_frame_is_overwritten(backend):
    memory = StreamMemory(1, 1, 1, 1, 8, window=2, frames=1)
    for k, v in torch.randn(4, 2, 1, 1, 4, 8):
        memory.append(0, k, v)
        memory.advance()
        helpers.assert_same(memory.frames_of(0, 0)[0][0], k)
        helpers.assert_same(memory.frames_of(0, 0)[1][0], v)


class Block(torch.nn.Module):
    """A layer that appends and attends, and has weights to train before and after."""

    def __init__(self, layer: int, fused: bool) -> None:
        super().__init__()
        self.layer, self.fused = layer, fused
        self.qkv, self.out = torch.nn.Linear(8, 24, dtype=FP64), torch.nn.Linear(8, 8, dtype=FP64)

    def forward(self, x: torch.Tensor, memory: StreamMemory) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)  # [B*W, H, N, D] each
        if self.fused:
            attended = memory.stream_step(self.layer, q, k, v)
        else:
            memory.append(self.layer, k, v)
            attended = memory.attend(self.layer, q)
        return x + self.out(attended.transpose(1, 2).flatten(2)).sin()


def train(
    evict: str, *, checkpointed: bool, advance_first: bool = False, fused: bool = False, whole: bool = False
) -> tuple[torch.Tensor, list[torch.Tensor], StreamMemory]:
    """Six frames of two streams through two layers, a backward after each: outputs, gradients, memory."""
    torch.manual_seed(4)
    blocks = [Block(layer, fused) for layer in range(2)]
    memory = StreamMemory(2, 2, 1, 2, 4, window=3, frames=2, evict=evict, dtype=FP64)

    def layers(x: torch.Tensor) -> torch.Tensor:
        for block in blocks:
            x = checkpoint(block, x, memory, use_reentrant=False) if checkpointed and not whole else block(x, memory)
        if whole:
            memory.advance()
        return x

    outs = []
    for x in torch.randn(6, 2, 9, 8, dtype=FP64):
        out = checkpoint(layers, x.requires_grad_(), use_reentrant=False) if checkpointed and whole else layers(x)
        if advance_first and not whole:
            memory.advance()
        out.square().mean().backward()
        if not advance_first and not whole:
            memory.advance()
        outs.append(out.detach())
    return torch.stack(outs), [p.grad for block in blocks for p in block.parameters()], memory


@pytest.mark.parametrize("evict", helpers.EVICTIONS)
@pytest.mark.parametrize("advance_first", [False, True], ids=["backward-advance", "advance-backward"])
@pytest.mark.parametrize("fused", [False, True], ids=["append-attend", "step"])
def test_fact_4_checkpointing_changes_nothing(backend, evict, advance_first, fused):
    """The recompute appends again. Outputs, gradients and the memory must not notice, bit for bit.

    In the reference each checkpointed block appends twice, and frame 1 then does not see frame 0.
    """
    outs, gradients, memory = train(evict, checkpointed=False, advance_first=advance_first, fused=fused)
    options = dict(checkpointed=True, advance_first=advance_first, fused=fused)
    checkpointed_outs, checkpointed_gradients, checkpointed_memory = train(evict, **options)
    helpers.assert_same(outs, checkpointed_outs)
    for ours, theirs in zip(gradients, checkpointed_gradients, strict=True):
        helpers.assert_same(ours, theirs)
    for stream in range(2):
        for ours, theirs in zip(memory.frames_of(1, stream), checkpointed_memory.frames_of(1, stream), strict=True):
            helpers.assert_same(ours, theirs)


def test_fact_4_the_whole_step_may_be_checkpointed(backend):
    """Also with advance inside, which the recompute then calls a second time."""
    outs, gradients, memory = train("merge", checkpointed=False, whole=True)
    again, checkpointed_gradients, other = train("merge", checkpointed=True, whole=True)
    helpers.assert_same(outs, again)
    assert memory.step.tolist() == other.step.tolist() == [6, 6]
    for ours, theirs in zip(gradients, checkpointed_gradients, strict=True):
        helpers.assert_same(ours, theirs)


def test_fact_4_frame_1_sees_frame_0_under_checkpointing(backend):
    """With the released training settings: two frames of memory that is cleared when full."""
    torch.manual_seed(4)
    block, frame_0, frame_1 = Block(0, False), *torch.randn(2, 2, 9, 8, dtype=FP64)
    outs = []
    for first in (frame_0, frame_0 + 1):
        memory = StreamMemory(1, 2, 1, 2, 4, window=3, frames=2, evict="clear", dtype=FP64)
        for x in (first, frame_1):
            out = checkpoint(block, x.clone().requires_grad_(), memory, use_reentrant=False)
            out.sum().backward()
            memory.advance()
        outs.append(out)
    assert (outs[0] - outs[1]).abs().max() > 1e-3


@pytest.mark.parametrize("checkpointed", [False, True], ids=["plain", "checkpointed"])
def test_fact_4_a_late_backward_is_told(backend, checkpointed):
    """Not computed over another frame's memory in silence."""
    block = Block(0, False)
    memory = StreamMemory(1, 2, 1, 2, 4, window=3, frames=4, dtype=FP64)
    outs = []
    for x in torch.randn(2, 2, 9, 8, dtype=FP64):
        x.requires_grad_()
        outs.append(checkpoint(block, x, memory, use_reentrant=False) if checkpointed else block(x, memory))
        memory.advance()
    with pytest.raises(RuntimeError, match="overwritten before its backward") as error:
        outs[0].sum().backward()
    assert len(str(error.value).splitlines()) == 1
    outs[1].sum().backward()


def test_fact_4_the_same_append_twice_is_one(backend):
    for evict in helpers.EVICTIONS:
        once, twice = (StreamMemory(1, 2, 1, 2, 8, window=3, frames=2, evict=evict) for _ in range(2))
        for k, v in torch.randn(6, 2, 2, 2, 9, 8):
            once.append(0, k, v)
            for _ in range(2):
                twice.append(0, k, v)
            for stream in range(2):
                for ours, theirs in zip(once.frames_of(0, stream), twice.frames_of(0, stream), strict=True):
                    helpers.assert_same(ours, theirs)
            once.advance()
            twice.advance()


@pytest.mark.parametrize("evict", helpers.EVICTIONS)
def test_fact_5_padded_tokens_are_one_virtual_key(backend, evict):
    """Against a memory that stores the biases at every padded position and attends to them one by one."""
    real = [(4, 4), (4, 1), (2, 4), (3, 2)]
    sizes = dict(layers=1, streams=2, windows=4, heads=2, head_dim=16, window=4, frames=3, evict=evict)
    short, full = StreamMemory(**sizes, real=real), StreamMemory(**sizes)
    pad = torch.randn(2, 2, 16)  # [(k, v), H, D]
    inside = helpers.inside(helpers.size(windows=4, side=4), torch.tensor(real)).flatten(1)  # [W, N]
    mask = inside.repeat(2, 1)[:, None, :, None]  # [B*W, 1, N, 1]
    for q, k, v in torch.randn(8, 3, 8, 2, 16, 16):
        short.append(0, k, v)
        full.append(0, *(torch.where(mask, x, bias[:, None]) for x, bias in zip((k, v), pad, strict=True)))
        leaves = [q.clone().requires_grad_() for _ in range(2)]
        outs = short.attend(0, leaves[0], pad=tuple(pad)), full.attend(0, leaves[1])
        close(outs[0], outs[1] * mask)
        for out in outs:
            (out * mask).square().sum().backward()
        close(leaves[0].grad, leaves[1].grad)
        short.advance()
        full.advance()


@pytest.mark.parametrize("evict", helpers.EVICTIONS)
def test_fact_6_a_static_video_gives_the_first_output_for_ever(backend, evict):
    memory = StreamMemory(1, 1, 2, 2, 16, window=4, frames=3, evict=evict)
    q, k, v = torch.randn(3, 2, 2, 16, 16)
    first = memory.stream_step(0, q, k, v)
    for _ in range(8):
        memory.advance()
        close(memory.stream_step(0, q, k, v), first)


@pytest.mark.parametrize("dtype", [FP32, BF16], ids=["fp32", "bf16"])
def test_fact_6_interleaved_streams_equal_separate_runs(backend, dtype):
    """Bit for bit: outputs and gradients of a stream do not depend on who else is in the batch."""
    sizes = dict(windows=2, heads=2, head_dim=16, window=7, frames=3, dtype=dtype)
    together, alone = StreamMemory(1, 2, **sizes), [StreamMemory(1, 1, **sizes) for _ in range(2)]
    for ids in ([0, 1], [0], [1, 0], [1], [0, 1], [0, 1], [1, 0]):
        q, k, v, dout = torch.randn(4, 2 * len(ids), 2, 49, 16).to(dtype)
        q.requires_grad_()
        together.append(0, k, v, ids)
        out = together.attend(0, q, ids)
        dq = torch.autograd.grad(out, q, dout)[0]
        for row, stream in enumerate(ids):
            rows = slice(2 * row, 2 * row + 2)
            leaf = q[rows].detach().requires_grad_()
            alone[stream].append(0, k[rows], v[rows])
            own = alone[stream].attend(0, leaf)
            helpers.assert_same(out[rows], own)
            helpers.assert_same(dq[rows], torch.autograd.grad(own, leaf, dout[rows])[0])
            alone[stream].advance()
        together.advance(ids)
