"""Pools of fp8: codes and exponents one by one, and what the reference makes of them against plain arithmetic."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import helpers
from helpers import BF16, EVICTIONS, FP8, FP32, FP64, NAN, ListMemory
from svm_ext import StreamMemory, ops, use_backend
from svm_ext.ops import _check, _fp8, _pool

SCALE = 0.3
REFERENCE = torch.ops.svm_ext_reference
CODES = torch.arange(256, dtype=torch.uint8)
SIZE = helpers.size(streams=3, windows=2, heads=2, side=4, frames=3, dim=8)
LAYOUTS = ["columns", "tokens"]


def value_of(code: int) -> float:
    """What e4m3's definition says of a code."""
    sign, exponent, fraction = code >> 7, code >> 3 & 15, code & 7
    if exponent == 15 and fraction == 7:
        return NAN
    size = fraction / 8 * 2.0**-6 if exponent == 0 else (1 + fraction / 8) * 2.0 ** (exponent - 7)
    return -size if sign else size


VALUES = torch.tensor([value_of(code) for code in range(256)], dtype=FP64)
SIZES = VALUES[:127]  # not negative, in order


def rounded(x: Tensor) -> Tensor:
    """fp64 numbers of at most 448 to the nearest that e4m3 holds, of two equally near to the even code."""
    above = torch.searchsorted(SIZES, x.abs()).clamp(max=126)
    below = (above - 1).clamp(min=0)
    up, down = SIZES[above] - x.abs(), x.abs() - SIZES[below]
    code = torch.where((up < down) | ((up == down) & (above % 2 == 0)), above, below)
    return SIZES[code] * torch.where(x < 0, -1.0, 1.0)


def stored(frame: Tensor) -> Tensor:
    """A frame of units [.., n*n, D] as an fp8 pool keeps it, by plain arithmetic in fp64."""
    unit = frame.double()
    greatest = unit.abs().amax((-2, -1), keepdim=True)
    power = 2.0 ** torch.where(greatest == 0, 0, (greatest / 448).log2().ceil())
    return (rounded(unit / power) * power).float()


def test_codes_are_e4m3():
    helpers.assert_same(CODES.view(FP8).double(), VALUES)
    for exponent in (-117, -9, 0, 5, 118):
        found = _fp8.numbers(CODES, torch.tensor(exponent, dtype=torch.int32))
        assert found.dtype == BF16
        helpers.assert_same(found.double(), VALUES * 2.0**exponent)


def test_numbers_are_rounded_to_the_nearest_even():
    between = (SIZES[1:] + SIZES[:-1]) / 2
    x = torch.cat([SIZES, between, between * (1 + 1e-7), between * (1 - 1e-7), torch.rand(3000) * 448])
    x = torch.cat([x, -x, torch.randn(3000).double() * 2.0 ** torch.randint(-12, 7, (3000,))]).float()
    codes = _fp8.quantised(x, torch.tensor(0, dtype=torch.int32))
    helpers.assert_same(codes.view(FP8).double(), rounded(x.double()))


def test_the_greatest_comes_to_the_upper_half_octave():
    greatest = torch.cat(
        [torch.rand(2000) * 2.0 ** torch.randint(-90, 100, (2000,)), 448 * 2.0 ** torch.arange(-90, 100)]
    )
    greatest = torch.cat([greatest, torch.nextafter(greatest, torch.tensor(math.inf))]).float()
    scaled = greatest.double() * 2.0 ** -_fp8.exponents_for(greatest).double()
    assert bool(((scaled > 224) & (scaled <= 448)).all())


def test_exponents_at_the_ends():
    greatest = torch.tensor([0.0, 1e-45, 1e-38, 2.0**127, torch.finfo(FP32).max, math.inf, NAN])
    exponents = _fp8.exponents_for(greatest)
    assert exponents.tolist() == [0, -117, -117, 118, 118, _fp8.NOT_FINITE, _fp8.NOT_FINITE]
    found = _fp8.numbers(_fp8.quantised(greatest, exponents), exponents)
    assert found[0] == found[1] == 0
    assert bool(found[:5].isfinite().all())
    assert bool((found[3:5] == 448 * 2.0**118).all())  # as much as there is
    assert bool((found[3:5].float() * 2).isfinite().all())
    assert bool(found[5:].isnan().all())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("evict", EVICTIONS)
@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_ring_equals_lists(dtype, evict, frames, layout):
    """Twice round: every frame, and every average of two, is rounded with an exponent of its own."""
    size = SIZE._replace(frames=frames)
    memory = helpers.empty_memory(size, FP8, layout)
    lists = [ListMemory(frames, evict), ListMemory(frames, evict)]
    for frame in range(2 * frames + 2):
        k, v = (helpers.tokens(size, dtype) * 3.0 ** (frame % 4) for _ in range(2))
        REFERENCE.memory_append_(*memory.pools, k, v, memory.step, None, None, _check.EVICTIONS[evict])
        memory.step.add_(1)
        for pool, tokens, exponents, held in zip(memory.pools, (k, v), exponents_of(memory), lists, strict=False):
            held.append(stored(tokens))
            held.frames[:] = map(stored, held.frames)  # a number that is stored is stored as it is
            found = _pool.read(pool, None, exponents).float()  # [S, W, H, T, n, n, D]
            found = found.flatten(0, 1).flatten(3, 4)  # [S*W, H, T, N, D]
            if evict == "clear":
                expected = held.frames
            else:
                oldest = max(frame + 1 - frames, 0) % frames
                order = [(oldest + i) % frames for i in range(len(held.frames))]
                expected = [held.frames[order.index(slot)] for slot in range(len(held.frames))]
            for slot, one in enumerate(expected):
                helpers.assert_same(found[:, :, slot], one, f"frame {frame} slot {slot}")


def exponents_of(memory: helpers.Memory) -> tuple[Tensor, Tensor]:
    return _pool.exponents_of(memory.k, memory.cursor)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_only_real_tokens_count_and_are_stored(layout):
    """A huge number beyond the picture neither goes in nor takes the others' digits."""
    memory, plain = (helpers.empty_memory(SIZE, FP8, layout) for _ in range(2))
    real = torch.tensor([[4, 2], [0, 4]], dtype=torch.int32)
    beyond = ~helpers.inside(SIZE, real).flatten(1).repeat(SIZE.streams, 1)[:, None, :, None]  # [B*W, 1, N, 1]
    for step in range(5):
        k, v = helpers.tokens(SIZE), helpers.tokens(SIZE)
        for target, others in ((memory, 1e30), (plain, 0.0)):
            noisy = (x.masked_fill(beyond, others) for x in (k, v))
            REFERENCE.memory_append_(*target.pools, *noisy, target.step + step, None, real, 0)
    helpers.assert_same_memory(replace(memory, k=_fp8.raw(memory.k), v=_fp8.raw(memory.v)),
                               replace(plain, k=_fp8.raw(plain.k), v=_fp8.raw(plain.v)))  # fmt: skip
    assert bool((exponents_of(memory)[0][:, 1] == 0).all())  # a window without a token: as if it were zeros
    assert bool((_fp8.raw(memory.k)[:, 1] == 0x7F).all())


def test_a_frame_that_is_not_finite_is_nan_and_goes_by():
    """Nothing hides; other heads are not touched, and when the frame has left so has NaN."""
    memory, q = StreamMemory(1, 1, 1, 2, 8, window=3, frames=2, evict="fifo", dtype=FP8), torch.randn(1, 2, 9, 8)
    with use_backend("reference"):
        for bad in (math.inf, NAN):
            k = torch.randn(1, 2, 9, 8)
            k[0, 1, 4, 3] = bad
            memory.append(0, k, torch.randn(1, 2, 9, 8))
            out = memory.attend(0, q)
            assert bool(out[0, 0].isfinite().all())
            assert bool(out[0, 1].isnan().all())
            memory.advance()
            for _ in range(2):
                memory.append(0, *torch.randn(2, 1, 2, 9, 8))
                memory.advance()
            assert bool(memory.attend(0, q).isfinite().all())


def test_zeros_and_numbers_of_any_size():
    """A frame of zeros is zeros; a frame times a power of two is stored as such."""
    frame = helpers.tokens(SIZE)
    for power in (-100, -20, 0, 20, 100):
        memory = helpers.empty_memory(SIZE, FP8)
        k, v = frame * 2.0**power, torch.zeros_like(frame)
        REFERENCE.memory_append_(*memory.pools, k, v, memory.step, None, None, 0)
        found = [
            _pool.read(pool, None, e)[:, :, :, 0] for pool, e in zip(memory.pools, exponents_of(memory), strict=False)
        ]
        expected = stored(frame) * 2.0**power
        helpers.assert_same(found[0].flatten(0, 1).flatten(2, 3).float(), expected)
        assert bool((found[1] == 0).all())
        assert bool((exponents_of(memory)[1][..., 0] == 0).all())


@pytest.mark.parametrize("evict", EVICTIONS)
def test_second_append_at_a_step_replaces_the_first(evict):
    code = _check.EVICTIONS[evict]
    once, twice = (helpers.filled_memory(SIZE, [1, 3, 5], FP8) for _ in range(2))
    for a, b in zip(twice.pools, once.pools, strict=True):
        _fp8.raw(a).copy_(_fp8.raw(b))
    k, v = helpers.tokens(SIZE), helpers.tokens(SIZE)
    REFERENCE.memory_append_(*twice.pools, 100 * v, -k, twice.step, None, None, code)
    for memory in (once, twice):
        REFERENCE.memory_append_(*memory.pools, k, v, memory.step, None, None, code)
    for a, b in zip(once.pools, twice.pools, strict=True):
        helpers.assert_same(_fp8.raw(a), _fp8.raw(b))


def test_only_the_named_streams_change():
    memory = helpers.filled_memory(SIZE, [1, 3, 5], FP8)
    before = [_fp8.raw(x).clone() for x in memory.pools]
    frame = helpers.tokens(SIZE, batch=2)
    REFERENCE.memory_append_(*memory.pools, frame, frame, memory.step, torch.tensor([2, 0]), None, 0)
    for now, old in zip(memory.pools, before, strict=True):
        helpers.assert_same(_fp8.raw(now)[1], old[1])
        assert not torch.equal(_fp8.raw(now)[2], old[2])


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [FP32, BF16, torch.float16])
def test_attend_is_that_of_a_pool_with_the_same_numbers(dtype, layout, padded):
    """Forward, gradient and step; what was never written is NaN."""
    real = helpers.real_sizes(SIZE) if padded else None
    memory = helpers.filled_memory(SIZE, [0, 2, 7], FP8, layout, real)
    wide, pad = memory.widened(), helpers.pads(SIZE) if padded else (None, None)
    wide = replace(wide, k=wide.k.float(), v=wide.v.float())
    q, dout = helpers.tokens(SIZE, dtype), helpers.tokens(SIZE, dtype)
    found, expected = (REFERENCE.memory_attend(q, *m.pools, None, real, *pad, SCALE, True) for m in (memory, wide))
    for a, b in zip(found, expected, strict=True):
        helpers.assert_same(a, b)
    gradients = [
        REFERENCE.memory_attend_backward(dout, q, *m.pools, None, real, *pad, *found, SCALE) for m in (memory, wide)
    ]
    helpers.assert_same(*gradients)
    k, v = helpers.tokens(SIZE, dtype), helpers.tokens(SIZE, dtype)
    out = REFERENCE.stream_step_(*memory.pools, q, k, v, memory.step, None, real, *pad, SCALE, 0)
    helpers.assert_same(out, REFERENCE.memory_attend(q, *memory.pools, None, real, *pad, SCALE, False)[0])


def relative_error(found: Tensor, truth: Tensor) -> float:
    """Root mean square of the difference over that of the truth."""
    return ((found - truth).pow(2).mean().sqrt() / truth.pow(2).mean().sqrt()).item()


@pytest.mark.parametrize("evict", EVICTIONS)
def test_error_of_an_attend(evict):
    """Of normal numbers an fp8 memory costs 4 % of the output (a bf16 one 0.25 %), merging ever so often or not."""
    memories = [
        StreamMemory(1, 2, 1, 2, 64, window=14, frames=4, evict=evict, dtype=dtype) for dtype in (FP8, BF16, FP32)
    ]
    with use_backend("reference"):
        for _ in range(12):
            q, k, v = torch.randn(3, 2, 2, 196, 64)
            fp8, bf16, fp32 = (memory.stream_step(0, q, k, v) for memory in memories)
            for memory in memories:
                memory.advance()
            assert 0.03 < relative_error(fp8, fp32) < 0.042
            assert relative_error(bf16, fp32) < 0.004


def test_the_ops_and_autograd_take_it():
    memory = helpers.filled_memory(SIZE, [1, 3, 5], FP8)
    q, k, v = (helpers.tokens(SIZE) for _ in range(3))
    leaf = q.clone().requires_grad_()
    with use_backend("reference"):
        out = ops.stream_step_(*memory.pools, leaf, k, v, memory.step, scale=SCALE)
        out.square().sum().backward()
        helpers.assert_same(out.detach(), ops.memory_attend(q, *memory.pools, scale=SCALE))
    wide = memory.widened()
    truth = helpers.oracle_gradient(2 * out.detach(), q, wide, scale=SCALE)
    torch.testing.assert_close(leaf.grad.double(), truth, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # opcheck's own
def test_opcheck():
    memory, q = helpers.filled_memory(SIZE, [1, 3, 5], FP8), helpers.tokens(SIZE)
    # The other tests of opcheck compare tensors by arithmetic that torch has not for fp8.
    tests = "test_faketensor", "test_autograd_registration"
    append, attend = (*memory.pools, q, q, memory.step, None, None, 0), (q, *memory.pools, None, None, None, None)
    torch.library.opcheck(REFERENCE.memory_append_.default, append, test_utils=tests)
    torch.library.opcheck(REFERENCE.memory_attend.default, (*attend, SCALE, False), test_utils=tests)


def test_compiles_whole_and_once():
    def frame(memory: StreamMemory, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = memory.stream_step(0, q, k, v)
        memory.advance()
        return out

    torch._dynamo.reset()
    eager, compiled = (StreamMemory(1, 2, 1, 2, 8, window=3, frames=3, dtype=FP8) for _ in range(2))
    step = torch.compile(frame, fullgraph=True, backend="aot_eager")
    with use_backend("reference"), torch.no_grad(), torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(8):
            q, k, v = torch.randn(3, 2, 2, 9, 8)
            helpers.assert_same(step(compiled, q, k, v), frame(eager, q, k, v))
    torch._dynamo.reset()


def test_vmap_over_queries_and_memories():
    """X memories of one stream each are one memory of X streams: their exponents come along."""
    memories = [helpers.filled_memory(SIZE._replace(streams=1), [4], FP8) for _ in range(3)]
    pools = [torch.stack(tensors) for tensors in zip(*(memory.pools for memory in memories), strict=True)]
    q = torch.stack([helpers.tokens(SIZE, batch=1) for _ in range(3)])
    with use_backend("reference"):
        found = torch.vmap(lambda q, *pools: ops.memory_attend(q, *pools, scale=SCALE))(q, *pools)
        for x, memory in enumerate(memories):
            torch.testing.assert_close(found[x], ops.memory_attend(q[x], *memory.pools, scale=SCALE))


def new_memory(dtype: torch.dtype = FP8, **changes: object) -> StreamMemory:
    options = dict(layers=2, streams=3, windows=2, heads=2, head_dim=8, window=3, frames=3) | changes
    return StreamMemory(**options, dtype=dtype)


def run(memory: StreamMemory, steps: int) -> list[Tensor]:
    outs = []
    for _ in range(steps):
        for layer in range(memory.layers):
            q, k, v = torch.randn(3, 6, 2, 9, 8)
            outs.append(memory.stream_step(layer, q, k, v))
        memory.advance()
    return outs


@pytest.mark.parametrize("steps", [0, 1, 3, 7])
@pytest.mark.parametrize("evict", EVICTIONS)
def test_restore_is_exact(evict, steps, tmp_path):
    """What comes after is the same bit for bit, whatever the other memory held; through a file as well."""
    real = [(3, 2), (1, 3)]
    memory, other, third = (new_memory(evict=evict, real=real) for _ in range(3))
    with use_backend("reference"):
        run(memory, steps)
        run(other, 2)
        other.restore(memory.snapshot())
        memory.save(tmp_path / "memory.safetensors")
        third.load(tmp_path / "memory.safetensors")
        outs = []
        for one in (memory, other, third):
            torch.manual_seed(2)
            outs.append(run(one, 6))
    for ours, theirs, loaded in zip(*outs, strict=True):
        helpers.assert_same(ours, theirs)
        helpers.assert_same(ours, loaded)


@pytest.mark.parametrize("wide", [BF16, FP32])
def test_snapshots_move_between_types(wide):
    """An fp8 memory loses nothing in a wider one and on its way back; in the other direction numbers are rounded."""
    memory, there, back = new_memory(), new_memory(wide), new_memory()
    with use_backend("reference"):
        run(memory, 4)
        there.restore(memory.snapshot())
        back.restore(there.snapshot())
    for stream in range(3):
        for ours, theirs, again in zip(*(m.frames_of(1, stream) for m in (memory, there, back)), strict=True):
            helpers.assert_same(ours.to(wide), theirs)
            helpers.assert_same(ours, again)


def test_reset_forgets_the_named_streams_only():
    memory = new_memory()
    with use_backend("reference"):
        run(memory, 4)
        kept = memory.frames_of(0, 0)
        memory.reset([1])
        assert memory.frames_of(0, 1)[0].shape[0] == 0
        for a, b in zip(kept, memory.frames_of(0, 0), strict=True):
            helpers.assert_same(a, b)
        run(memory, 1)
        assert memory.frames_of(0, 1)[0].shape[0] == 1


def test_frames_of_and_what_is_told():
    memory = new_memory(real=[(3, 2), (1, 3)])
    _, k, v = torch.randn(3, 6, 2, 9, 8)
    with use_backend("reference"):
        memory.append(1, k, v)
    found, _ = memory.frames_of(1, 2)
    assert found.dtype == BF16
    inside = helpers.inside(helpers.size(side=3), torch.tensor([[3, 2], [1, 3]])).flatten(1)[:, None, :, None]
    helpers.assert_same(found[0].float(), stored(k[4:].masked_fill(~inside, 0)).masked_fill(~inside, NAN))
    assert repr(memory) == "StreamMemory(2 layers, 3 streams, 3 frames, 11.4 kB, fp8, cpu)"
    pools, cursors, step = 2 * 2 * (3 * 2 * 2 * 3 * 9 * 8), 2 * 3 * 2 * 2 * (2 + 3) * 8, 3 * 8
    assert memory.nbytes == pools + cursors + step


@pytest.mark.parametrize("op", ["memory_append_", "memory_attend", "memory_attend_backward", "stream_step_"])
def test_the_kernels_of_the_cpu_refuse_it_with_the_alternatives(op):
    memory, x = helpers.filled_memory(SIZE, [1, 3, 5], FP8, "tokens"), helpers.tokens(SIZE)
    before = [_fp8.raw(tensor).clone() for tensor in memory.pools]
    lse, attend = torch.randn(6, 2, 2, 16), (None, None, None, None)
    arguments = {
        "memory_append_": (*memory.pools, x, x, memory.step, None, None, 0),
        "memory_attend": (x, *memory.pools, *attend, SCALE, True),
        "memory_attend_backward": (x, x, *memory.pools, *attend, x, x, lse, SCALE),
        "stream_step_": (*memory.pools, x, x, x, memory.step, *attend, SCALE, 0),
    }[op]
    refusal = "k_pool: expected float32, bfloat16 or float64 on the CPU, got float8_e4m3fn;"
    remedy = ' make a bfloat16 pool, or call svm_ext.use_backend("reference")'
    with pytest.raises(ValueError, match=f"^{re.escape(refusal + remedy)}$"):
        getattr(torch.ops.svm_ext, op)(*arguments)
    for now, old in zip(memory.pools, before, strict=True):
        helpers.assert_same(_fp8.raw(now), old)


def test_a_memory_on_the_cpu_is_told_so_at_its_first_frame():
    memory = new_memory()
    with pytest.raises(ValueError, match="k_pool: expected float32, bfloat16 or float64 on the CPU"):
        memory.append(0, *torch.randn(2, 6, 2, 9, 8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, x: (*m.pools[:2], m.cursor[..., :2], x), r"cursor: expected shape \[S=3, W=2, H=2, 2\+T=5\]"),
        (lambda m, x: (*m.pools, x.double()), "k: expected float32 or bfloat16, got float64"),
        (lambda m, x: (*m.pools, x.to(FP8)), "k: expected a floating point type, got float8_e4m3fn"),
        (lambda m, x: (m.k, m.v.view(torch.uint8), m.cursor, x), "v_pool: expected float8_e4m3fn, got uint8"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(change, message):
    memory = helpers.empty_memory(SIZE, FP8)
    *pools, k = change(memory, helpers.tokens(SIZE))
    with pytest.raises(ValueError, match=message):
        REFERENCE.memory_append_(*pools, k, k, memory.step, None, None, 0)


def test_a_clip_is_never_fp8():
    q = torch.randn(1, 2, 1, 1, 9, 8).to(FP8)
    with pytest.raises(ValueError, match="q: expected a floating point type, got float8_e4m3fn"):
        REFERENCE.clip_attend(q, q, q, None, None, None, SCALE, 2, 1, False)
    with pytest.raises(ValueError, match="q: expected a floating point type, got float8_e4m3fn"):
        torch.ops.svm_ext.clip_attend(q, q, q, None, None, None, SCALE, 2, 1, False)
