"""One streaming attention module against the outputs, memories and gradients of the reference implementation.

The module is put together here, from the ops and from plain torch for the rest, as the reference's weights ask for it.
"""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention

from helpers import FP32, FP64
from svm_ext import StreamMemory, ops

PRECISION = {FP32: 1e-4, FP64: 1e-5}  # relative to a tensor's maximum
DTYPES = pytest.mark.parametrize("dtype", [FP32, FP64], ids=["fp32", "fp64"])


class Case:
    """The tensors of a golden file in the type to compute in, and its configuration."""

    def __init__(self, path, dtype: torch.dtype) -> None:
        with safe_open(path, "pt") as file:
            self.config = json.loads(file.metadata()["config"])
            self.tensors = {name: file.get_tensor(name).to(dtype) for name in file.keys()}  # noqa: SIM118 (no mapping)
        self.precision = PRECISION[dtype]
        self.windows, self.heads = self.config["NB"], self.config["num_heads"]
        self.head_dim = self.config["embed_dim"] // self.heads

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def parameters(self) -> dict[str, Tensor]:
        prefix = "weights/"
        return {n.removeprefix(prefix): t.requires_grad_() for n, t in self.tensors.items() if n.startswith(prefix)}

    def new_memory(self, dtype: torch.dtype, evict: str) -> StreamMemory:
        sizes = dict(windows=self.windows, heads=self.heads, head_dim=self.head_dim)
        window, frames = self.config["window"], self.config["num_frames"]
        return StreamMemory(1, 1, **sizes, window=window, frames=frames, evict=evict, dtype=dtype)

    def check(self, name: str, ours: Tensor) -> None:
        truth = self[name]
        assert ours.shape == truth.shape, name
        error = (ours - truth).abs().max() / truth.abs().max()
        assert error <= self.precision, f"{name}: {error:.3g}"


def project(x: Tensor, weights: dict[str, Tensor], heads: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q, k, v of the in-frame attention and q of the memory's, each [.., heads, N, D]."""
    both = torch.cat([weights["in_proj_weight"], weights["in_proj_weight_t"]])
    projected = linear(x, both, torch.cat([weights["in_proj_bias"], weights["in_proj_bias_t"]]))
    return tuple(part.unflatten(-1, (heads, -1)).transpose(-3, -2) for part in projected.chunk(4, dim=-1))


def combine(own: Tensor, past: Tensor, weights: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """in_frame, cross_frame and the module's output from both attentions, [.., heads, N, D]."""
    own, past = (x.transpose(-3, -2).flatten(-2) for x in (own, past))  # [.., N, C]
    in_frame = linear(own, weights["out_proj.weight"], weights["out_proj.bias"])
    cross_frame = linear(past, weights["out_proj_t.weight"], weights["out_proj_t.bias"])
    return in_frame, cross_frame, in_frame + weights["alpha"] * cross_frame


@DTYPES
@pytest.mark.parametrize("fused", [False, True], ids=["append-attend", "step"])
@torch.no_grad()
def test_evaluation(backend, golden, dtype, fused):
    """Six frames through three slots, the oldest merged into the next-oldest."""
    case = Case(golden("attention_eval.safetensors"), dtype)
    memory, weights = case.new_memory(dtype, "merge"), case.parameters()
    for t, x in enumerate(case["x"]):  # [W, N, C]
        q, k, v, q_past = project(x, weights, case.heads)
        if fused:
            past = memory.stream_step(0, q_past, k, v)
        else:
            memory.append(0, k, v)
            past = memory.attend(0, q_past)
        memory.advance()
        names = ("in_frame", "cross_frame", "out")
        for name, ours in zip(names, combine(scaled_dot_product_attention(q, k, v), past, weights), strict=True):
            case.check(f"{name}/{t}", ours)
        for name, held in zip(("memory_k", "memory_v"), memory.frames_of(0, 0), strict=True):
            case.check(f"{name}/{t}", held.transpose(0, 1))  # [W, T, H, N, D]


@DTYPES
def test_training_frame_by_frame(backend, golden, dtype):
    """A memory of two frames that is cleared when full; a backward after each frame, gradients accumulated."""
    case = Case(golden("attention_train.safetensors"), dtype)
    memory, weights = case.new_memory(dtype, "clear"), case.parameters()
    xs = case["x"].clone().requires_grad_()  # [T, W, N, C]
    for t, x in enumerate(xs.unbind()):
        q, k, v, q_past = project(x, weights, case.heads)
        memory.append(0, k, v)
        results = combine(scaled_dot_product_attention(q, k, v), memory.attend(0, q_past), weights)
        for name, ours in zip(("in_frame", "cross_frame", "out"), results, strict=True):
            case.check(f"{name}/{t}", ours)
        (results[-1] * case["probe"]).mean().backward()
        memory.advance()
    check_gradients(case, xs, weights)


@DTYPES
def test_training_clip_at_once(backend, golden, dtype):
    """The same numbers from one clip_attend and one backward."""
    case = Case(golden("attention_train.safetensors"), dtype)
    weights, frames = case.parameters(), case.config["num_frames"]
    xs = case["x"].clone().requires_grad_()
    q, k, v, q_past = project(xs, weights, case.heads)  # [T, W, H, N, D]
    past = ops.clip_attend(q_past[None], k[None], v[None], memory_frames=frames, evict="clear")[0]
    results = combine(scaled_dot_product_attention(q, k, v), past, weights)
    for name, ours in zip(("in_frame", "cross_frame", "out"), results, strict=True):
        for t, frame in enumerate(ours):
            case.check(f"{name}/{t}", frame)
    sum((out * case["probe"]).mean() for out in results[-1]).backward()
    check_gradients(case, xs, weights)


def check_gradients(case: Case, xs: Tensor, weights: dict[str, Tensor]) -> None:
    case.check("grad/x", xs.grad)
    for name, parameter in weights.items():
        case.check(f"grad/{name}", parameter.grad)
    assert {name for name in case.tensors if name.startswith("grad/")} == {"grad/x", *(f"grad/{n}" for n in weights)}
