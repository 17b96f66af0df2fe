"""Bad input to the ops: one clear line in the same words from every back end, nothing half written, no crash."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

import helpers
from helpers import BF16, FP32, FP64
from svm_ext import ops, use_backend
from svm_ext.ops import _pool

NAMESPACES = ["svm_ext", "svm_ext_reference"]
SIZE = helpers.size(streams=3, windows=2, heads=2, side=3, frames=4, dim=8)


def frame_arguments() -> dict[str, object]:
    """Everything that any frame op takes, all of it right."""
    memory = helpers.filled_memory(SIZE, [1, 4, 7])
    q, k, v, dout, out, out_column = (helpers.tokens(SIZE) for _ in range(6))
    pad_k, pad_v = helpers.pads(SIZE)
    return dict(
        k_pool=memory.k, v_pool=memory.v, cursor=memory.cursor, step=memory.step, streams=torch.tensor([2, 0, 1]),
        q=q, k=k, v=v, dout=dout, out=out, out_column=out_column, lse=torch.randn(6, 2, 2, 9),
        real=helpers.real_sizes(SIZE), pad_k=pad_k, pad_v=pad_v, scale=0.3, evict=0, for_backward=True,
    )  # fmt: skip


def clip_arguments() -> dict[str, object]:
    """Everything that a clip op takes, all of it right."""
    q, k, v, dout, out, out_column = torch.randn(6, 2, 3, 2, 2, 9, 8)
    pad_k, pad_v = helpers.pads(SIZE)
    return dict(
        q=q, k=k, v=v, dout=dout, out=out, out_column=out_column, lse=torch.randn(2, 3, 2, 2, 2, 9),
        real=helpers.real_sizes(SIZE), pad_k=pad_k, pad_v=pad_v, scale=0.3, evict=1, memory_frames=2, for_backward=True,
    )  # fmt: skip


def call(namespace: str, op: str, arguments: dict[str, object]) -> object:
    """Call an op with those of the arguments that its schema names."""
    overload = getattr(getattr(torch.ops, namespace), op).default
    return overload(*(arguments[argument.name] for argument in overload._schema.arguments))


def refused(namespace: str, op: str, arguments: dict[str, object], message: str, error: type = ValueError) -> None:
    """The call fails with one line that begins like this and goes on with what to do; nothing was written."""
    before = {name: value.clone() for name, value in arguments.items() if isinstance(value, torch.Tensor)}
    with pytest.raises(error, match=f"^{re.escape(message)}.*; [^\n]+$"):
        call(namespace, op, arguments)
    for name, value in before.items():
        if value.device.type == "cpu":
            helpers.assert_same(arguments[name], value, name)


def changed(name: str, change) -> dict[str, object]:
    arguments = frame_arguments()
    return arguments | {name: change(arguments[name])}


APPENDS = ("memory_append_", "stream_step_")
ATTENDS = ("memory_attend", "memory_attend_backward", "stream_step_")
ALL = ("memory_append_", *ATTENDS)

# (argument, what is done to it, how the message begins, the ops that must refuse it)
BAD_FRAMES = [
    ("q", lambda q: q[0], "q: expected shape [B*W=6, H=2, n*n=9, D=8], got [2, 9, 8]", ATTENDS),
    ("q", lambda q: q[:5], "q: expected shape [B*W=6, H=2, n*n=9, D=8], got [5, 2, 9, 8]", ATTENDS),
    ("q", lambda q: q[:, :, :4], "q: expected shape [B*W=6, H=2, n*n=9, D=8], got [6, 2, 4, 8]", ATTENDS),
    ("q", lambda q: q.long(), "q: expected a floating point type, got int64", ("memory_attend", "stream_step_")),
    ("q", lambda q: q.double(), "q: expected float32 or bfloat16, got float64", ("memory_attend", "stream_step_")),
    ("q", lambda q: q.to("meta"), "q: expected a tensor on cpu like k_pool, got one on meta", ATTENDS),
    ("k", lambda k: k.flatten(), "k: expected shape [B*W=6, H=2, n*n=9, D=8], got [864]", APPENDS),
    ("k", lambda k: k[..., :4], "k: expected shape [B*W=6, H=2, n*n=9, D=8], got [6, 2, 9, 4]", APPENDS),
    ("k", lambda k: k.double(), "k: expected float32 or bfloat16, got float64", APPENDS),
    ("v", lambda v: v[:, :1], "v: expected shape [B*W=6, H=2, n*n=9, D=8], got [6, 1, 9, 8]", APPENDS),
    ("v", lambda v: v.bfloat16(), "v: expected float32", APPENDS),
    ("v", lambda v: v.to("meta"), "v: expected a tensor on cpu like k_pool, got one on meta", APPENDS),
    ("k_pool", lambda k: k[0, 0], "k_pool: expected", ALL),
    ("k_pool", lambda k: k.int(), "k_pool: expected a floating point type, got int32", ALL),
    ("v_pool", lambda v: v[:2], "v_pool: expected shape [S=3, W=2, H=2, n=3, T=4, n=3, D=8]", ALL),
    ("v_pool", lambda v: v.bfloat16(), "v_pool: expected float32, got bfloat16", ALL),
    ("cursor", lambda c: c[:, :1], "cursor: expected shape [S=3, W=2, H=2, ", ALL),
    ("cursor", lambda c: c.int(), "cursor: expected int64, got int32", ALL),
    ("cursor", lambda c: c - 5, "cursor: expected counts of at least 0, got a negative one for stream", ALL),
    ("step", lambda s: s[:2], "step: expected shape [S=3], got [2]", APPENDS),
    ("step", lambda s: s.int(), "step: expected int64, got int32", APPENDS),
    ("step", lambda s: s - 2, "step: expected at least 6 for stream 2, whose newest frame that is, got 5", APPENDS),
    ("step", lambda s: s * 0 - 1, "step: expected at least", APPENDS),
    ("streams", lambda s: s.int(), "streams: expected int64, got int32", ALL),
    ("streams", lambda s: s[None], "streams: expected shape [B], got [1, 3]", ALL),
    ("real", lambda r: r.long(), "real: expected int32, got int64", ALL),
    ("real", lambda r: r[:1], "real: expected shape [W=2, ", ALL),
    ("real", lambda r: r + 3, "real: expected 0 to 3 rows and columns, got", ALL),
    ("real", lambda r: r - 4, "real: expected 0 to 3 rows and columns, got", ALL),
    ("pad_k", lambda p: p[:1], "pad_k: expected shape [H=2, D=8], got [1, 8]", ATTENDS),
    ("pad_k", lambda p: None, "pad_k: expected it together with pad_v, got None", ATTENDS),
    ("pad_v", lambda p: None, "pad_v: expected it together with pad_k, got None", ATTENDS),
    ("pad_v", lambda p: p.bfloat16(), "pad_v: expected float32", ATTENDS),
    ("evict", lambda e: 3, "evict: expected 0 (merge), 1 (fifo) or 2 (clear), got 3", APPENDS),
    ("evict", lambda e: -1, "evict: expected 0 (merge), 1 (fifo) or 2 (clear), got -1", APPENDS),
]
FRAME_CASES = [
    pytest.param(op, name, change, message, id=f"{op}-{i}-{name}")
    for i, (name, change, message, refusing) in enumerate(BAD_FRAMES)
    for op in refusing
]


@pytest.mark.parametrize(("op", "name", "change", "message"), FRAME_CASES)
@pytest.mark.parametrize("namespace", NAMESPACES)
def test_frame_ops_refuse(namespace, op, name, change, message):
    refused(namespace, op, changed(name, change), message)


@pytest.mark.parametrize("op", ALL)
@pytest.mark.parametrize("bad", [3, -1, 2**40])
@pytest.mark.parametrize("namespace", NAMESPACES)
def test_stream_ids_out_of_range(namespace, op, bad):
    arguments = frame_arguments() | {"streams": torch.tensor([2, bad, 1])}
    refused(namespace, op, arguments, f"streams: expected ids from 0 to 2, got {bad} in row 1", IndexError)


@pytest.mark.parametrize("op", APPENDS)
@pytest.mark.parametrize("namespace", NAMESPACES)
def test_repeated_stream_ids(namespace, op):
    """Two rows would write to one stream; where nothing is written it is no fault."""
    arguments = frame_arguments() | {"streams": torch.tensor([2, 1, 2])}
    refused(namespace, op, arguments, "streams: expected every id once, got 2 again in row 2")


@pytest.mark.parametrize("op", ALL)
@pytest.mark.parametrize("namespace", NAMESPACES)
def test_the_right_arguments_are_taken(namespace, op):
    """So that the refusals above are for what was changed."""
    call(namespace, op, frame_arguments())


@pytest.mark.parametrize("name", ["k_pool", "v_pool", "cursor", "streams", "step", "real", "pad_k"])
def test_what_the_kernels_take_as_contiguous(name):
    """Tokens may lie as they like, the rest may not."""
    arguments = frame_arguments()
    strided = torch.stack([arguments[name]] * 2, -1)[..., 0]
    refused("svm_ext", "stream_step_", arguments | {name: strided}, f"{name}: expected")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("dout", lambda x: x[:, :1], "dout: expected shape"),
        ("dout", lambda x: x.bfloat16(), "dout: expected float32 like q, got bfloat16"),
        ("out", lambda x: x[:0], "out: expected shape"),
        ("out_column", lambda x: x.new_empty(0), "out_column: expected shape"),
        ("lse", lambda x: x.new_empty(0), "lse: expected shape"),
        ("lse", lambda x: x.double(), "lse: expected float32"),
    ],
)
@pytest.mark.parametrize("clip", [False, True], ids=["memory", "clip"])
@pytest.mark.parametrize("namespace", NAMESPACES)
def test_backward_refuses(namespace, clip, name, change, message):
    arguments = clip_arguments() if clip else frame_arguments()
    arguments |= {name: change(arguments[name])}
    refused(namespace, "clip_attend_backward" if clip else "memory_attend_backward", arguments, message)


CLIP_SHAPE = "[B=2, T=3, W=2, H=2, n*n=9, D=8]"
BAD_CLIPS = [
    ("q", lambda q: q[0], "q: expected shape [B, T, W, H, n*n, D], got [3, 2, 2, 9, 8]"),
    ("q", lambda q: q[..., :8, :], "q: expected"),
    ("q", lambda q: q.long(), "q: expected a floating point type, got int64"),
    ("k", lambda k: k[:, :2], f"k: expected shape {CLIP_SHAPE}, got [2, 2, 2, 2, 9, 8]"),
    ("k", lambda k: k.double(), "k: expected float32"),
    ("v", lambda v: v[0], f"v: expected shape {CLIP_SHAPE}, got [3, 2, 2, 9, 8]"),
    ("v", lambda v: v.to("meta"), "v: expected a tensor on cpu like q, got one on meta"),
    ("real", lambda r: r.long(), "real: expected int32, got int64"),
    ("real", lambda r: r + 3, "real: expected 0 to 3 rows and columns, got"),
    ("pad_k", lambda p: p[:, :4], "pad_k: expected shape [H=2, D=8], got [2, 4]"),
    ("pad_v", lambda p: None, "pad_v: expected it together with pad_k, got None"),
    ("memory_frames", lambda m: 0, "memory_frames: expected at least 1, got 0"),
    ("memory_frames", lambda m: -3, "memory_frames: expected at least 1, got -3"),
    ("evict", lambda e: 0, "evict: expected 1 (fifo) or 2 (clear) for a clip, got 0"),
]


@pytest.mark.parametrize(("name", "change", "message"), BAD_CLIPS, ids=[f"{i}-{b[0]}" for i, b in enumerate(BAD_CLIPS)])
@pytest.mark.parametrize("op", ["clip_attend", "clip_attend_backward"])
@pytest.mark.parametrize("namespace", NAMESPACES)
def test_clip_ops_refuse(namespace, op, name, change, message):
    arguments = clip_arguments()
    refused(namespace, op, arguments | {name: change(arguments[name])}, message)


def test_unknown_rules_are_named():
    memory, q = helpers.empty_memory(SIZE), helpers.tokens(SIZE)
    with pytest.raises(ValueError, match="^evict: expected merge, fifo or clear, got 'lru'; .*$"):
        ops.memory_append_(*memory.pools, q, q, memory.step, evict="lru")
    with pytest.raises(ValueError, match="^evict: expected merge, fifo or clear, got 'lru'; .*$"):
        ops.stream_step_(*memory.pools, q, q, q, memory.step, evict="lru")
    with pytest.raises(ValueError, match=r"^evict: expected 1 \(fifo\) or 2 \(clear\) for a clip, got 0; .*$"):
        ops.clip_attend(*clip_tokens(), evict="merge")


def clip_tokens() -> torch.Tensor:
    return torch.randn(3, 1, 2, 1, 1, 4, 8)


def test_a_pool_of_another_layout_is_refused():
    """Pools of the GPU's layout on the CPU: told, not misread."""
    memory = helpers.filled_memory(SIZE, [1, 1, 1], layout="tokens")
    with pytest.raises(ValueError, match="^k_pool: expected .* 8 dimensions .*; .*$"):
        ops.memory_attend(helpers.tokens(SIZE), *memory.pools)


def test_a_pool_of_another_pairing_is_refused():
    """A bf16 pool keeps pairs together, an fp32 pool does not: one must not be read as the other."""
    memory = helpers.filled_memory(SIZE, [1, 1, 1], BF16)
    broken = replace(memory, k=memory.k.float(), v=memory.v.float())
    for name in ("cpu", "reference"):
        with use_backend(name), pytest.raises(ValueError, match="^k_pool: expected .*; .*$"):
            ops.memory_attend(helpers.tokens(SIZE), *broken.pools)
    with pytest.raises(ValueError, match="^head_dim: expected an even number .*; .*$"):
        _pool.empty_pool(SIZE._replace(dim=7), BF16, torch.device("cpu"))


def test_fp16_on_the_cpu_is_refused_with_the_alternative():
    memory = helpers.empty_memory(SIZE, torch.float16)
    with pytest.raises(ValueError, match="^k_pool: expected .*float16; .*bfloat16"):
        ops.memory_attend(helpers.tokens(SIZE), *memory.pools)


def test_fp64_meets_fp64_only(backend):
    memory = helpers.filled_memory(SIZE, [1, 1, 1], FP64, backend.layout)
    with pytest.raises(ValueError, match="^q: expected float64.*; .*$"):
        ops.memory_attend(helpers.tokens(SIZE), *memory.pools)


def test_no_streams_at_all(backend):
    """A pool of zero streams, and a frame in which nobody takes part."""
    none = helpers.empty_memory(SIZE._replace(streams=0), FP32, backend.layout)
    q = helpers.tokens(SIZE, batch=0)
    ops.memory_append_(*none.pools, q, q, none.step)
    assert ops.memory_attend(q, *none.pools).shape == q.shape
    memory = helpers.filled_memory(SIZE, [1, 1, 1], FP32, backend.layout)
    before, ids = memory.clone(), torch.tensor([], dtype=torch.int64)
    assert ops.stream_step_(*memory.pools, q, q, q, memory.step, ids).shape == q.shape
    helpers.assert_same_memory(memory, before)
    leaf = q.clone().requires_grad_()
    ops.memory_attend(leaf, *memory.pools, ids).sum().backward()
    assert leaf.grad.shape == q.shape


def test_a_gradient_that_was_not_prepared_is_told():
    memory = helpers.filled_memory(SIZE, [1, 1, 1])
    q = helpers.tokens(SIZE).requires_grad_()
    out = torch.ops.svm_ext.memory_attend(q, *memory.pools, None, None, None, None, 0.3, False)[0]
    with pytest.raises(RuntimeError, match="^for_backward: expected True for a q that requires a gradient, .*; .*$"):
        out.sum().backward()


def test_a_second_derivative_is_refused_not_wrong(backend):
    memory = helpers.filled_memory(SIZE, [1, 1, 1], FP32, backend.layout)
    q = helpers.tokens(SIZE).requires_grad_()
    gradient = torch.autograd.grad(ops.memory_attend(q, *memory.pools).square().sum(), q, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="twice"):
        gradient.sum().backward()


def test_a_pool_beyond_2_31_elements(backend):
    """The last stream of a pool of 4.3 GB; pages that nobody touches are not there, so this is cheap."""
    size = _pool.PoolSize(streams=2**31 // (2 * 196 * 64) + 2, windows=1, heads=1, side=14, frames=2, dim=64)
    try:
        k, v = _pool.empty_pool(size, BF16, torch.device("cpu"), backend.layout)
    except RuntimeError:
        pytest.skip("NO MEMORY: 8.6 GB of address space were not to be had")
    assert k.numel() > 2**31
    cursor = _pool.empty_cursor(size, torch.device("cpu"))
    large = helpers.Memory(k, v, cursor, torch.zeros(size.streams, dtype=torch.int64))
    small = helpers.empty_memory(size._replace(streams=1), BF16, backend.layout)
    last = torch.tensor([size.streams - 1])
    for _ in range(3):
        q, key, value = helpers.fused(small.size)
        q = q.detach().requires_grad_()
        outs = []
        for memory, ids in ((large, last), (small, None)):
            ops.memory_append_(*memory.pools, key, value, memory.step, ids)
            out = ops.memory_attend(q, *memory.pools, ids)
            outs.append((out.detach(), torch.autograd.grad(out.sum(), q)[0]))
            with torch.no_grad():
                outs[-1] += (ops.stream_step_(*memory.pools, q, key, value, memory.step, ids),)
            memory.step.add_(1)
        for ours, theirs in zip(*outs, strict=True):
            helpers.assert_same(ours, theirs)
    for ours, theirs in zip(large.pools, small.pools, strict=True):
        helpers.assert_same(ours[-1], theirs[0])


@pytest.mark.parametrize("name", ["q", "pad_k"])
def test_a_step_in_two_ops_is_checked_before_the_first(backend, name):
    """With a gradient it appends and then attends: what the second refuses must not have been appended."""
    memory = helpers.filled_memory(SIZE, [1, 4, 7], FP32, backend.layout)
    before, (pad_k, pad_v) = memory.clone(), helpers.pads(SIZE)
    q, k, v = (helpers.tokens(SIZE) for _ in range(3))
    q, pad_k = (q[:, :1], pad_k) if name == "q" else (q, pad_k[:1])
    with pytest.raises(ValueError, match=f"^{name}: expected shape"):
        ops.stream_step_(*memory.pools, q.requires_grad_(), k, v, memory.step, None, None, pad_k, pad_v)
    helpers.assert_same_memory(memory, before)
