"""The neck: its wiring against a plain retelling, clips against frames, the names of the released checkpoint."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svm_ext.models.neck import ConvModule, CspLayer, PathAggregation, each_frame

WIDTHS = (8, 16, 32)


def neck(csp_blocks: int = 2, out_channels: int = 6) -> PathAggregation:
    """A small neck whose batch norms are no longer fresh."""
    made = PathAggregation(WIDTHS, out_channels, csp_blocks)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return made.eval()


def maps(*lead: int, height: int = 2, width: int = 3) -> list[Tensor]:
    """Random maps of three scales, from fine to coarse."""
    return [torch.randn(*lead, c, height * s, width * s) for c, s in zip(WIDTHS, (4, 2, 1), strict=True)]


def told(state: dict[str, Tensor], prefix: str, x: Tensor, stride: int = 1) -> Tensor:
    """A convolution, batch norm and SiLU, from the tensors of a state dict."""
    weight = state[f"{prefix}.conv.weight"]
    x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
    mean, var, scale, shift = (state[f"{prefix}.bn.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
    x = (x - mean[:, None, None]) / (var[:, None, None] + 1e-3).sqrt() * scale[:, None, None] + shift[:, None, None]
    return x * torch.sigmoid(x)


def told_csp(state: dict[str, Tensor], prefix: str, x: Tensor, blocks: int) -> Tensor:
    main = told(state, f"{prefix}.main_conv", x)
    for block in range(blocks):
        main = told(state, f"{prefix}.blocks.{block}.conv1", main)
        main = told(state, f"{prefix}.blocks.{block}.conv2", main)
    short = told(state, f"{prefix}.short_conv", x)
    return told(state, f"{prefix}.final_conv", torch.cat([main, short], 1))


def twice(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, -1).repeat_interleave(2, -2)


def test_wiring_by_hand() -> None:
    """Top-down with the reduced maps, bottom-up with the reduced maps, then one convolution a level."""
    made = neck(csp_blocks=2)
    state = {name: value.double() for name, value in made.state_dict().items()}
    fine, middle, coarse = (x.double() for x in maps(2))

    high = told(state, "reduce_layers.0", coarse)
    mid = told_csp(state, "top_down_blocks.0", torch.cat([twice(high), middle], 1), 2)
    mid = told(state, "reduce_layers.1", mid)
    out8 = told_csp(state, "top_down_blocks.1", torch.cat([twice(mid), fine], 1), 2)
    out16 = torch.cat([told(state, "downsamples.0", out8, 2), mid], 1)
    out16 = told_csp(state, "bottom_up_blocks.0", out16, 2)
    out32 = torch.cat([told(state, "downsamples.1", out16, 2), high], 1)
    out32 = told_csp(state, "bottom_up_blocks.1", out32, 2)
    expected = [told(state, f"out_convs.{i}", x) for i, x in enumerate((out8, out16, out32))]

    for out, ref in zip(made.double()([fine, middle, coarse]), expected, strict=True):
        torch.testing.assert_close(out, ref, rtol=1e-9, atol=1e-9)


def test_shapes() -> None:
    for x, out in zip(maps(2), neck(out_channels=6)(maps(2)), strict=True):
        assert out.shape == (2, 6, *x.shape[-2:])
    for x, out in zip(maps(2, 3), neck(out_channels=6)(maps(2, 3)), strict=True):
        assert out.shape == (2, 3, 6, *x.shape[-2:])


def test_clip_is_its_frames_in_evaluation() -> None:
    made, clip = neck(), maps(2, 3)
    outs = made(clip)
    for t in range(3):
        for out, ref in zip(outs, made([x[:, t] for x in clip]), strict=True):
            torch.testing.assert_close(out[:, t], ref, rtol=1e-5, atol=1e-5)


def test_clip_is_its_frames_in_training() -> None:
    """Outputs, gradients and running statistics of a clip are those of a loop over its frames."""
    at_once = neck().train()
    looped, clip = copy.deepcopy(at_once), maps(2, 3)
    outs = at_once(clip)
    probes = [torch.randn_like(out) for out in outs]
    sum((out * probe).sum() for out, probe in zip(outs, probes, strict=True)).backward()
    for t in range(3):
        frame = looped([x[:, t] for x in clip])
        for out, ref in zip(outs, frame, strict=True):
            torch.testing.assert_close(out[:, t], ref, rtol=1e-4, atol=1e-4)
        sum((out * probe[:, t]).sum() for out, probe in zip(frame, probes, strict=True)).backward()
    for (name, a), b in zip(at_once.named_parameters(), looped.parameters(), strict=True):
        tolerance = 1e-4 * b.grad.abs().max().item() + 1e-5
        assert (a.grad - b.grad).abs().max() <= tolerance, name
    for (name, a), b in zip(at_once.named_buffers(), looped.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=name)


def test_names_and_count_of_the_released_neck() -> None:
    """51 convolution modules of six entries; the shapes of the full model."""
    with torch.device("meta"):
        state = PathAggregation((384, 768, 1536), 256, 4).state_dict()
    assert len(state) == 306
    assert (
        sum(value.numel() for name, value in state.items() if "running" not in name and "num" not in name) == 53819904
    )
    assert state["reduce_layers.0.conv.weight"].shape == (768, 1536, 1, 1)
    assert state["top_down_blocks.1.blocks.3.conv2.conv.weight"].shape == (192, 192, 3, 3)
    assert state["bottom_up_blocks.1.final_conv.bn.running_var"].shape == (1536,)
    assert state["downsamples.1.conv.weight"].shape == (768, 768, 3, 3)


def test_bottlenecks_have_no_shortcut() -> None:
    layer = CspLayer(4, 8, 1).eval()
    for name, parameter in layer.blocks.named_parameters():
        if name.endswith("conv.weight"):
            nn.init.zeros_(parameter)
    inside = layer.blocks(torch.randn(1, 4, 3, 3))
    torch.testing.assert_close(inside, torch.zeros_like(inside))


def test_no_bottlenecks() -> None:
    assert CspLayer(4, 8, 0)(torch.randn(2, 4, 3, 3)).shape == (2, 8, 3, 3)


def test_batch_norm_as_in_the_reference() -> None:
    norm = ConvModule(3, 4, 1).bn
    assert (norm.momentum, norm.eps) == (0.03, 1e-3)


def test_each_frame_reshapes_around_a_layer() -> None:
    conv = nn.Conv2d(3, 5, 3, stride=2, padding=1)
    clip = torch.randn(2, 4, 3, 8, 6)
    out = each_frame(conv, clip)
    assert out.shape == (2, 4, 5, 4, 3)
    torch.testing.assert_close(out[:, 2], conv(clip[:, 2]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [2, 4])
def test_wrong_number_of_maps(count: int) -> None:
    with pytest.raises(ValueError, match="unpack"):
        neck()((maps(1) * 2)[:count])


@pytest.mark.parametrize(("lead", "training"), [((1,), False), ((2, 3), True)])
def test_compiles_whole(lead: tuple[int, ...], training: bool) -> None:
    made = neck(csp_blocks=1).train(training)
    compiled = torch.compile(copy.deepcopy(made), fullgraph=True, backend="eager")
    x = maps(*lead)
    for out, ref in zip(compiled(x), made(x), strict=True):
        torch.testing.assert_close(out, ref, rtol=1e-4, atol=1e-5)


def test_bfloat16_autocast() -> None:
    made, x = neck(), maps(2)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = made(x)
    for out, ref in zip(narrow, made(x), strict=True):
        assert out.dtype == torch.bfloat16
        assert (out - ref).abs().max() <= 0.1 * ref.abs().max()
