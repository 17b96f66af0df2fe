"""The backbone as the reference model computes it, in eager torch: what svm_ext's backbone is compared with.

Each block keeps Python lists of keys and values on itself, so a model serves one set of streams at a time. A
frame stacks the whole memory, copies it into the order of either plane and materialises the scores. Windows
are padded with zeros, and what is padded is computed, stored and attended. The position table is resized for
every frame. Parameters carry the reference's names, so that the weights of either model load into the other.

Letters: B streams, W windows a stream, N tokens, C channels, H heads, D head dim, h x w the token grid.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from svm_ext.bench.baselines import FrameLists
from svm_ext.models.config import BackboneConfig


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of every pixel, [B, C, h, w]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        variance = centred.pow(2).mean(1, keepdim=True)
        return self.weight[:, None, None] * (centred / torch.sqrt(variance + 1e-6)) + self.bias[:, None, None]


class QuickGELU(nn.Module):
    """GELU by a sigmoid."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Attention(nn.Module):
    """In-frame attention of every window, and its cross-attention over the frames in memory."""

    def __init__(self, width: int, heads: int, memory_frames: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.in_proj_weight_t = nn.Parameter(torch.empty(width, width))
        self.in_proj_bias_t = nn.Parameter(torch.zeros(width))
        self.out_proj_t = nn.Linear(width, width)
        self.alpha = nn.Parameter(torch.full((width,), 1e-4))
        for weight in (self.in_proj_weight, self.in_proj_weight_t):
            nn.init.xavier_uniform_(weight)
        self.memory = FrameLists([], [], memory_frames)

    def forward(self, x: Tensor) -> Tensor:  # [B*W, N, C]
        projected = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = rearrange(projected, "b n (three h d) -> three b h n d", three=3, h=self.heads)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # [B*W, H, N, N]
        own = self.out_proj(rearrange(scores.softmax(-1) @ v, "b h n d -> b n (h d)"))
        self.remember(k, v)
        asked = F.linear(x, self.in_proj_weight_t, self.in_proj_bias_t)
        past = self.memory.attend(rearrange(asked, "b n (h d) -> b h n d", h=self.heads))
        return own + self.alpha * self.out_proj_t(rearrange(past, "b h n d -> b n (h d)"))

    def remember(self, k: Tensor, v: Tensor) -> None:
        """Append a frame; a full memory starts again in training, and merges its oldest two otherwise."""
        if self.training and len(self.memory.keys) == self.memory.capacity:
            self.clear_memory()
        self.memory.append(k, v)

    def clear_memory(self) -> None:
        """Forget all frames."""
        self.memory.keys.clear()
        self.memory.values.clear()


class ConvBlock(nn.Module):
    """The bottleneck of three convolutions after some of the blocks; it begins as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        middle = width // 2
        self.conv1 = nn.Conv2d(width, middle, 1, bias=False)
        self.norm1 = ChannelNorm(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, padding=1, bias=False)
        self.norm2 = ChannelNorm(middle)
        self.conv3 = nn.Conv2d(middle, width, 1, bias=False)
        self.norm3 = ChannelNorm(width)
        for conv in (self.conv1, self.conv2, self.conv3):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.norm3.weight)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, h, w]
        out = F.gelu(self.norm1(self.conv1(x)))
        out = F.gelu(self.norm2(self.conv2(out)))
        return x + self.norm3(self.conv3(out))


class Block(nn.Module):
    """A transformer block in windows, and the conv block behind it where there is one."""

    def __init__(self, config: BackboneConfig, with_conv: bool) -> None:
        super().__init__()
        width = config.width
        self.window = config.window_size
        self.attn = Attention(width, config.heads, config.memory_frames)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        hidden = config.mlp_ratio * width
        layers = [("c_fc", nn.Linear(width, hidden)), ("gelu", QuickGELU()), ("c_proj", nn.Linear(hidden, width))]
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.residual_block = ConvBlock(width) if with_conv else None

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:  # [B, h*w, C]
        x = x + self.attend_windows(self.ln_1(x), grid)
        x = x + self.mlp(self.ln_2(x))
        if self.residual_block is None:
            return x
        picture = rearrange(x, "b (h w) c -> b c h w", h=grid[0]).contiguous()
        return rearrange(self.residual_block(picture), "b c h w -> b (h w) c").contiguous()

    def attend_windows(self, x: Tensor, grid: tuple[int, int]) -> Tensor:  # [B, h*w, C]
        n, (h, w) = self.window, grid
        picture = rearrange(x, "b (h w) c -> b h w c", h=h)
        padded = F.pad(picture, (0, 0, 0, -w % n, 0, -h % n))
        windows = rearrange(padded, "b (i r) (j c) d -> (b i j) (r c) d", r=n, c=n).contiguous()
        rows, columns = padded.shape[1] // n, padded.shape[2] // n
        out = rearrange(self.attn(windows), "(b i j) (r c) d -> b (i r) (j c) d", i=rows, j=columns, r=n)
        return rearrange(out[:, :h, :w], "b h w c -> b (h w) c").contiguous()


def adapter(width: int) -> nn.ModuleDict:
    """Return the layers that bring three stages to strides of 8, 16 and 32 pixels."""
    half, double = width // 2, 2 * width

    def convolutions(channels: int, out: int) -> list[nn.Module]:
        first, second = nn.Conv2d(channels, out, 1, bias=False), nn.Conv2d(out, out, 3, padding=1, bias=False)
        return [first, ChannelNorm(out), second, ChannelNorm(out)]

    scales = [
        [nn.ConvTranspose2d(width, half, 2, 2), *convolutions(half, half)],
        convolutions(width, width),
        [nn.MaxPool2d(2, 2), *convolutions(width, double)],
    ]
    return nn.ModuleDict({f"fpn_adaptor_{i}": nn.Sequential(*layers) for i, layers in enumerate(scales)})


class EagerSVit(nn.Module):
    """The backbone: `forward` takes the next frame of every stream, and the memory is the model's own.

    It is the released model's: streaming, its cross query taken from a block's input, with adapter.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config, width = config, config.width
        side = config.input_resolution // config.patch_size
        self.side = side
        self.conv1 = nn.Conv2d(3, width, config.patch_size, config.patch_size, bias=False)
        self.positional_embedding = nn.Parameter(0.02 * torch.randn(side * side, width))
        self.ln_pre = nn.LayerNorm(width)
        blocks = [Block(config, i in config.conv_blocks) for i in range(config.layers)]
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList(blocks)})
        for stage in config.outputs:
            self.add_module(self.norm_name(stage), nn.LayerNorm(width))
        self.fpn_adaptor = adapter(width)

    def norm_name(self, stage: int) -> str:
        """Return the name of the LayerNorm behind a stage; the last one is CLIP's own."""
        return "ln_post" if stage == len(self.config.stages) - 1 else f"ln_post_out{stage}"

    @property
    def attentions(self) -> list[Attention]:
        """The attention of every block, which holds that block's memory."""
        return [block.attn for block in self.transformer["resblocks"]]

    def clear_history(self) -> None:
        """Forget all frames, in all blocks."""
        for attention in self.attentions:
            attention.clear_memory()

    def forward(self, frames: Tensor) -> list[Tensor]:  # [B, 3, height, width] -> maps [B, C', h', w']
        patches = self.conv1(frames)  # [B, C, h, w]
        grid = patches.shape[-2], patches.shape[-1]
        x = self.ln_pre(rearrange(patches, "b c h w -> b (h w) c") + self.positions(grid))
        maps = []
        for i, block in enumerate(self.transformer["resblocks"]):
            x = block(x, grid)
            stage = self.config.stages.index(i) if i in self.config.stages else None
            if stage in self.config.outputs:
                done = self.get_submodule(self.norm_name(stage))(x)
                maps.append(rearrange(done, "b (h w) c -> b c h w", h=grid[0]).contiguous())
        return [scale(x) for scale, x in zip(self.fpn_adaptor.values(), maps, strict=True)]

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Return the position table for a grid, [h*w, C]."""
        if grid == (self.side, self.side):
            return self.positional_embedding
        table = rearrange(self.positional_embedding, "(h w) c -> 1 c h w", h=self.side)
        return rearrange(F.interpolate(table, grid, mode="bicubic", align_corners=False), "1 c h w -> (h w) c")


def run_clip(model: EagerSVit, clip: Tensor) -> list[list[Tensor]]:
    """Return the maps of every frame of a clip [B, T, 3, height, width], from a memory that starts empty."""
    model.clear_history()
    return [model(frames) for frames in clip.unbind(1)]


def train_by_frames(forward: Callable[[Tensor], list[Tensor]], clip: Tensor, probes: Sequence[Tensor]) -> Tensor:
    """Accumulate the gradients of a clip with a backward for every frame, as the reference's runner does.

    Returns the loss: over frames and maps the sum of (map * probe).mean(). The memory behind `forward` starts
    empty.
    """
    losses = []
    for frames in clip.unbind(1):
        loss = sum((x * probe).mean() for x, probe in zip(forward(frames), probes, strict=True))
        loss.backward()
        losses.append(loss.detach())
    return torch.stack(losses).sum()
