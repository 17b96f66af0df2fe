"""The parts of a block, each against the formula it stands for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import helpers
from helpers import FP64
from svm_ext.models.adapter import Adapter
from svm_ext.models.attention import FrameAttention
from svm_ext.models.blocks import MLP, Block, ConvBlock, DropPath, LayerNorm2d, QuickGELU
from svm_ext.models.windows import Windows

CPU = torch.device("cpu")


def quick_gelu(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(1.702 * x)


def test_quick_gelu():
    x = torch.linspace(-30, 30, 1001, dtype=FP64)
    torch.testing.assert_close(QuickGELU()(x), quick_gelu(x))


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_mlp_is_two_layers_and_a_quick_gelu(batch):
    mlp, x = MLP(6, 24).double(), torch.randn(batch, 5, 6, dtype=FP64, requires_grad=True)
    plain = mlp.c_proj(quick_gelu(mlp.c_fc(x)))
    torch.testing.assert_close(mlp(x), plain)
    leaves = [x, *mlp.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad(mlp(x).square().sum(), leaves),
        torch.autograd.grad(plain.square().sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_mlp_of_a_frozen_model_leaves_its_input_alone():
    mlp, x = MLP(6, 24).requires_grad_(False), torch.randn(2, 5, 6)
    before = x.clone()
    out = mlp(x)
    helpers.assert_same(x, before)
    torch.testing.assert_close(out, mlp.c_proj(quick_gelu(mlp.c_fc(x))))


def test_drop_path_drops_samples_and_keeps_the_mean():
    drop, x = DropPath(0.25).train(), torch.ones(4000, 2, 3)
    out = drop(x)
    assert set(out.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert bool((out == out[:, :1, :1]).all()), "a sample is dropped whole or not at all"
    assert out.mean().item() == pytest.approx(1, abs=0.05)
    helpers.assert_same(drop.eval()(x), x)


@pytest.mark.parametrize("channels_last", [False, True])
def test_layer_norm_of_every_pixel(channels_last):
    norm, x = LayerNorm2d(6, eps=1e-6).double(), torch.randn(2, 6, 3, 4, dtype=FP64)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
    plain = (x - mean) / (variance + 1e-6).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(norm(x), plain)


@pytest.mark.parametrize("grid", [(3, 3), (4, 7), (6, 6)])
def test_conv_block(grid):
    """Begins as the identity; then it is three convolutions on the picture, whatever the order of tokens."""
    windows, block = Windows(*grid, 3, CPU), ConvBlock(8).double()
    x = torch.randn(2, grid[0] * grid[1], 8, dtype=FP64)
    helpers.assert_same(block(x, windows), x)
    torch.nn.init.normal_(block.norm3.weight)
    picture = windows.to_grid(x).permute(0, 3, 1, 2)
    y = F.gelu(block.norm1(F.conv2d(picture, block.conv1.weight)))
    y = F.gelu(block.norm2(F.conv2d(y, block.conv2.weight, padding=1)))
    y = picture + block.norm3(F.conv2d(y, block.conv3.weight))
    torch.testing.assert_close(windows.to_grid(block(x, windows)).permute(0, 3, 1, 2), y)


def test_conv_blocks_reach_across_windows():
    windows, block = Windows(6, 6, 3, CPU), ConvBlock(8)
    torch.nn.init.ones_(block.norm3.weight)
    x = torch.randn(1, 6, 6, 8)
    changed = x.clone()
    changed[0, 2, 2] += 1  # the corner of the first window
    moved = [windows.to_grid(block(windows.from_grid(grid), windows)) for grid in (x, changed)]
    reached = (moved[0] - moved[1]).abs().amax(-1)[0] > 0
    assert reached.nonzero().tolist() == [[r, c] for r in (1, 2, 3) for c in (1, 2, 3)]


@pytest.mark.parametrize("conv", [False, True])
def test_a_block_reads_like_the_paper(conv):
    windows, block = Windows(4, 5, 3, CPU), Block(FrameAttention(8, 2), 8, 32, 0.0, conv).double()
    x = torch.randn(2, 20, 8, dtype=FP64)
    y = x + block.attn(block.ln_1(x), windows)
    y = y + block.mlp(block.ln_2(y))
    torch.testing.assert_close(block(x, windows, None), block.residual_block(y, windows) if conv else y)
    assert ("residual_block.conv1.weight" in block.state_dict()) == conv


def test_adapter_makes_three_scales():
    adapter, maps = Adapter(8), [torch.randn(2, 8, 6, 5) for _ in range(3)]
    first, second, third = adapter(maps)
    assert [tuple(x.shape) for x in (first, second, third)] == [(2, 4, 12, 10), (2, 8, 6, 5), (2, 16, 3, 2)]
    torch.testing.assert_close(third, adapter.fpn_adaptor_2[1:](F.max_pool2d(maps[2], 2)))
    names = {name.split(".", 1)[1] for name in adapter.state_dict() if name.startswith("fpn_adaptor_0")}
    assert names == {"0.weight", "0.bias", "1.weight", "2.weight", "2.bias", "3.weight", "4.weight", "4.bias"}
