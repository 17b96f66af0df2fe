"""Attention in windows, against a plain account of what the paper and its code say, in fp64."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.nn.functional import linear

import helpers
from helpers import FP32, FP64
from svm_ext import StreamMemory, use_backend
from svm_ext.models import past
from svm_ext.models.attention import ClipAttention, FrameAttention, StreamAttention, attend_window
from svm_ext.models.windows import Windows, to_windows

SIDE, HEADS, WIDTH = 3, 2, 16
GRIDS = {"whole": (6, 3), "bottom": (5, 6), "right": (3, 4), "corner": (4, 5), "small": (1, 2)}
ALL_GRIDS = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
QUERIES = pytest.mark.parametrize("cross_query", ["input", "attn_out"])


def random_module(module: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.4 * torch.randn_like(parameter))
    return module.double()


def heads_of(x: torch.Tensor) -> torch.Tensor:
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)  # [B*W, H, N, D]


def merged(x: torch.Tensor) -> torch.Tensor:
    return x.transpose(1, 2).flatten(2)


def softmax_attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1) @ v


def axial(q: torch.Tensor, ks: list[torch.Tensor], vs: list[torch.Tensor]) -> torch.Tensor:
    """Each query (r, c) sees (t, r', c) and, apart from that, (t, r, c'): token by token, [B*W, H, N, D]."""
    out = torch.zeros_like(q)
    for r in range(SIDE):
        for c in range(SIDE):
            at = r * SIDE + c
            column = [i * SIDE + c for i in range(SIDE)]
            row = [r * SIDE + i for i in range(SIDE)]
            for line in (column, row):
                k, v = (torch.cat([frame[:, :, line] for frame in frames], 2) for frames in (ks, vs))
                out[:, :, at] += softmax_attend(q[:, :, at : at + 1], k, v)[:, :, 0]
    return out


def plain_frame(attn: FrameAttention, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """In-frame attention of padded windows [B*W, N, C], padding and all; and k and v [B*W, H, N, D]."""
    q, k, v = map(heads_of, linear(x, attn.in_proj_weight, attn.in_proj_bias).chunk(3, -1))
    return merged(softmax_attend(q, k, v)), k, v


def plain_stream(attn: StreamAttention, grids: list[torch.Tensor]) -> list[torch.Tensor]:
    """All frames [B, h, w, C] one after the other, with lists; the tokens beyond the picture are stored."""
    outs, ks, vs = [], [], []
    for grid in grids:
        x = to_windows(grid, SIDE)
        own, k, v = plain_frame(attn, x)
        ks.append(k.detach())
        vs.append(v.detach())
        asked = linear(x if attn.cross_query == "input" else own, attn.in_proj_weight_t, attn.in_proj_bias_t)
        seen = merged(axial(heads_of(asked), ks, vs))
        outs.append(attn.out_proj(own) + attn.alpha * attn.out_proj_t(seen))
    return outs


def plain_clip(attn: ClipAttention, grids: list[torch.Tensor]) -> list[torch.Tensor]:
    """Every frame sees all frames, by keys and values of the temporal branch's own."""
    xs = [to_windows(grid, SIDE) for grid in grids]
    q_k_v = [[heads_of(p) for p in linear(x, attn.in_proj_weight_t, attn.in_proj_bias_t).chunk(3, -1)] for x in xs]
    qs, ks, vs = map(list, zip(*q_k_v, strict=True))
    seen = [merged(axial(q, ks, vs)) for q in qs]
    return [
        attn.out_proj(plain_frame(attn, x)[0]) + attn.alpha * attn.out_proj_t(past)
        for x, past in zip(xs, seen, strict=True)
    ]


def geometry(grid: tuple[int, int]) -> Windows:
    return Windows(*grid, SIDE, torch.device("cpu"))


def memory_for(windows: Windows, streams: int) -> StreamMemory:
    sizes = dict(windows=len(windows.real), heads=HEADS, head_dim=WIDTH // HEADS, window=SIDE)
    return StreamMemory(1, streams, **sizes, frames=4, dtype=FP64, real=windows.real)


def in_padded_windows(windows: Windows, out: torch.Tensor) -> torch.Tensor:
    """An output in window order as padded windows, 0 beyond the picture."""
    return to_windows(windows.to_grid(out), SIDE)


def expect(windows: Windows, out: torch.Tensor, truth: torch.Tensor) -> None:
    """The truth is right inside the picture; what it says beyond is cut away."""
    h, w = windows.h, windows.w
    inside = to_windows(torch.ones(len(truth) // len(windows.real), h, w, 1, dtype=truth.dtype), SIDE)
    torch.testing.assert_close(in_padded_windows(windows, out), truth * inside, rtol=1e-9, atol=1e-9)


@ALL_GRIDS
def test_in_frame(grid):
    attn, windows = random_module(FrameAttention(WIDTH, HEADS)), geometry(grid)
    x = torch.randn(2, *grid, WIDTH, dtype=FP64)
    own, _, _ = plain_frame(attn, to_windows(x, SIDE))
    expect(windows, attn(windows.from_grid(x), windows), attn.out_proj(own))


@ALL_GRIDS
@QUERIES
@pytest.mark.parametrize("name", ["cpu", "reference"])
def test_frames_with_a_memory(name, grid, cross_query):
    attn, windows = random_module(StreamAttention(WIDTH, HEADS, cross_query, 1.0)), geometry(grid)
    memory = memory_for(windows, 2)
    frames = [torch.randn(2, *grid, WIDTH, dtype=FP64) for _ in range(3)]
    attend = partial(past.in_memory(memory, None), 0)
    for x, truth in zip(frames, plain_stream(attn, frames), strict=True):
        with use_backend(name):
            expect(windows, attn(windows.from_grid(x), windows, attend), truth)
        memory.advance()


@ALL_GRIDS
@QUERIES
def test_clip_and_its_gradients(grid, cross_query):
    """K and V are detached across frames, and only there: autograd through the plain account agrees."""
    attn, windows = random_module(StreamAttention(WIDTH, HEADS, cross_query, 1.0)), geometry(grid)
    x = torch.randn(2, 3, *grid, WIDTH, dtype=FP64, requires_grad=True)  # [B, T, h, w, C]
    truths = plain_stream(attn, list(x.unbind(1)))
    inside = to_windows(torch.ones(2, *grid, 1, dtype=FP64), SIDE)
    probe = torch.randn(3, *truths[0].shape, dtype=FP64) * inside
    wanted = torch.autograd.grad(
        sum((p * t).sum() for p, t in zip(probe, truths, strict=True)), [x, *attn.parameters()]
    )

    out = attn(windows.from_grid(x.flatten(0, 1)), windows, partial(past.in_clip(3, windows, 4, "clear"), 0))
    frames = windows.to_grid(out).unflatten(0, (2, 3)).unbind(1)
    loss = sum((p * to_windows(frame, SIDE)).sum() for p, frame in zip(probe, frames, strict=True))
    for ours, truth in zip(torch.autograd.grad(loss, [x, *attn.parameters()]), wanted, strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-8, atol=1e-8)


@ALL_GRIDS
def test_whole_clip_and_its_gradients(grid):
    attn, windows = random_module(ClipAttention(WIDTH, HEADS, 1.0)), geometry(grid)
    x = torch.randn(2, 3, *grid, WIDTH, dtype=FP64, requires_grad=True)
    truths = plain_clip(attn, list(x.unbind(1)))
    out = attn(windows.from_grid(x.flatten(0, 1)), windows, partial(past.in_whole_clip(3, windows), 0))
    frames = windows.to_grid(out).unflatten(0, (2, 3)).unbind(1)
    inside = to_windows(torch.ones(2, *grid, 1, dtype=FP64), SIDE)
    losses = [0.0, 0.0]
    for frame, truth in zip(frames, truths, strict=True):
        ours = to_windows(frame, SIDE)
        torch.testing.assert_close(ours, truth * inside, rtol=1e-9, atol=1e-9)
        losses = [loss + (y * inside).square().sum() for loss, y in zip(losses, (ours, truth), strict=True)]
    leaves = [x, *attn.parameters()]
    for ours, truth in zip(*(torch.autograd.grad(loss, leaves) for loss in losses), strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", ["stream", "clip"])
def test_a_class_token_joins_its_frame_only(kind):
    """It sees the patches and they see it; the temporal branch passes it by."""
    windows = Windows(SIDE, SIDE, SIDE, torch.device("cpu"), lead=1)
    attn = StreamAttention(WIDTH, HEADS, "input", 1.0) if kind == "stream" else ClipAttention(WIDTH, HEADS, 1.0)
    random_module(attn)
    attend = past.in_clip(1, windows, 4, "clear") if kind == "stream" else past.in_whole_clip(1, windows)
    x = torch.randn(2, 1 + SIDE**2, WIDTH, dtype=FP64)
    out = attn(x, windows, partial(attend, 0))
    own = attn.out_proj(plain_frame(attn, x)[0])
    torch.testing.assert_close(out[:, 0], own[:, 0])
    patches = (plain_stream if kind == "stream" else plain_clip)(attn, [x[:, 1:].unflatten(1, (SIDE, SIDE))])[0]
    alone = attn.out_proj(plain_frame(attn, x[:, 1:])[0])
    torch.testing.assert_close(out[:, 1:] - own[:, 1:], patches - alone)


def test_alpha_of_zero_is_no_temporal_branch():
    attn, windows = random_module(StreamAttention(WIDTH, HEADS, "input", 1.0)), geometry((4, 5))
    plain = random_module(FrameAttention(WIDTH, HEADS))
    plain.load_state_dict(attn.state_dict(), strict=False)
    torch.nn.init.zeros_(attn.alpha)
    x = torch.randn(2, 20, WIDTH, dtype=FP64)
    ours = attn(x, windows, partial(past.in_clip(2, windows, 4, "clear"), 0))
    helpers.assert_same(ours, plain(x, windows))


def test_how_a_branch_begins():
    attn = StreamAttention(64, 4, "input", 1e-4)
    assert bool((attn.alpha == torch.tensor(1e-4)).all())
    for name in ("in_proj_bias", "in_proj_bias_t", "out_proj.bias", "out_proj_t.bias"):
        assert not attn.get_parameter(name).any()
    for name, rows in (("in_proj_weight", 192), ("in_proj_weight_t", 64)):
        weight, bound = attn.get_parameter(name), (6 / (rows + 64)) ** 0.5
        assert 0.9 * bound < weight.abs().max() <= bound


@pytest.mark.parametrize("missing", [1, 5, 180])
@pytest.mark.parametrize("dtype", [torch.bfloat16, FP32, FP64])
def test_one_key_stands_for_all_that_are_missing(dtype, missing):
    """As precise as if they were stored, in half precision too."""
    q, k, v = torch.randn(3, 4, 2, 7, 8).to(dtype)
    pad = torch.randn(2, 8), torch.randn(2, 8)  # [H, D] in fp32, as parameters are under autocast
    q64, k64, v64 = (
        q.double(),
        *(
            torch.cat([x, p.to(dtype)[:, None].expand(4, -1, missing, -1)], 2).double()
            for x, p in zip((k, v), pad, strict=True)
        ),
    )
    truth = softmax_attend(q64, k64, v64)
    stored = torch.nn.functional.scaled_dot_product_attention(q, k64.to(dtype), v64.to(dtype))
    helpers.assert_close(attend_window(q, k, v, pad, missing), truth, stored)
    with torch.autocast("cpu", torch.bfloat16):
        helpers.assert_close(attend_window(q, k, v, pad, missing), truth, stored)


def test_padding_learns():
    """The biases get a gradient as keys and values beyond the picture."""
    attn, windows = random_module(FrameAttention(WIDTH, HEADS)), geometry((2, 2))
    attn(torch.zeros(1, 4, WIDTH, dtype=FP64), windows).sum().backward()
    assert attn.in_proj_bias.grad[2 * WIDTH :].abs().max() > 0
