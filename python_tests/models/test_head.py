"""The head: its towers, what its numbers mean in pixels, the names of the released checkpoint."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from svm_ext.models.head import DecoupledHead, HeadMaps, decode, priors_of

STRIDES = (8, 16, 32)
SIZES = ((4, 6), (2, 3), (1, 2))


def features(*lead: int, channels: int = 8) -> list[Tensor]:
    return [torch.randn(*lead, channels, *size) for size in SIZES]


def head_maps(*lead: int, classes: int = 2) -> HeadMaps:
    parts = ([torch.randn(*lead, channels, *size) for size in SIZES] for channels in (classes, 4, 1))
    return HeadMaps(*parts)


def test_shapes_of_frames_and_clips() -> None:
    head = DecoupledHead(3, 8)
    for lead in ((2,), (2, 4)):
        maps = head(features(*lead))
        for levels, channels in zip(maps, (3, 4, 1), strict=True):
            assert [x.shape for x in levels] == [(*lead, channels, *size) for size in SIZES]


def test_levels_share_nothing() -> None:
    head = DecoupledHead(1, 8)
    head(features(2)).obj[1].sum().backward()
    touched = {name for name, p in head.named_parameters() if p.grad is not None}
    assert touched
    assert all(name.split(".")[0] in ("multi_level_reg_convs", "multi_level_conv_obj") for name in touched)
    assert all(name.split(".")[1] == "1" for name in touched)


def test_a_new_head_believes_in_one_object_in_a_hundred() -> None:
    head = DecoupledHead(2, 8)
    for level in range(3):
        for conv in (head.multi_level_conv_cls[level], head.multi_level_conv_obj[level]):
            torch.testing.assert_close(conv.bias.sigmoid(), torch.full_like(conv.bias, 0.01))
        assert not head.multi_level_conv_reg[level].bias.any()


def test_names_and_count_of_the_released_head() -> None:
    with torch.device("meta"):
        head = DecoupledHead(1, 256)
    state = head.state_dict()
    assert len(state) == 90
    assert sum(p.numel() for p in head.parameters()) == 7088658
    assert state["multi_level_cls_convs.2.1.conv.weight"].shape == (256, 256, 3, 3)
    assert state["multi_level_reg_convs.0.0.bn.num_batches_tracked"].shape == ()
    assert [state[f"multi_level_conv_{part}.1.weight"].shape[0] for part in ("cls", "reg", "obj")] == [1, 4, 1]


def test_priors_are_corners_of_cells() -> None:
    priors = priors_of([(2, 3), (1, 1)], (8, 16), torch.device("cpu"), torch.float32)
    assert priors.tolist() == [
        [0, 0, 8], [8, 0, 8], [16, 0, 8], [0, 8, 8], [8, 8, 8], [16, 8, 8], [0, 0, 16],
    ]  # fmt: skip


def test_priors_of_a_large_picture() -> None:
    sizes = [(800 // stride, 1440 // stride) for stride in STRIDES]
    assert len(priors_of(sizes, STRIDES, torch.device("cpu"), torch.float32)) == 23625


def test_decoding_by_hand() -> None:
    """The centre is relative to the cell's corner in strides, the size an exponential of strides."""
    maps = head_maps(1)
    for level, (stride, (height, width)) in enumerate(zip(STRIDES, SIZES, strict=True)):
        predictions = decode(maps, STRIDES)
        before = sum(h * w for h, w in SIZES[:level])
        for row in range(height):
            for column in range(width):
                at = before + row * width + column
                x, y, w, h = maps.box[level][0, :, row, column].tolist()
                cx, cy, w, h = (x + column) * stride, (y + row) * stride, math.exp(w) * stride, math.exp(h) * stride
                expected = torch.tensor([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
                torch.testing.assert_close(predictions.boxes[0, at], expected, rtol=1e-5, atol=1e-4)
                assert torch.equal(predictions.cls[0, at], maps.cls[level][0, :, row, column])
                assert predictions.obj[0, at] == maps.obj[level][0, 0, row, column]
                assert torch.equal(predictions.raw[0, at], maps.box[level][0, :, row, column])


def test_clips_decode_image_by_image() -> None:
    maps = head_maps(2, 3)
    predictions = decode(maps, STRIDES)
    assert predictions.boxes.shape[0] == 6
    for b in range(2):
        for t in range(3):
            alone = decode(HeadMaps(*([x[b : b + 1, t] for x in levels] for levels in maps)), STRIDES)
            torch.testing.assert_close(predictions.boxes[3 * b + t], alone.boxes[0], rtol=0, atol=0)
            torch.testing.assert_close(predictions.cls[3 * b + t], alone.cls[0], rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_maps_are_decoded_in_fp32(dtype: torch.dtype) -> None:
    """Half a picture's width has no exact place in bf16: boxes would jump by whole pixels."""
    narrow = HeadMaps(*([x.to(dtype) for x in levels] for levels in head_maps(1)))
    wide = HeadMaps(*([x.float() for x in levels] for levels in narrow))
    with torch.autocast("cpu", torch.bfloat16):
        for out, ref in zip(decode(narrow, STRIDES), decode(wide, STRIDES), strict=True):
            assert out.dtype == torch.float32
            assert torch.equal(out, ref)


def test_doubles_stay_doubles() -> None:
    maps = HeadMaps(*([x.double() for x in levels] for levels in head_maps(1)))
    assert all(x.dtype == torch.float64 for x in decode(maps, STRIDES))


def test_gradients_flow_through_decoding() -> None:
    raw = [x.double().requires_grad_() for x in head_maps(1).box]
    others = head_maps(1)

    def boxes(*levels: Tensor) -> Tensor:
        cls, obj = ([x.double() for x in part] for part in (others.cls, others.obj))
        return decode(HeadMaps(cls, list(levels), obj), STRIDES).boxes

    assert torch.autograd.gradcheck(boxes, raw)


def test_strides_of_small_patches() -> None:
    """A patch of 5 pixels makes a finest map of 2.5."""
    priors = priors_of([(1, 3)], (2.5,), torch.device("cpu"), torch.float32)
    assert priors.tolist() == [[0, 0, 2.5], [2.5, 0, 2.5], [5, 0, 2.5]]


def test_one_stride_a_level() -> None:
    with pytest.raises(ValueError, match="shorter"):
        decode(head_maps(1), (8, 16))


@pytest.mark.parametrize("lead", [(2,), (1, 3)])
def test_head_and_decoding_compile_whole(lead: tuple[int, ...]) -> None:
    head = DecoupledHead(2, 8).eval()
    compiled = torch.compile(lambda x: decode(head(x), STRIDES), fullgraph=True, backend="eager")
    x = features(*lead)
    for out, ref in zip(compiled(x), decode(copy.deepcopy(head)(x), STRIDES), strict=True):
        torch.testing.assert_close(out, ref, rtol=1e-5, atol=1e-4)


def test_golden_boxes(golden: Callable[[str], Path]) -> None:
    case = load_file(golden("detector_eval.safetensors"))
    for t in range(5):
        maps = HeadMaps(*([case[f"{part}/{t}/{level}"] for level in range(3)] for part in ("cls", "box", "obj")))
        boxes, expected = decode(maps, STRIDES).boxes, case[f"decoded/{t}"]
        assert (boxes - expected).abs().max() <= 1e-6 * expected.abs().max()
