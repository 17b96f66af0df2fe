"""The released MOT checkpoint: a file of its layout loads into svit_base_mot with nothing missing and nothing left."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import svm_ext
from svm_ext.models.config import BackboneConfig, DetectorConfig
from svm_ext.models.detector import Detector

C, HALF = 768, 384
BLOCK = "backbone.transformer.resblocks"
ALL = "{0..11}"
AFTER = "{2,5,8,11}"

# Names and shapes, as the reference's code makes them; braces stand for each of a list.
BACKBONE: dict[str, tuple[int, ...]] = {
    "backbone.positional_embedding": (196, C),
    "backbone.conv1.weight": (C, 3, 16, 16),
    "backbone.{ln_pre,ln_post,ln_post_out1,ln_post_out2}.{weight,bias}": (C,),
    f"{BLOCK}.{ALL}.attn.in_proj_weight": (3 * C, C),
    f"{BLOCK}.{ALL}.attn.in_proj_bias": (3 * C,),
    f"{BLOCK}.{ALL}.attn.{{out_proj.weight,out_proj_t.weight,in_proj_weight_t}}": (C, C),
    f"{BLOCK}.{ALL}.attn.{{out_proj.bias,out_proj_t.bias,in_proj_bias_t,alpha}}": (C,),
    f"{BLOCK}.{ALL}.{{ln_1,ln_2}}.{{weight,bias}}": (C,),
    f"{BLOCK}.{ALL}.mlp.c_fc.weight": (4 * C, C),
    f"{BLOCK}.{ALL}.mlp.c_fc.bias": (4 * C,),
    f"{BLOCK}.{ALL}.mlp.c_proj.weight": (C, 4 * C),
    f"{BLOCK}.{ALL}.mlp.c_proj.bias": (C,),
    f"{BLOCK}.{AFTER}.residual_block.conv1.weight": (HALF, C, 1, 1),
    f"{BLOCK}.{AFTER}.residual_block.conv2.weight": (HALF, HALF, 3, 3),
    f"{BLOCK}.{AFTER}.residual_block.conv3.weight": (C, HALF, 1, 1),
    f"{BLOCK}.{AFTER}.residual_block.{{norm1,norm2}}.{{weight,bias}}": (HALF,),
    f"{BLOCK}.{AFTER}.residual_block.norm3.{{weight,bias}}": (C,),
    "backbone.fpn_adaptor.fpn_adaptor_0.0.weight": (C, HALF, 2, 2),
    "backbone.fpn_adaptor.fpn_adaptor_0.1.weight": (HALF, HALF, 1, 1),
    "backbone.fpn_adaptor.fpn_adaptor_0.3.weight": (HALF, HALF, 3, 3),
    "backbone.fpn_adaptor.fpn_adaptor_0.{0.bias,2.weight,2.bias,4.weight,4.bias}": (HALF,),
    "backbone.fpn_adaptor.fpn_adaptor_1.0.weight": (C, C, 1, 1),
    "backbone.fpn_adaptor.fpn_adaptor_1.2.weight": (C, C, 3, 3),
    "backbone.fpn_adaptor.fpn_adaptor_1.{1,3}.{weight,bias}": (C,),
    "backbone.fpn_adaptor.fpn_adaptor_2.1.weight": (2 * C, C, 1, 1),
    "backbone.fpn_adaptor.fpn_adaptor_2.3.weight": (2 * C, 2 * C, 3, 3),
    "backbone.fpn_adaptor.fpn_adaptor_2.{2,4}.{weight,bias}": (2 * C,),
}
# Modules of a convolution and a batch norm: output channels, input channels, kernel.
NECK_MODULES: dict[str, tuple[int, int, int]] = {
    "neck.reduce_layers.0": (768, 1536, 1),
    "neck.reduce_layers.1": (384, 768, 1),
    "neck.top_down_blocks.0.{main_conv,short_conv}": (384, 1536, 1),
    "neck.top_down_blocks.0.final_conv": (768, 768, 1),
    "neck.top_down_blocks.0.blocks.{0..3}.conv1": (384, 384, 1),
    "neck.top_down_blocks.0.blocks.{0..3}.conv2": (384, 384, 3),
    "neck.top_down_blocks.1.{main_conv,short_conv}": (192, 768, 1),
    "neck.top_down_blocks.1.final_conv": (384, 384, 1),
    "neck.top_down_blocks.1.blocks.{0..3}.conv1": (192, 192, 1),
    "neck.top_down_blocks.1.blocks.{0..3}.conv2": (192, 192, 3),
    "neck.downsamples.0": (384, 384, 3),
    "neck.downsamples.1": (768, 768, 3),
    "neck.bottom_up_blocks.0.{main_conv,short_conv}": (384, 768, 1),
    "neck.bottom_up_blocks.0.final_conv": (768, 768, 1),
    "neck.bottom_up_blocks.0.blocks.{0..3}.conv1": (384, 384, 1),
    "neck.bottom_up_blocks.0.blocks.{0..3}.conv2": (384, 384, 3),
    "neck.bottom_up_blocks.1.{main_conv,short_conv}": (768, 1536, 1),
    "neck.bottom_up_blocks.1.final_conv": (1536, 1536, 1),
    "neck.bottom_up_blocks.1.blocks.{0..3}.conv1": (768, 768, 1),
    "neck.bottom_up_blocks.1.blocks.{0..3}.conv2": (768, 768, 3),
    "neck.out_convs.0": (256, 384, 1),
    "neck.out_convs.1": (256, 768, 1),
    "neck.out_convs.2": (256, 1536, 1),
}
HEAD_MODULES = {"bbox_head.{multi_level_cls_convs,multi_level_reg_convs}.{0..2}.{0,1}": (256, 256, 3)}
PREDICTORS: dict[str, tuple[int, ...]] = {
    "bbox_head.{multi_level_conv_cls,multi_level_conv_obj}.{0..2}.weight": (1, 256, 1, 1),
    "bbox_head.{multi_level_conv_cls,multi_level_conv_obj}.{0..2}.bias": (1,),
    "bbox_head.multi_level_conv_reg.{0..2}.weight": (4, 256, 1, 1),
    "bbox_head.multi_level_conv_reg.{0..2}.bias": (4,),
}


def spelled(pattern: str) -> list[str]:
    """Every name that a pattern with braces stands for."""
    parts = re.split(r"\{([^}]*)\}", pattern)
    choices = []
    for at, part in enumerate(parts):
        if at % 2 == 0:
            choices.append([part])
        elif ".." in part:
            first, last = map(int, part.split(".."))
            choices.append([str(i) for i in range(first, last + 1)])
        else:
            choices.append(part.split(","))
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def spelled_shapes(patterns: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {name: shape for pattern, shape in patterns.items() for name in spelled(pattern)}


def module_shapes(patterns: dict[str, tuple[int, int, int]]) -> dict[str, tuple[int, ...]]:
    """The six entries of every convolution module."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (out, channels, kernel) in spelled_shapes(patterns).items():
        shapes[f"{name}.conv.weight"] = (out, channels, kernel, kernel)
        shapes |= {f"{name}.bn.{part}": (out,) for part in ("weight", "bias", "running_mean", "running_var")}
        shapes[f"{name}.bn.num_batches_tracked"] = ()
    return shapes


def layout() -> dict[str, tuple[int, ...]]:
    head = module_shapes(HEAD_MODULES) | spelled_shapes(PREDICTORS)
    return spelled_shapes(BACKBONE) | module_shapes(NECK_MODULES) | head


def tensor_of(name: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor of this shape that occupies one number, in memory and in a file."""
    whole = name.endswith("num_batches_tracked")
    return torch.zeros(1, dtype=torch.int64 if whole else torch.float32).expand(shape or (1,)).reshape(shape)


def released(state: dict[str, Tensor], *, averages: bool) -> dict[str, Any]:
    """What the reference's training leaves in a file: a wrapper, prefixed names, copies beside the averages."""
    prefixed = {f"detector.{name}": tensor for name, tensor in state.items()}
    copies = {"ema_" + name.replace(".", "_"): tensor for name, tensor in prefixed.items()} if averages else {}
    meta = dict(epoch=10, iter=207000, CLASSES=("pedestrian",), env_info="", config="model = dict()")
    optimizer = dict(state={0: dict(step=7, exp_avg=torch.zeros(3))}, param_groups=[dict(lr=2.5e-4, params=[0])])
    return dict(meta=meta, state_dict=prefixed | copies, optimizer=optimizer)


def test_layout_has_666_entries() -> None:
    names = list(layout())
    assert len(names) == 666
    assert [sum(name.startswith(f"{part}.") for name in names) for part in ("backbone", "neck", "bbox_head")] == [
        270,
        306,
        90,
    ]
    learned = [shape for name, shape in layout().items() if "running_" not in name and "num_batches" not in name]
    assert sum(torch.Size(shape).numel() for shape in learned) == 199549842


def test_svit_base_mot_is_the_released_model() -> None:
    """Names and shapes, all of them, in both directions."""
    with torch.device("meta"):
        model = svm_ext.create_model("svit_base_mot")
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == layout()


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter:UserWarning")
@pytest.mark.parametrize("averages", [True, False])
def test_released_file_loads_whole(averages: bool, tmp_path: Path) -> None:
    path = tmp_path / "svm_mot17-half-val.pth"
    torch.save(released({name: tensor_of(name, shape) for name, shape in layout().items()}, averages=averages), path)
    assert path.stat().st_size < 4 << 20
    with torch.device("meta"):
        model = svm_ext.create_model("svit_base_mot")
    report = svm_ext.load_weights(model, path)
    assert (len(report.loaded), report.missing, report.unexpected) == (666, [], [])


def small() -> Detector:
    backbone = BackboneConfig(width=24, layers=12, heads=2, input_resolution=32, window_size=2)
    model = Detector(DetectorConfig(backbone=backbone, neck_channels=8, csp_blocks=1)).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            tensor.copy_(torch.rand(tensor.shape) + 0.5 if "num_batches" not in name else torch.tensor(41))
    return model


def test_values_arrive_and_raw_copies_do_not(tmp_path: Path) -> None:
    """The averages are the weights; the raw copies beside them, here of other values, are left out."""
    source, target = small(), small()
    saved = released(source.state_dict(), averages=True)
    for name, tensor in saved["state_dict"].items():
        if name.startswith("ema_"):
            saved["state_dict"][name] = tensor + 7
    torch.save(saved, tmp_path / "small.pth")
    report = svm_ext.load_weights(target, tmp_path / "small.pth")
    assert (report.missing, report.unexpected) == ([], [])
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name]), name


def test_backbone_of_the_released_file_alone() -> None:
    """The rest of the detector stays as it was, and is reported."""
    source, target = small(), small()
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    state = released(source.state_dict(), averages=False)["state_dict"]
    report = svm_ext.load_weights(target, {name: x for name, x in state.items() if ".backbone." in name})
    assert all(name.startswith("backbone.") for name in report.loaded)
    assert {name.partition(".")[0] for name in report.missing} == {"neck", "bbox_head"}
    for name in report.missing:
        assert torch.equal(target.state_dict()[name], before[name]), name


def test_another_number_of_classes_does_not_fit() -> None:
    """A checkpoint of one class in a model of three: the tensor is named, and nothing has changed."""
    source = small()
    target = Detector(source.config.replace(num_classes=3))
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(ValueError, match=r"bbox_head.multi_level_conv_cls.0.weight: expected shape \[3, 8, 1, 1\]"):
        svm_ext.load_weights(target, released(source.state_dict(), averages=False))
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())
