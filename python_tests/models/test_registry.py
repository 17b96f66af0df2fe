"""Models by name: what there is, what can be changed, and what a wrong name is told."""

from __future__ import annotations

import pytest
import torch

import svm_ext
from svm_ext.models.classifier import Classifier
from svm_ext.models.detector import Detector
from svm_ext.models.registry import MODELS
from svm_ext.models.svit import SVit

SMALL = dict(width=32, heads=2, layers=2, stages=(0, 1), patch_size=8, input_resolution=32, window_size=4)


def test_there_are_three_sizes_of_three_kinds():
    names = [f"svit_{size}{task}" for task in ("", "_mot", "_action") for size in ("tiny", "small", "base")]
    assert svm_ext.list_models() == names


@pytest.mark.parametrize("name", list(MODELS))
def test_every_model_can_be_built(name):
    with torch.device("meta"):
        model = svm_ext.create_model(name)
    kind = {"mot": Detector, "action": Classifier}.get(name.rsplit("_")[-1], SVit)
    assert type(model) is kind
    assert model.config == MODELS[name][1]


@pytest.mark.parametrize(("name", "width", "heads"), [("tiny", 192, 3), ("small", 384, 6), ("base", 768, 12)])
def test_presets(name, width, heads):
    for suffix in ("", "_mot", "_action"):
        config = MODELS[f"svit_{name}{suffix}"][1]
        backbone = getattr(config, "backbone", config)
        assert (backbone.width, backbone.heads, backbone.layers) == (width, heads, 12)
        assert (
            backbone.adapter == backbone.conv_blocks.__ne__(()) == (not backbone.class_token) == (suffix != "_action")
        )
        assert backbone.outputs == ((3,) if suffix == "_action" else (1, 2, 3))


def test_the_papers_detector_has_the_papers_parameters():
    with torch.device("meta"):
        model = svm_ext.create_model("svit_base_mot")
    assert sum(p.numel() for p in model.parameters()) == 199_549_842


@pytest.mark.parametrize(
    "override",
    [
        dict(width=64, heads=4), dict(memory_frames=7), dict(temporal="none"), dict(cross_query="attn_out"),
        dict(drop_path=0.1), dict(conv_blocks=[0]), dict(checkpoint=True), dict(alpha_init=0.1), dict(mlp_ratio=2),
    ],
    ids=lambda override: next(iter(override)),
)  # fmt: skip
def test_every_field_can_be_changed(override):
    common = SMALL | dict(outputs=(0, 1), adapter=False, conv_blocks=())
    model = svm_ext.create_model("svit_tiny", **(common | override))
    for name, value in override.items():
        assert getattr(model.config, name) == (tuple(value) if isinstance(value, list) else value)
    maps = model(torch.randn(1, 2, 3, 40, 32))
    assert [x.shape[-2:] for x in maps] == [(5, 4)] * 2


def test_fields_of_the_backbone_are_named_flat():
    with torch.device("meta"):
        model = svm_ext.create_model("svit_tiny_mot", memory_frames=3, num_classes=4)
    assert (model.config.backbone.memory_frames, model.config.num_classes) == (3, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: svm_ext.create_model("svit_bass"), "name: expected the name of a model, got 'svit_bass'; did"),
        (lambda: svm_ext.create_model("resnet"), "choose from svit_tiny, svit_small, svit_base, svit_tiny_mot"),
        (lambda: svm_ext.create_model(3), "name: expected the name of a model, got 3"),
        (lambda: svm_ext.create_model("svit_tiny", widht=3), "widht: .* did you mean width"),
        (lambda: svm_ext.create_model("svit_tiny", num_classes=3), "num_classes: expected a field of BackboneConfig"),
        (lambda: svm_ext.create_model("svit_tiny", heads=5), "heads: expected a divisor of width 192, got 5"),
    ],
)  # fmt: skip
def test_wrong_names_are_told_the_nearest(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert len(str(error.value).splitlines()) == 1


def test_weights_are_loaded_on_the_way(tmp_path):
    common = SMALL | dict(outputs=(0, 1), adapter=False, conv_blocks=())
    model, path = svm_ext.create_model("svit_tiny", **common), tmp_path / "weights.safetensors"
    svm_ext.save_model(model, path)
    again = svm_ext.create_model("svit_tiny", weights=path, **common)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    with pytest.raises(FileNotFoundError, match="expected a file of weights"):
        svm_ext.create_model("svit_tiny", weights=tmp_path / "none.pth", **common)
