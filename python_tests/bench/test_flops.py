"""The counter of multiply-adds: the paper's three figures from real modules, its formulas against plain products."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import benchmark_scripts
import svm_ext
from svm_ext import StreamMemory, ops
from svm_ext.bench.baselines import FrameLists, eager_clip
from svm_ext.models.config import BackboneConfig
from svm_ext.models.svit import SVit

flops = benchmark_scripts.load("flops")
eager_svit = benchmark_scripts.load("eager_svit")

W, H, SIDE, DIM = 3, 2, 4, 8  # windows, heads, window side, head dim


def tokens(*lead: int) -> Tensor:
    return torch.randn(*lead, W, H, SIDE * SIDE, DIM)


@pytest.mark.parametrize("temporal", flops.PAPER)
def test_the_papers_figures(temporal):
    """16 frames of 224 pixels, class token, four decoder layers; within one per cent."""
    assert flops.of_classifier(temporal) / 1e9 == pytest.approx(flops.PAPER[temporal], rel=0.01)


def test_half_as_many_frames_cost_half_without_memory():
    whole, half = (flops.of_classifier("none", frames) for frames in (16, 8))
    assert half / whole == pytest.approx(0.5, rel=1e-3)


def test_streaming_costs_what_its_parts_do():
    """Per block: queries and output projection of 196 tokens, and two planes of 14 keys for each frame so far."""
    width, tokens, frames = 768, 196, 16
    planes = 2 * 2 * tokens * 14 * width * frames * (frames + 1) // 2
    extra = 12 * (2 * frames * tokens * width**2 + planes)
    assert flops.of_classifier("stream") - flops.of_classifier("none") == pytest.approx(extra, rel=0.01)


def test_memory_of_fewer_frames_is_cheaper():
    assert flops.of_classifier("stream", memory_frames=4) < flops.of_classifier("stream")


@pytest.mark.parametrize("op", ["attend", "stream_step"])
def test_a_full_memory_counts_like_plain_products(op):
    memory = StreamMemory(1, 1, W, H, DIM, window=SIDE, frames=5)
    lists = FrameLists([], [], 5)
    for _ in range(5):
        k, v = tokens(), tokens()
        memory.append(0, k, v)
        memory.advance()
        lists.append(k, v)
    q, k, v = tokens(), tokens(), tokens()
    ours = (lambda: memory.attend(0, q)) if op == "attend" else (lambda: memory.stream_step(0, q, k, v))
    assert flops.multiply_adds(ours) == flops.multiply_adds(lambda: lists.attend(q)) == 2 * 2 * q.numel() * SIDE * 5


def test_a_clip_counts_like_plain_products():
    q, k, v = tokens(2, 5), tokens(2, 5), tokens(2, 5)
    ours = flops.multiply_adds(lambda: ops.clip_attend(q, k, v, memory_frames=5))
    assert ours == flops.multiply_adds(lambda: eager_clip(q, k, v))


@pytest.mark.parametrize(("evict", "pairs"), [("clear", 1 + 2 + 1 + 2 + 1), ("fifo", 1 + 2 + 2 + 2 + 2)])
def test_frames_that_a_clips_memory_does_not_hold_do_not_count(evict, pairs):
    q, k, v = tokens(1, 5), tokens(1, 5), tokens(1, 5)
    counted = flops.multiply_adds(lambda: ops.clip_attend(q, k, v, memory_frames=2, evict=evict))
    assert counted == pairs * 2 * 2 * W * H * SIDE**2 * SIDE * DIM


@pytest.mark.parametrize("whole_clip", [False, True])
def test_backwards_are_three_products_for_two(whole_clip):
    memory = StreamMemory(1, 1, W, H, DIM, window=SIDE, frames=5)
    memory.append(0, tokens(), tokens())
    q = tokens(1, 5) if whole_clip else tokens()
    q.requires_grad_()
    attend = (lambda: ops.clip_attend(q, tokens(1, 5), tokens(1, 5))) if whole_clip else (lambda: memory.attend(0, q))
    forward = flops.multiply_adds(attend)
    out = attend()
    assert flops.multiply_adds(lambda: out.sum().backward()) * 2 == forward * 3


def test_library_attention_on_the_cpu():
    q, k = torch.randn(2, 3, 10, 8), torch.randn(2, 3, 20, 8)
    q.requires_grad_()
    forward = 2 * (2 * 3 * 10 * 20 * 8)
    assert flops.multiply_adds(lambda: F.scaled_dot_product_attention(q, k, k)) == forward
    out = F.scaled_dot_product_attention(q, k, k)
    assert flops.multiply_adds(lambda: out.sum().backward()) == forward * 5 // 2


def test_layer_norm_as_fvcore_counts_it():
    norm = torch.nn.LayerNorm(8)
    assert flops.multiply_adds(lambda: norm(torch.randn(3, 4, 8))) == 5 * 3 * 4 * 8


def test_linear_layers_and_convolutions():
    assert flops.multiply_adds(lambda: torch.nn.Linear(8, 5)(torch.randn(3, 8))) == 3 * 8 * 5
    conv = torch.nn.Conv2d(2, 6, 3, padding=1)
    assert flops.multiply_adds(lambda: conv(torch.randn(1, 2, 7, 9))) == 7 * 9 * 6 * 2 * 9


@torch.no_grad()
def test_a_backbone_counts_like_the_eager_one():
    """On one whole window, where nothing is padded; their norms of channels are counted in one of them only."""
    config = BackboneConfig(
        width=32, layers=4, heads=2, input_resolution=64, window_size=4, conv_blocks=(), stages=(0, 1, 2, 3)
    )
    frame = torch.randn(1, 3, 64, 64)
    model, eager = SVit(config), eager_svit.EagerSVit(config)
    memory = model.new_memory(1, (64, 64), frames=1)
    ours, theirs = flops.multiply_adds(lambda: model(frame, memory)), flops.multiply_adds(lambda: eager(frame))
    assert ours == pytest.approx(theirs, rel=0.01)


def test_no_number_is_computed():
    """Counting needs neither the memory nor the time of a real run."""
    with torch.device("meta"):
        model = svm_ext.create_model("svit_base_action")
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


def test_table(capsys):
    flops.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["none", "stream", "clip"]
    assert [round(float(line.split()[1])) for line in lines[2:]] == [282, 340, 397]
