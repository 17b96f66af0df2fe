"""Bad input to StreamMemory: every method, one clear line each, and the memory stays as it was."""

from __future__ import annotations

import re

import pytest
import torch

import helpers
from helpers import BF16
from svm_ext import StreamMemory

SIZES = dict(layers=2, streams=3, windows=2, heads=2, head_dim=8, window=3, frames=3)


@pytest.fixture
def memory() -> StreamMemory:
    """Two frames of everybody."""
    memory = StreamMemory(**SIZES)
    for _ in range(2):
        for layer in range(2):
            memory.append(layer, tokens(), tokens())
        memory.advance()
    return memory


def tokens(batch: int = 3) -> torch.Tensor:
    return torch.randn(batch * 2, 2, 9, 8)


def contents(memory: StreamMemory) -> list[torch.Tensor]:
    layers = [(*memory.frames_of(layer, stream), memory._layers[layer][2]) for layer in range(2) for stream in range(3)]
    return [memory.step.clone(), *(tensor.clone() for layer in layers for tensor in layer)]


def refused(memory: StreamMemory, error: type, message: str, attempt) -> None:
    before = contents(memory)
    with pytest.raises(error, match=f"^{re.escape(message)}.*; [^\n]+$"):
        attempt()
    for now, old in zip(contents(memory), before, strict=True):
        helpers.assert_same(now, old)


# Each method with everything right but for the streams (3 rows) or the layer.
METHODS = {
    "append": lambda m, layer=0, streams=None: m.append(layer, tokens(), tokens(), streams),
    "attend": lambda m, layer=0, streams=None: m.attend(layer, tokens(), streams),
    "stream_step": lambda m, layer=0, streams=None: m.stream_step(layer, tokens(), tokens(), tokens(), streams),
    "advance": lambda m, streams=None: m.advance(streams),
    "reset": lambda m, streams=None: m.reset(streams),
    "snapshot": lambda m, streams=None: m.snapshot(streams),
    "restore": lambda m, streams=None: m.restore(m.snapshot(), streams),
    "save": lambda m, streams=None: m.save("never.safetensors", streams),
}
BAD_STREAMS = [
    ([0, 1, 3], IndexError, "streams: expected ids from 0 to 2, got 3 in row 2"),
    ([0, -1, 1], IndexError, "streams: expected ids from 0 to 2, got -1 in row 1"),
    ([0, 2**40, 1], IndexError, f"streams: expected ids from 0 to 2, got {2**40} in row 1"),
    ([2, 1, 2], ValueError, "streams: expected every id once, got 2 again in row 2"),
]


@pytest.mark.parametrize(("ids", "error", "message"), BAD_STREAMS, ids=["beyond", "negative", "huge", "repeated"])
@pytest.mark.parametrize("kind", ["list", "tensor"])
@pytest.mark.parametrize("method", METHODS)
def test_bad_stream_ids(memory, method, kind, ids, error, message):
    if (method, kind, error) == ("attend", "tensor", ValueError):
        METHODS[method](memory, streams=torch.tensor(ids))  # the op reads a stream as often as it is asked to
        return
    streams = ids if kind == "list" else torch.tensor(ids)
    refused(memory, error, message, lambda: METHODS[method](memory, streams=streams))


@pytest.mark.parametrize("method", METHODS)
def test_bad_kinds_of_streams(memory, method):
    call = METHODS[method]
    refused(memory, ValueError, "streams: expected a sequence of ids", lambda: call(memory, streams=2))
    refused(memory, ValueError, "streams: expected whole numbers, got 1.5", lambda: call(memory, streams=[0, 1.5, 2]))
    refused(memory, ValueError, "streams: expected whole numbers, got 'a'", lambda: call(memory, streams="abc"))
    ids = torch.tensor([0, 1, 2])
    refused(memory, ValueError, "streams: expected int64, got int32", lambda: call(memory, streams=ids.int()))
    refused(memory, ValueError, "streams: expected shape [B], got [1, 3]", lambda: call(memory, streams=ids[None]))


@pytest.mark.parametrize("layer", [2, -1, 10**12])
@pytest.mark.parametrize("method", ["append", "attend", "stream_step"])
def test_layer_out_of_range(memory, method, layer):
    message = f"layer: expected 0 to 1, got {layer}"
    refused(memory, IndexError, message, lambda: METHODS[method](memory, layer=layer))


def test_bad_tokens(memory):
    good = tokens()
    shape = "expected shape [B*W=6, H=2, n*n=9, D=8], got"
    for bad, text in (
        (good[0], f"{shape} [2, 9, 8]"),
        (good[:4], f"{shape} [4, 2, 9, 8]"),
        (good.int(), "expected a floating point type, got int32"),
        (good.double(), "expected float32 or bfloat16, got float64"),
        (good.to("meta"), "expected a tensor on cpu like k_pool, got one on meta"),
    ):
        refused(memory, ValueError, f"q: {text}", lambda bad=bad: memory.attend(0, bad))
        refused(memory, ValueError, f"k: {text}", lambda bad=bad: memory.append(0, bad, good))
        refused(memory, ValueError, f"q: {text}", lambda bad=bad: memory.stream_step(0, bad, good, good))
    refused(memory, ValueError, "v: expected shape", lambda: memory.append(0, good, good[:2]))
    # One good row too many for the named streams, and one too few.
    message = "q: expected shape [B*W=4, H=2, n*n=9, D=8], got [6, 2, 9, 8]"
    refused(memory, ValueError, message, lambda: memory.attend(0, good, [0, 1]))
    message = "k: expected shape [B*W=6, H=2, n*n=9, D=8], got [4, 2, 9, 8]"
    refused(memory, ValueError, message, lambda: memory.append(0, tokens(2), tokens(2), [0, 1, 2]))


def test_bad_pads(memory):
    q, bias = tokens(), torch.randn(2, 8)
    message = "pad_v: expected shape [H=2, D=8], got [8]"
    refused(memory, ValueError, message, lambda: memory.attend(0, q, pad=(bias, bias[0])))
    message = "pad_v: expected it together with pad_k, got None"
    refused(memory, ValueError, message, lambda: memory.attend(0, q, pad=(bias, None)))
    refused(memory, ValueError, "pad: expected a pair", lambda: memory.stream_step(0, q, q, q, pad=bias))


@pytest.mark.parametrize("stream", [3, -1])
def test_bad_frames_of(memory, stream):
    refused(memory, IndexError, f"streams: expected ids from 0 to 2, got {stream}", lambda: memory.frames_of(0, stream))
    refused(memory, IndexError, "layer: expected 0 to 1, got 5", lambda: memory.frames_of(5, 0))


def test_a_step_that_went_back_is_refused(memory):
    memory.step.zero_()
    refused(memory, ValueError, "step: expected at least 1 for stream 0", lambda: METHODS["append"](memory))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(({name: 0}, f"{name}: expected a whole number of at least 1, got 0") for name in SIZES),
        *(({name: -2}, f"{name}: expected a whole number of at least 1, got -2") for name in SIZES),
        ({"streams": 1.5}, "streams: expected a whole number of at least 1, got 1.5"),
        ({"evict": "lru"}, "evict: expected merge, fifo or clear, got 'lru'"),
        ({"dtype": torch.int64}, "dtype: expected a floating point type, got int64"),
        ({"head_dim": 7, "dtype": BF16}, "head_dim: expected an even number"),
        ({"real": [(3, 3)]}, "real: expected shape [W=2, "),
        ({"real": [(3, 4), (1, 1)]}, "real: expected 0 to 3 rows and columns, got 4"),
        ({"real": [(3, 3), (-1, 1)]}, "real: expected 0 to 3 rows and columns, got -1"),
        ({"real": torch.rand(2, 2)}, "real: expected whole numbers, got float32"),
    ],
)
def test_bad_constructions(change, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}.*; [^\n]+$"):
        StreamMemory(**(SIZES | change))


def test_saving_to_nowhere_is_told(memory, tmp_path):
    with pytest.raises(OSError, match="^path: expected a place to write to, got .*nowhere.*; .*$"):
        memory.save(tmp_path / "nowhere" / "memory.safetensors")
    with pytest.raises(FileNotFoundError, match="^path: expected a snapshot"):
        memory.load(tmp_path)
