"""StreamMemory: frame steps of many layers and streams, what it shows of itself, and keeping it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import helpers
from helpers import BF16, EVICTIONS, FP32, FP64, NAN
from svm_ext import StreamMemory, use_backend
from svm_ext.ops import _pool

LAYERS, STREAMS, WINDOWS, HEADS, DIM, WINDOW, FRAMES = 2, 3, 2, 2, 8, 3, 3
REAL = [(3, 2), (1, 3)]


def new_memory(**changes) -> StreamMemory:
    """A small memory in which everything that was never written is NaN."""
    options = dict(layers=LAYERS, streams=STREAMS, windows=WINDOWS, heads=HEADS, head_dim=DIM) | changes
    memory = StreamMemory(**(dict(window=WINDOW, frames=FRAMES) | options))
    for k_pool, v_pool, _ in memory._layers:
        k_pool.fill_(NAN)
        v_pool.fill_(NAN)
    return memory


def frame(batch: int = STREAMS, dtype: torch.dtype = FP32) -> torch.Tensor:
    """Random q, k and v, [3, B*W, H, N, D]."""
    return torch.randn(3, batch * WINDOWS, HEADS, WINDOW**2, DIM, dtype=dtype)


def run(memory: StreamMemory, steps: int, streams=None) -> list[torch.Tensor]:
    """Some frames of all layers; what the layers returned."""
    batch = memory.streams if streams is None else len(streams)
    outs = []
    for _ in range(steps):
        for layer in range(memory.layers):
            q, k, v = frame(batch, memory.dtype)
            memory.append(layer, k, v, streams)
            outs.append(memory.attend(layer, q, streams))
        memory.advance(streams)
    return outs


def contents(memory: StreamMemory) -> list[torch.Tensor]:
    return [memory.step, *(tensor for layer in memory._layers for tensor in layer)]


def assert_same_contents(a: StreamMemory, b: StreamMemory) -> None:
    for ours, theirs in zip(contents(a), contents(b), strict=True):
        helpers.assert_same(ours, theirs)


@pytest.mark.parametrize("evict", EVICTIONS)
def test_frames_are_the_oldest_first(backend, evict):
    """Every layer for itself, against lists."""
    memory = new_memory(evict=evict)
    lists = [[helpers.ListMemory(FRAMES, evict) for _ in range(2)] for _ in range(LAYERS)]
    for step in range(2 * FRAMES + 2):
        for layer, pair in enumerate(lists):
            _, *kv = frame()
            memory.append(layer, *kv)
            for tokens, expected in zip(kv, pair, strict=True):
                expected.append(tokens.unflatten(0, (STREAMS, WINDOWS))[1])  # [W, H, N, D] of stream 1
            for ours, expected in zip(memory.frames_of(layer, 1), pair, strict=True):
                helpers.assert_same(ours, torch.stack(expected.frames))
        memory.advance()
        assert memory.step.tolist() == [step + 1] * STREAMS


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
def test_stream_step_is_append_and_attend(backend, padded):
    options = dict(real=REAL) if padded else {}
    pad = (torch.randn(HEADS, DIM), torch.randn(HEADS, DIM)) if padded else None
    one, two = new_memory(**options), new_memory(**options)
    for ids in (None, [2, 0], torch.tensor([1]), None, None):
        q, k, v = frame(STREAMS if ids is None else len(ids))
        for layer in range(LAYERS):
            out = one.stream_step(layer, q, k, v, ids, 0.3, pad=pad)
            two.append(layer, k, v, ids)
            torch.testing.assert_close(out, two.attend(layer, q, ids, 0.3, pad=pad), rtol=1e-5, atol=1e-5)
        one.advance(ids)
        two.advance(ids)
        assert_same_contents(one, two)


def test_default_scale_is_that_of_the_head_dim(backend):
    memory = new_memory()
    q, k, v = frame()
    memory.append(0, k, v)
    helpers.assert_same(memory.attend(0, q), memory.attend(0, q, scale=DIM**-0.5))


def test_streams_go_at_their_own_pace(backend):
    """In any order, as a list, a tensor or a range; the others stay as they are, bit for bit."""
    memory = new_memory()
    run(memory, 4)
    before = [tensor.clone() for tensor in contents(memory)]
    run(memory, 2, [2, 0])
    run(memory, 1, torch.tensor([2]))
    run(memory, 1, range(0, 3, 2))
    run(memory, 1, [])
    assert memory.step.tolist() == [7, 4, 8]
    for ours, old in zip(contents(memory), before, strict=True):
        helpers.assert_same(ours[1], old[1])


def test_reset_forgets_the_named_streams_only(backend):
    memory = new_memory()
    run(memory, 5)
    before = [tensor.clone() for tensor in contents(memory)]
    memory.reset([0, 2])
    assert memory.step.tolist() == [0, 5, 0]
    for ours, old in zip(contents(memory), before, strict=True):
        helpers.assert_same(ours[1], old[1])
    for layer in range(LAYERS):
        assert [len(memory.frames_of(layer, stream)[0]) for stream in range(STREAMS)] == [0, FRAMES, 0]
    q, k, v = frame()
    fresh = new_memory()
    fresh.append(0, k, v, [0, 1, 2])
    memory.append(0, k, v)
    rows = slice(2 * WINDOWS, 3 * WINDOWS)
    helpers.assert_same(memory.attend(0, q)[rows], fresh.attend(0, q)[rows])


def test_reset_of_all_is_a_new_memory(backend):
    memory, fresh = new_memory(), new_memory()
    run(memory, 5)
    memory.reset()
    torch.manual_seed(1)
    ours = run(memory, 4)
    torch.manual_seed(1)
    for a, b in zip(ours, run(fresh, 4), strict=True):
        helpers.assert_same(a, b)


def test_advance_before_any_append_is_harmless(backend):
    """Slots are counted by appends, not by steps."""
    memory = new_memory()
    memory.advance()
    memory.advance([1])
    q, k, v = frame()
    assert bool((memory.attend(0, q) == 0).all())
    memory.append(0, k, v)
    assert not memory.attend(0, q).isnan().any()
    assert len(memory.frames_of(0, 1)[0]) == 1


def test_second_append_replaces_the_first(backend):
    memory, once = new_memory(), new_memory()
    for _ in range(5):
        (_, *first), (_, *second) = frame(), frame()
        memory.append(0, *first)
        memory.append(0, *second)
        once.append(0, *second)
        memory.advance()
        once.advance()
        assert_same_contents(memory, once)


def test_a_step_beyond_int32(backend):
    memory = new_memory(streams=1)
    memory.step.fill_(2**31 - 2)
    for _ in range(5):
        q, k, v = frame(1)
        memory.append(0, k, v)
        assert not memory.attend(0, q).isnan().any()
        memory.advance()
    assert memory.step.item() == 2**31 + 3
    assert len(memory.frames_of(0, 0)[0]) == FRAMES


def test_two_interleaved_streams_equal_two_memories(backend):
    """Bit for bit, whoever else is in the batch."""
    together, alone = new_memory(streams=2), [new_memory(streams=1) for _ in range(2)]
    for ids in ([0, 1], [0], [1, 0], [1], [1], [0, 1], [0]):
        q, k, v = frame(len(ids))
        out = together.stream_step(0, q, k, v, ids)
        for row, stream in enumerate(ids):
            rows = slice(row * WINDOWS, (row + 1) * WINDOWS)
            helpers.assert_same(out[rows], alone[stream].stream_step(0, q[rows], k[rows], v[rows]))
            alone[stream].advance()
        together.advance(ids)


def test_made_in_inference_mode_it_can_still_train(backend):
    with torch.inference_mode():
        memory = new_memory()
        run(memory, 2)
    q, k, v = frame()
    q.requires_grad_()
    memory.append(0, k, v)
    memory.attend(0, q).sum().backward()
    assert q.grad is not None


def test_bf16_memory_under_fp32_compute(backend):
    memory, wide = new_memory(dtype=BF16), new_memory()
    q, k, v = frame()
    memory.append(0, k, v)
    wide.append(0, k.bfloat16(), v.bfloat16())
    assert memory.attend(0, q).dtype == FP32
    torch.testing.assert_close(memory.attend(0, q), wide.attend(0, q), rtol=2e-2, atol=2e-2)


def test_repr_and_bytes():
    memory = StreamMemory(2, 3, 4, 2, 8, window=4, frames=5, dtype=BF16)
    pools, cursors, step = 2 * 2 * (3 * 4 * 2 * 5 * 16 * 8) * 2, 2 * 3 * 4 * 2 * 2 * 8, 3 * 8
    assert memory.nbytes == pools + cursors + step
    assert repr(memory) == "StreamMemory(2 layers, 3 streams, 5 frames, 124 kB, bf16, cpu)"
    assert memory.step.dtype == torch.int64


def test_repr_of_a_large_one():
    with use_backend("reference"):
        memory = StreamMemory(12, 4, 28, 12, 64, device="meta")
    assert repr(memory) == "StreamMemory(12 layers, 4 streams, 32 frames, 51.8 GB, fp32, meta)"


def test_frames_of_padded_windows(backend):
    """Tokens beyond the picture are not in memory: NaN, or what the caller says they are."""
    memory = new_memory(real=REAL)
    _, k, v = frame()
    memory.append(1, k, v)
    pad = torch.randn(HEADS, DIM), torch.randn(HEADS, DIM)
    size = helpers.size(windows=WINDOWS, side=WINDOW)
    inside = helpers.inside(size, torch.tensor(REAL)).flatten(1)[:, None, :, None]  # [W, 1, N, 1]
    for tokens, found, filled, value in zip(
        (k, v), memory.frames_of(1, 2), memory.frames_of(1, 2, pad=pad), pad, strict=True
    ):
        expected = tokens[2 * WINDOWS :]  # [W, H, N, D]
        helpers.assert_same(found[0], expected.masked_fill(~inside, NAN))
        helpers.assert_same(filled[0], torch.where(inside, expected, value[:, None]))


def test_windows_that_are_all_picture_are_not_masked():
    assert new_memory(real=[(WINDOW, WINDOW)] * WINDOWS).real is None
    assert new_memory(real=torch.tensor(REAL)).real.tolist() == [list(pair) for pair in REAL]


@pytest.mark.parametrize("steps", [0, 1, FRAMES, 2 * FRAMES + 1])
@pytest.mark.parametrize("evict", EVICTIONS)
def test_restore_is_exact(backend, steps, evict):
    """What comes after is the same bit for bit, ring position included."""
    memory, other = new_memory(evict=evict, real=REAL), new_memory(evict=evict, real=REAL)
    run(memory, steps)
    run(memory, 1, [1])
    state = memory.snapshot()
    run(other, 2)
    other.restore(state)
    torch.manual_seed(2)
    ours = run(memory, 2 * FRAMES)
    torch.manual_seed(2)
    for a, b in zip(ours, run(other, 2 * FRAMES), strict=True):
        helpers.assert_same(a, b)
    assert memory.step.tolist() == other.step.tolist()


def test_a_snapshot_is_a_copy_without_garbage(backend):
    memory = new_memory(real=REAL)
    run(memory, 2, [0])
    state = memory.snapshot()
    assert not any(value.isnan().any() for value in state.values() if isinstance(value, torch.Tensor))
    assert state["k.0"].shape == (STREAMS, 2, WINDOWS, HEADS, WINDOW, WINDOW, DIM)
    before = {name: value.clone() for name, value in state.items() if isinstance(value, torch.Tensor)}
    run(memory, 5)
    for name, value in before.items():
        helpers.assert_same(state[name], value)


def test_restore_to_other_streams(backend):
    """Two streams leave one memory and take two places in another, whose third is not touched."""
    memory, other = new_memory(), new_memory(streams=4)
    run(memory, 4)
    run(memory, 1, [2])
    run(other, 2)
    untouched = [tensor.clone() for tensor in contents(other)]
    other.restore(memory.snapshot([2, 0]), torch.tensor([1, 3]))
    assert other.step.tolist() == [2, 5, 2, 4]
    for a, b in ((2, 1), (0, 3)):
        for ours, theirs in zip(memory.frames_of(1, a), other.frames_of(1, b), strict=True):
            helpers.assert_same(ours, theirs)
    for now, old in zip(contents(other), untouched, strict=True):
        helpers.assert_same(now[0], old[0])
        helpers.assert_same(now[2], old[2])


@pytest.mark.parametrize("dtype", [FP32, BF16], ids=["fp32", "bf16"])
def test_snapshots_move_between_layouts(dtype, monkeypatch):
    """From the CPU's pools to the GPU's and back: nothing changes."""
    columns = new_memory(dtype=dtype)
    run(columns, 5)
    with monkeypatch.context() as patch, use_backend("reference"):
        patch.setattr(_pool, "default_layout", lambda device: "tokens")
        tokens = new_memory(dtype=dtype)
        tokens.restore(columns.snapshot())
        assert _pool.layout_of(tokens._layers[0][0]) == "tokens"
        for ours, theirs in zip(columns.frames_of(1, 2), tokens.frames_of(1, 2), strict=True):
            helpers.assert_same(ours, theirs)
        run(tokens, 2)
    columns.restore(tokens.snapshot())
    for ours, theirs in zip(columns.frames_of(0, 1), tokens.frames_of(0, 1), strict=True):
        helpers.assert_same(ours, theirs)


def test_restore_converts_the_type():
    wide, narrow = new_memory(), new_memory(dtype=BF16)
    run(wide, 3)
    narrow.restore(wide.snapshot())
    helpers.assert_same(narrow.frames_of(0, 0)[0], wide.frames_of(0, 0)[0].bfloat16())


def test_save_and_load(tmp_path):
    memory, other = new_memory(real=REAL), new_memory(real=REAL)
    run(memory, 5)
    memory.save(tmp_path / "memory.safetensors")
    other.load(str(tmp_path / "memory.safetensors"))
    for stream in range(STREAMS):
        for ours, theirs in zip(memory.frames_of(1, stream), other.frames_of(1, stream), strict=True):
            helpers.assert_same(ours, theirs)
    assert os.listdir(tmp_path) == ["memory.safetensors"]
    with safe_open(tmp_path / "memory.safetensors", "pt") as file:
        assert json.loads(file.metadata()["svm_ext"])["version"] == 1


@pytest.mark.parametrize("where", ["while writing", "before the rename"])
def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch, where):
    memory, path = new_memory(), tmp_path / "memory.safetensors"
    memory.save(path)
    whole = path.read_bytes()
    run(memory, 3)

    def interrupted(first: object, second: object, **_: object) -> None:
        if where == "while writing":
            Path(second).write_bytes(whole[:100])
        raise KeyboardInterrupt

    name = "save_file" if where == "while writing" else "os.replace"
    monkeypatch.setattr(f"svm_ext._snapshot.{name}", interrupted)
    with pytest.raises(KeyboardInterrupt):
        memory.save(path)
    assert path.read_bytes() == whole
    assert os.listdir(tmp_path) == [path.name]


def refused(memory: StreamMemory, match: str, attempt) -> None:
    """The attempt fails with one line, and the memory is as before."""
    before = [tensor.clone() for tensor in contents(memory)]
    with pytest.raises((ValueError, FileNotFoundError), match=match) as error:
        attempt()
    assert len(str(error.value).splitlines()) == 1
    for ours, old in zip(contents(memory), before, strict=True):
        helpers.assert_same(ours, old)


def test_a_file_that_was_cut_is_refused(tmp_path):
    """Wherever it was cut."""
    memory, path = new_memory(streams=1), tmp_path / "memory.safetensors"
    run(memory, 4)
    memory.save(path)
    whole = path.read_bytes()
    other = new_memory(streams=1)
    run(other, 2)
    for length in (0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(other, "expected a whole snapshot", lambda: other.load(path))
    path.write_bytes(b"no snapshot at all, but long enough to hold a header")
    refused(other, "expected a whole snapshot", lambda: other.load(path))
    save_file({"k.0": torch.zeros(3)}, path)
    refused(other, "expected a snapshot of a StreamMemory", lambda: other.load(path))
    refused(other, "got no file", lambda: other.load(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("name", "change"),
    [("layers", 3), ("windows", 3), ("heads", 1), ("head_dim", 16), ("window", 2), ("frames", 4)],
)
def test_a_snapshot_of_other_sizes_is_refused(name, change):
    memory, other = new_memory(), new_memory(**{name: change})
    refused(memory, f"^{name}: expected", lambda: memory.restore(other.snapshot()))


def test_a_snapshot_that_does_not_fit_is_refused():
    memory, other = new_memory(), new_memory()
    run(other, 4)
    refused(memory, "streams: expected as many", lambda: memory.restore(other.snapshot([0, 1])))
    refused(memory, "streams: expected as many", lambda: memory.restore(other.snapshot(), [0, 1]))
    refused(memory, "^real: expected", lambda: memory.restore(new_memory(real=REAL).snapshot()))
    refused(memory, "^state: expected a snapshot", lambda: memory.restore({"k.0": torch.zeros(3)}))
    refused(memory, "^state: expected a snapshot", lambda: memory.restore("memory.safetensors"))


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda s: s["metadata"].update(version=2), "expected version 1, got 2"),
        (lambda s: s.pop("v.1"), r"expected a tensor v\.1"),
        (lambda s: s.update({"v.1": s["v.1"][:, :-1]}), r"v\.1: expected shape"),
        (lambda s: s.update({"k.0": s["k.0"].int()}), r"k\.0: expected a floating"),
        (lambda s: s.update(step=s["step"].float()), "step: expected int64"),
        (lambda s: s["cursor"][..., 0].fill_(-5), "cursor: expected counts"),
        (lambda s: s["cursor"][..., 1].fill_(99), "cursor: expected counts"),
        (lambda s: s["step"].fill_(-1), "cursor: expected counts"),
        (lambda s: s["cursor"][..., 0].fill_(1), r"k\.0: expected shape"),
        (lambda s: s.update(cursor=s["cursor"][:1]), "cursor: expected shape"),
    ],
)
def test_a_damaged_snapshot_is_refused(damage, match):
    """Also where the last layer alone is damaged: nothing of the first is restored then."""
    memory, other = new_memory(), new_memory()
    run(memory, 1)
    run(other, 4)
    state = other.snapshot()
    damage(state)
    refused(memory, match, lambda: memory.restore(state))


def test_fp64_memory(backend):
    memory = new_memory(dtype=FP64)
    assert all(out.dtype == FP64 and not out.isnan().any() for out in run(memory, 4))
