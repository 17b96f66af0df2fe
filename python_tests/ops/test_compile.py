"""What torch does with ops besides calling them: opcheck, compile, export, autocast, vmap."""

from __future__ import annotations

import pytest
import torch
import torch._dynamo
from torch._inductor.utils import run_and_get_code
from torch.utils.checkpoint import checkpoint

import helpers
from helpers import BF16, FP32, FP64
from svm_ext import StreamMemory, ops, use_backend

SCALE = 0.3
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # opcheck's own
NAMESPACES = ["svm_ext", "svm_ext_reference"]


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def frame_arguments(layout="columns", padded=False):
    """q, k, v of a frame, a memory to put it in, real and pad."""
    size = helpers.size(streams=3, dim=16)
    real = helpers.real_sizes(size) if padded else None
    memory = helpers.filled_memory(size, [1, 3, 5], FP32, layout, real)
    q, k, v = helpers.fused(size)
    return q, k, v, memory, real, helpers.pads(size) if padded else (None, None)


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("ids", [None, [2, 0]], ids=["all", "some"])
@pytest.mark.parametrize("namespace", NAMESPACES)
def test_opcheck_of_the_frame_ops(namespace, ids, padded):
    """Schema, autograd registration, fake tensors, strides and AOT dispatch with dynamic shapes."""
    check, own = torch.library.opcheck, getattr(torch.ops, namespace)
    q, k, v, memory, real, pad = frame_arguments(padded=padded)
    streams = None if ids is None else torch.tensor(ids)
    rows = len(q) if ids is None else 2 * len(ids)
    q, k, v, dout = q[:rows], k[:rows], v[:rows], torch.randn(q[:rows].shape)
    check(own.memory_append_.default, (*memory.pools, k, v, memory.step, streams, real, 0))
    tail = (memory.step, streams, real, *pad, SCALE, 0)
    check(own.stream_step_.default, (*memory.pools, q, k, v, *tail))
    for for_backward in (False, True):
        check(own.memory_attend.default, (q, *memory.pools, streams, real, *pad, SCALE, for_backward))
    leaf = q.detach().requires_grad_()
    check(own.memory_attend.default, (leaf, *memory.pools, streams, real, *pad, SCALE, True))
    results = own.memory_attend(q, *memory.pools, streams, real, *pad, SCALE, True)
    arguments = (dout, q, *memory.pools, streams, real, *pad, *results, SCALE)
    check(own.memory_attend_backward.default, arguments)


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_opcheck_of_the_clip_ops(namespace):
    check, own = torch.library.opcheck, getattr(torch.ops, namespace)
    q, k, v, dout = torch.randn(4, 2, 3, 2, 2, 9, 16)
    real, pad = torch.tensor([[3, 2], [2, 3]], dtype=torch.int32), torch.randn(2, 2, 16)
    rest = (k, v, real, *pad, SCALE, 2, 1)
    check(own.clip_attend.default, (q, *rest, False))
    check(own.clip_attend.default, (q.clone().requires_grad_(), *rest, True))
    results = own.clip_attend(q, *rest, True)
    check(own.clip_attend_backward.default, (dout, q, k, v, real, *pad, *results, SCALE, 2, 1))


def test_every_back_end_has_the_same_schemas():
    from svm_ext.ops import _library

    for op in _library.OPS:
        schemas = [str(getattr(getattr(torch.ops, name), op).default._schema) for name in NAMESPACES]
        assert schemas[0].removeprefix("svm_ext::") == schemas[1].removeprefix("svm_ext_reference::")


def live_frame(memory: StreamMemory, q, k, v, streams=None):
    """A frame step as a model has it: two layers, then advance."""
    for layer in range(memory.layers):
        memory.append(layer, k, v, streams)
        q = q + memory.attend(layer, q, streams)
    memory.advance(streams)
    return q


def fused_frame(memory: StreamMemory, q, k, v, streams=None):
    for layer in range(memory.layers):
        q = q + memory.stream_step(layer, q, k, v, streams)
    memory.advance(streams)
    return q


def two_memories(**changes) -> list[StreamMemory]:
    return [StreamMemory(2, 3, 2, 2, 16, **(dict(window=3, frames=3) | changes)) for _ in range(2)]


@pytest.mark.parametrize("compiler", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.parametrize("frame", [live_frame, fused_frame], ids=["append-attend", "step"])
@pytest.mark.parametrize("evict", helpers.EVICTIONS)
def test_compiles_whole_and_once(frame, evict, compiler):
    """Three ring lengths of frames through one graph: the cursor is a tensor, never a Python int."""
    eager, compiled = two_memories(evict=evict)
    step = torch.compile(frame, fullgraph=True, backend=compiler)
    with torch.no_grad(), torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(3 * eager.frames + 1):
            q, k, v = torch.randn(3, 6, 2, 9, 16)
            torch.testing.assert_close(step(compiled, q, k, v), frame(eager, q, k, v), rtol=1e-5, atol=1e-5)
    assert compiled.step.tolist() == eager.step.tolist()
    helpers.assert_same(compiled.frames_of(1, 2)[1], eager.frames_of(1, 2)[1])


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_the_compiled_step_copies_no_pool(training):
    """The ops get the pools themselves, and k and v as the strided slices of the projection that they are."""
    memory, _ = two_memories()
    weight, x = torch.randn(16, 48), torch.randn(6, 2, 9, 16, requires_grad=training)

    def step(x):
        q, k, v = (x @ weight).chunk(3, dim=-1)
        memory.append(0, k, v)
        return memory.attend(0, q)

    compiled = torch.compile(step, fullgraph=True)
    _, code = run_and_get_code(compiled, x)
    calls = "\n".join(code)
    assert "svm_ext.memory_append_.default(" in calls
    assert "clone" not in calls
    for pool in memory._layers[0]:
        assert f"empty_strided_cpu({tuple(pool.shape)}" not in calls


def test_stream_ids_do_not_recompile():
    """As a tensor they are data."""
    eager, compiled = two_memories()
    step = torch.compile(fused_frame, fullgraph=True, backend="aot_eager")
    with torch.no_grad(), torch._dynamo.config.patch(error_on_recompile=True):
        for ids in ([0, 1], [2, 0], [1, 2], [2, 1]):
            q, k, v = torch.randn(3, 4, 2, 9, 16)
            streams = torch.tensor(ids)
            ours, theirs = step(compiled, q, k, v, streams), fused_frame(eager, q, k, v, streams)
            torch.testing.assert_close(ours, theirs)
    assert compiled.step.tolist() == eager.step.tolist()


def test_stream_ids_as_a_list_compile():
    eager, compiled = two_memories()
    step = torch.compile(fused_frame, fullgraph=True, backend="aot_eager")
    q, k, v = torch.randn(3, 4, 2, 9, 16)
    torch.testing.assert_close(step(compiled, q, k, v, [2, 0]), fused_frame(eager, q, k, v, [2, 0]))


def test_reset_compiles():
    memory, _ = two_memories()
    live_frame(memory, *torch.randn(3, 6, 2, 9, 16))
    torch.compile(lambda streams: memory.reset(streams), fullgraph=True, backend="aot_eager")(torch.tensor([2, 0]))
    assert memory.step.tolist() == [0, 1, 0]
    assert [len(memory.frames_of(1, stream)[0]) for stream in range(3)] == [0, 1, 0]


@pytest.mark.parametrize("compiler", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_training_compiles(compiler):
    """Gradients of a compiled frame step equal those of the plain one."""
    weight, gradients = torch.randn(16, 48) / 4, []

    def train(x, memory):
        q, k, v = (x @ weight).chunk(3, dim=-1)
        memory.append(0, k, v)
        out = memory.attend(0, q)
        memory.advance()
        return x + out.sin()

    for step, memory in zip(
        (train, torch.compile(train, fullgraph=True, backend=compiler)), two_memories(), strict=True
    ):
        torch.manual_seed(5)
        xs = torch.randn(7, 6, 2, 9, 16).requires_grad_()
        for x in xs.unbind():
            step(x, memory).square().sum().backward()
        gradients.append(xs.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


def test_a_compiled_checkpointed_layer_trains():
    """advance stays outside; then the recompute inside of the graph finds the step that it had."""
    weight, gradients = torch.randn(16, 48) / 4, []

    def layer(x, memory):
        q, k, v = (x @ weight).chunk(3, dim=-1)
        memory.append(0, k, v)
        return x + memory.attend(0, q).sin()

    def checkpointed(x, memory):
        return checkpoint(layer, x, memory, use_reentrant=False)

    compiled = torch.compile(checkpointed, fullgraph=True, backend="aot_eager")
    for step, memory in zip((layer, compiled), two_memories(), strict=True):
        torch.manual_seed(5)
        xs = torch.randn(7, 6, 2, 9, 16).requires_grad_()
        for x in xs.unbind():
            step(x, memory).square().sum().backward()
            memory.advance()
        gradients.append(xs.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


def test_clip_attend_compiles():
    q, k, v = torch.randn(3, 2, 3, 2, 2, 9, 16)
    leaf = q.clone().requires_grad_()
    attend = torch.compile(
        lambda q: ops.clip_attend(q, k, v, memory_frames=2).sin(), fullgraph=True, backend="aot_eager"
    )
    ours = torch.autograd.grad(attend(leaf).sum(), leaf)[0]
    theirs = torch.autograd.grad(ops.clip_attend(leaf, k, v, memory_frames=2).sin().sum(), leaf)[0]
    torch.testing.assert_close(ours, theirs)


def test_compiled_biases_have_no_gradient():
    """Where q has none either, a backward passes the op by."""
    q, _, _, memory, real, pad = frame_arguments(padded=True)
    pad = [bias.requires_grad_() for bias in pad]

    def attend(q):
        return ops.memory_attend(q, *memory.pools, None, real, *pad) + pad[0].sum()

    torch.compile(attend, fullgraph=True, backend="aot_eager")(q).sum().backward()
    assert bool((pad[0].grad == q.numel()).all())
    assert pad[1].grad is None or bool((pad[1].grad == 0).all())


def test_the_back_end_is_part_of_what_was_compiled():
    """Another back end is another graph, not a stale one."""
    memory, _ = two_memories()
    q, k, v = torch.randn(3, 6, 2, 9, 16)
    memory.append(0, k, v)
    graphs = []

    def keep(graph, _):
        graphs.append(str(graph.graph))
        return graph

    attend = torch.compile(lambda: memory.attend(0, q), fullgraph=True, backend=keep)
    with torch.no_grad():
        attend()
        with use_backend("reference"):
            attend()
        attend()
    assert len(graphs) == 2
    assert "svm_ext.memory_attend" in graphs[0]
    assert "svm_ext_reference.memory_attend" in graphs[1]


class Attend(torch.nn.Module):
    def forward(self, q, k_pool, v_pool, cursor):
        return ops.memory_attend(q, k_pool, v_pool, cursor, scale=SCALE)


class Step(torch.nn.Module):
    """A frame step with its whole state in and out as tensors."""

    def forward(self, q, k, v, k_pool, v_pool, cursor, step):
        out = ops.stream_step_(k_pool, v_pool, cursor, q, k, v, step, scale=SCALE)
        step.add_(1)
        return out


def test_attend_exports():
    q, _, _, memory, _, _ = frame_arguments()
    exported = torch.export.export(Attend(), (q, *memory.pools))
    other = helpers.filled_memory(memory.size, [0, 7, 2])
    torch.testing.assert_close(exported.module()(q, *other.pools), Attend()(q, *other.pools))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch's own, of torch
@pytest.mark.parametrize("functional", [False, True], ids=["as-is", "functionalised"])
def test_step_exports(functional, tmp_path):
    """And survives a file; the exported program carries its state on from frame to frame."""
    q, k, v, memory, _, _ = frame_arguments()
    exported = torch.export.export(Step(), (q, k, v, *memory.pools, memory.step))
    if functional:
        exported = exported.run_decompositions({})
    torch.export.save(exported, tmp_path / "step.pt2")
    program, other = torch.export.load(tmp_path / "step.pt2").module(), memory.clone()
    for _ in range(6):
        q, k, v = (helpers.tokens(memory.size) for _ in range(3))
        ours = program(q, k, v, *memory.pools, memory.step)
        torch.testing.assert_close(ours, Step()(q, k, v, *other.pools, other.step))
    helpers.assert_same_memory(memory, other)


def test_autocast_narrows_the_queries(backend):
    """As in torch's own attention: what goes in is narrowed, fp64 stays, the memory keeps its type."""
    q, k, v, memory, real, pad = frame_arguments(backend.layout, padded=True)
    with torch.autocast("cpu", dtype=BF16):
        out = ops.memory_attend(q, *memory.pools, None, real, *pad, SCALE)
        step = ops.stream_step_(*memory.clone().pools, q, k, v, memory.step, None, real, *pad, SCALE)
        clip = ops.clip_attend(*(x[None, None, :2] for x in (q, k, v)))
    assert (out.dtype, step.dtype, clip.dtype) == (BF16, BF16, BF16)
    helpers.assert_same(out, ops.memory_attend(q.bfloat16(), *memory.pools, None, real, *pad, SCALE))

    wide = helpers.filled_memory(memory.size, [1, 2, 3], FP64, backend.layout)
    with torch.autocast("cpu", dtype=BF16):
        assert ops.memory_attend(helpers.tokens(memory.size, FP64), *wide.pools).dtype == FP64


def test_autocast_gradient_reaches_the_fp32_leaf(backend):
    q, _, _, memory, _, _ = frame_arguments(backend.layout)
    leaf = q.detach().clone().requires_grad_()
    with torch.autocast("cpu", dtype=BF16):
        out = ops.memory_attend(leaf, *memory.pools)
    out.float().sum().backward()
    assert leaf.grad.dtype == FP32


def test_autocast_compiles():
    q, _, _, memory, _, _ = frame_arguments()
    attend = torch.compile(lambda q: ops.memory_attend(q, *memory.pools), fullgraph=True, backend="aot_eager")
    with torch.no_grad(), torch.autocast("cpu", dtype=BF16):
        helpers.assert_same(attend(q), ops.memory_attend(q, *memory.pools))


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_vmap_over_queries(backend, dim):
    """Many queries, one memory."""
    memory = helpers.filled_memory(helpers.size(streams=3, dim=16), [1, 3, 5], FP32, backend.layout)
    q = torch.stack([helpers.tokens(memory.size) for _ in range(4)], dim)
    out = torch.vmap(lambda q: ops.memory_attend(q, *memory.pools), in_dims=dim, out_dims=dim)(q)
    for ours, one in zip(out.unbind(dim), q.unbind(dim), strict=True):
        helpers.assert_same(ours, ops.memory_attend(one, *memory.pools))


@pytest.mark.parametrize("how", ["memories", "ids"])
def test_vmap_over_streams(backend, how):
    """A function of one stream, applied to each: with its own memory, or with its place in the common one."""
    size = helpers.size(streams=3, dim=16)
    memory = helpers.filled_memory(size, [1, 3, 5], FP32, backend.layout)
    q = helpers.tokens(size)
    rows = q.unflatten(0, (3, 2))  # [S, W, H, N, D]
    if how == "memories":
        pools = (x[:, None] for x in memory.pools)  # each a pool of one stream
        out = torch.vmap(lambda q, *pools: ops.memory_attend(q, *pools))(rows, *pools)
    else:
        ids = torch.arange(3)[:, None]
        out = torch.vmap(lambda q, ids: ops.memory_attend(q, *memory.pools, ids))(rows, ids)
    helpers.assert_same(out.flatten(0, 1), ops.memory_attend(q, *memory.pools))


def test_vmap_with_fixed_stream_ids(backend):
    memory = helpers.filled_memory(helpers.size(streams=3, dim=16), [1, 3, 5], FP32, backend.layout)
    ids, q = torch.tensor([2, 0]), torch.stack([helpers.tokens(memory.size, batch=2) for _ in range(4)])
    out = torch.vmap(lambda q: ops.memory_attend(q, *memory.pools, ids))(q)
    helpers.assert_same(out, torch.stack([ops.memory_attend(one, *memory.pools, ids) for one in q]))


def test_vmap_over_biases(backend):
    """What holds for all rows of a batch cannot be folded; a loop gives the same."""
    q, _, _, memory, real, _ = frame_arguments(backend.layout, padded=True)
    pads = torch.randn(4, 2, 2, 16)
    leaf = q.detach().clone().requires_grad_()
    out = torch.vmap(lambda pad: ops.memory_attend(leaf, *memory.pools, None, real, pad[0], pad[1]))(pads)
    for ours, pad in zip(out, pads, strict=True):
        helpers.assert_same(ours, ops.memory_attend(leaf, *memory.pools, None, real, pad[0], pad[1]))
    gradient = torch.autograd.grad(out[2].sum(), leaf)[0]
    alone = ops.memory_attend(leaf, *memory.pools, None, real, *pads[2])
    helpers.assert_same(gradient, torch.autograd.grad(alone.sum(), leaf)[0])


def test_gradient_through_vmap(backend):
    memory = helpers.filled_memory(helpers.size(streams=3, dim=16), [1, 3, 5], FP32, backend.layout)
    q = torch.stack([helpers.tokens(memory.size) for _ in range(4)]).requires_grad_()
    mapped = torch.vmap(lambda q: ops.memory_attend(q, *memory.pools))(q)
    stacked = torch.stack([ops.memory_attend(one, *memory.pools) for one in q])
    ours, theirs = (torch.autograd.grad(out.square().sum(), q)[0] for out in (mapped, stacked))
    helpers.assert_same(ours, theirs)


def test_vmap_over_output_gradients(backend):
    """Rows of a Jacobian, as autograd computes them in one go."""
    memory = helpers.filled_memory(helpers.size(streams=3, dim=16), [1, 3, 5], FP32, backend.layout)
    q = helpers.tokens(memory.size).requires_grad_()
    out, douts = ops.memory_attend(q, *memory.pools), torch.randn(4, *q.shape)
    rows = torch.autograd.grad(out, q, douts, is_grads_batched=True, retain_graph=True)[0]
    for row, dout in zip(rows, douts, strict=True):
        helpers.assert_same(row, torch.autograd.grad(out, q, dout, retain_graph=True)[0])


@pytest.mark.parametrize("shared", [False, True], ids=["own-keys", "shared-keys"])
def test_vmap_over_clips(backend, shared):
    q, k, v, dout = torch.randn(4, 3, 2, 3, 2, 2, 9, 16)
    k, v = (k[:1], v[:1]) if shared else (k, v)
    q.requires_grad_()
    dims = (0, None, None) if shared else 0
    arguments = (q, k[0], v[0]) if shared else (q, k, v)
    mapped = torch.vmap(lambda q, k, v: ops.clip_attend(q, k, v, memory_frames=2), in_dims=dims)(*arguments)
    stacked = torch.stack([ops.clip_attend(x, k[i % len(k)], v[i % len(v)], memory_frames=2) for i, x in enumerate(q)])
    helpers.assert_same(mapped, stacked)
    ours, theirs = (torch.autograd.grad(out, q, dout)[0] for out in (mapped, stacked))
    helpers.assert_same(ours, theirs)
    out = ops.clip_attend(q[0], k[0], v[0], memory_frames=2)
    rows = torch.autograd.grad(out, q, dout, is_grads_batched=True, retain_graph=True)[0]
    helpers.assert_same(rows[1], torch.autograd.grad(out, q, dout[1])[0])
