"""Weights: every layout of file that is understood, made up small; and what happens to those that are not."""

from __future__ import annotations

import json
import os
import pickle
import warnings
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

import helpers
import svm_ext
from helpers import BF16
from svit_cases import CLASS_TOKEN, PADDED, tiny, video
from svm_ext.models.config import BackboneConfig, DetectorConfig
from svm_ext.models.detector import Detector
from svm_ext.models.svit import SVit
from svm_ext.models.weights import load_weights, read_state, save_model

SMALL_DETECTOR = dict(neck_channels=16, csp_blocks=1)
TEMPORAL = ("in_proj_weight_t", "in_proj_bias_t", "out_proj_t.weight", "out_proj_t.bias", "alpha")


def randomised(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: torch.randn_like(t) if t.is_floating_point() else torch.full_like(t, 7) for n, t in state.items()}


def detector() -> Detector:
    config = DetectorConfig(backbone=tiny().config, **SMALL_DETECTOR)
    return Detector(config).eval()


def assert_holds(model: nn.Module, expected: dict[str, Tensor]) -> None:
    own = model.state_dict()
    for name, tensor in expected.items():
        helpers.assert_same(own[name], tensor.to(own[name].dtype), name)


def unchanged(model: nn.Module, error: type[Exception], message: str, source: object) -> None:
    """Loading fails with one line, and the model is as before."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(error, match=message) as raised:
        load_weights(model, source)
    assert len(str(raised.value).splitlines()) == 1
    assert_holds(model, before)


# OpenAI's CLIP, as its archives have it: a vision tower, and a text tower with the same names inside.


def clip_tower(width: int, layers: int, patch: int, side: int) -> dict[str, Tensor]:
    """The vision tower's tensors, fp16."""
    shapes = {
        "class_embedding": (width,),
        "positional_embedding": (side**2 + 1, width),
        "proj": (width, 24),
        "conv1.weight": (width, 3, patch, patch),
    } | {f"{norm}.{part}": (width,) for norm in ("ln_pre", "ln_post") for part in ("weight", "bias")}
    return {name: torch.randn(shape).half() for name, shape in shapes.items()} | clip_blocks(width, layers)


def clip_blocks(width: int, layers: int) -> dict[str, Tensor]:
    shapes = {
        "attn.in_proj_weight": (3 * width, width),
        "attn.in_proj_bias": (3 * width,),
        "attn.out_proj.weight": (width, width),
        "attn.out_proj.bias": (width,),
        "mlp.c_fc.weight": (4 * width, width),
        "mlp.c_fc.bias": (4 * width,),
        "mlp.c_proj.weight": (width, 4 * width),
        "mlp.c_proj.bias": (width,),
    } | {f"{norm}.{part}": (width,) for norm in ("ln_1", "ln_2") for part in ("weight", "bias")}
    return {
        f"transformer.resblocks.{i}.{name}": torch.randn(shape).half()
        for i in range(layers)
        for name, shape in shapes.items()
    }


def whole_clip(tower: dict[str, Tensor]) -> dict[str, Tensor]:
    """Both towers and what stands beside them."""
    text = clip_blocks(32, 3) | {
        "positional_embedding": torch.randn(77, 32).half(),
        "text_projection": torch.randn(32, 24).half(),
        "token_embedding.weight": torch.randn(50, 32).half(),
        "ln_final.weight": torch.randn(32).half(),
        "logit_scale": torch.tensor(4.6),
        "input_resolution": torch.tensor(224),
    }
    return {f"visual.{name}": tensor for name, tensor in tower.items()} | text


class Archived(nn.Module):
    """Modules nested as the names of a state dict say, which TorchScript can take."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        inner: dict[str, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            head, _, rest = name.partition(".")
            if rest:
                inner.setdefault(head, {})[rest] = tensor
            else:
                self.register_parameter(head, nn.Parameter(tensor, requires_grad=False))
        for head, part in inner.items():
            self.add_module(head, Archived(part))

    def forward(self, x: Tensor) -> Tensor:
        return x


def as_torchscript(state, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(Archived(state)).save(str(path))


WAYS = {
    "torchscript": as_torchscript,
    "plain": lambda state, path: torch.save(state, path),
    "model": lambda state, path: torch.save({"model": state}, path),
    "state_dict": lambda state, path: torch.save({"state_dict": OrderedDict(state), "epoch": 3}, path),
    "safetensors": lambda state, path: save_file(state, path.with_suffix(".safetensors")),
}


@pytest.mark.parametrize("part", ["whole", "tower"])
@pytest.mark.parametrize("way", WAYS)
def test_clip_as_it_is_found(tmp_path, way, part):
    """fp16; the temporal branch and all that is ours stays as it was, the text tower goes nowhere."""
    tower, path = clip_tower(32, 3, 8, 4), tmp_path / "clip.pt"
    WAYS[way](whole_clip(tower) if part == "whole" else tower, path)
    [path] = tmp_path.iterdir()
    model = tiny()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = load_weights(model, path)
    expected = {name: tensor for name, tensor in tower.items() if name not in ("class_embedding", "proj")}
    expected["positional_embedding"] = tower["positional_embedding"][1:]
    assert_holds(model, expected)
    assert_holds(model, {name: before[name] for name in report.missing})
    assert sorted(report.loaded) == sorted(expected)
    assert report.unexpected == []
    ours = ("residual_block", "ln_post_out", "fpn_adaptor", *TEMPORAL)
    assert all(any(word in name for word in ours) for name in report.missing)
    assert len(report.loaded) + len(report.missing) == len(before)
    assert str(report) == f"{len(expected)} tensors loaded, {len(report.missing)} left as they were, 0 without a place"


def test_clip_into_a_model_with_a_class_token():
    tower, model = clip_tower(32, 3, 8, 4), tiny(**CLASS_TOKEN)
    report = load_weights(model, whole_clip(tower))
    assert_holds(model, {name: tower[name] for name in ("class_embedding", "positional_embedding", "ln_post.bias")})
    assert report.unexpected == []


def test_clip_into_the_backbone_of_a_detector():
    tower, model = clip_tower(32, 3, 8, 4), detector()
    report = load_weights(model, whole_clip(tower))
    assert_holds(model, {f"backbone.{n}": tower[n] for n in tower if n.startswith(("transformer", "conv1", "ln"))})
    assert report.unexpected == []
    assert any(name.startswith("neck.") for name in report.missing)


def test_clip_of_another_grid_is_resized():
    """ViT-L/14 at 224 pixels has 16 x 16 places; windows of 14 with 14 x 14 of them want fewer."""
    tower = clip_tower(32, 3, 7, 5)
    model = tiny(patch_size=7, input_resolution=28)
    report = load_weights(model, whole_clip(tower))
    table = tower["positional_embedding"][1:].float().T.view(1, 32, 5, 5)
    picture = interpolate(table, (4, 4), mode="bicubic").flatten(2)[0].T
    torch.testing.assert_close(model.positional_embedding.data, picture)
    assert "positional_embedding" in report.loaded


@pytest.mark.parametrize(
    ("name", "sizes", "rows"),
    [
        ("ViT-B/16", dict(width=768, layers=12, heads=12, patch_size=16), 197),
        ("ViT-L/14", dict(width=1024, layers=24, heads=16, patch_size=14), 257),
    ],
)
def test_the_shapes_of_openai(name, sizes, rows):
    """Both of the models that are understood, in full size but without numbers."""
    with torch.device("meta"):
        side = sizes["patch_size"] * 14 if name == "ViT-L/14" else 224
        stages = (sizes["layers"] - 1,)
        model = SVit(
            BackboneConfig(**sizes, input_resolution=side, stages=stages, outputs=(0,), conv_blocks=(), adapter=False)
        )
        tower = clip_tower(sizes["width"], sizes["layers"], sizes["patch_size"], round((rows - 1) ** 0.5))
        assert tower["positional_embedding"].shape == (rows, sizes["width"])
        report = load_weights(model, whole_clip(tower))
    assert all(any(word in name for word in TEMPORAL) for name in report.missing)
    assert report.unexpected == []


# The released checkpoint of the tracker.


def released(model: Detector) -> dict[str, Tensor]:
    """Its names: `detector.` before everything, raw copies of the averages beside it."""
    state = {f"detector.{name}": tensor for name, tensor in randomised(model.state_dict()).items()}
    return state | {f"ema_{name.replace('.', '_')}": torch.randn(2) for name in list(state)[::7]}


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_released_checkpoint(tmp_path, wrapped):
    model = detector()
    state = released(model)
    meta = {"epoch": 12, "seed": np.int64(7), "best": np.float64(0.5), "CLASSES": ("person",), "config": "text"}
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    torch.save(dict(meta=meta, state_dict=state, optimizer=optimizer) if wrapped else state, tmp_path / "released.pth")
    report = load_weights(model, tmp_path / "released.pth")
    assert_holds(model, {n.removeprefix("detector."): t for n, t in state.items() if n.startswith("detector.")})
    assert (report.missing, report.unexpected) == ([], [])


@pytest.mark.parametrize("prefix", ["detector.backbone.", "backbone.", ""], ids=["whole", "backbone", "bare"])
def test_its_backbone_alone(prefix):
    """Into a backbone and into a detector, from the whole file or from a part of it."""
    state = released(detector())
    own = {n.removeprefix("detector.backbone."): t for n, t in state.items() if n.startswith("detector.backbone.")}
    source = state if prefix == "detector.backbone." else {prefix + name: tensor for name, tensor in own.items()}
    model = tiny()
    report = load_weights(model, source)
    assert_holds(model, own)
    assert (report.missing, report.unexpected) == ([], [])
    model = detector()
    load_weights(model, source)
    assert_holds(model, {f"backbone.{name}": tensor for name, tensor in own.items()})


# Our own files.


@pytest.mark.parametrize("kind", ["SVit", "Detector"])
def test_what_is_saved_comes_back(tmp_path, kind):
    model, path = tiny() if kind == "SVit" else detector(), tmp_path / "model.safetensors"
    with torch.no_grad():
        model.load_state_dict(randomised(model.state_dict()))
    save_model(model, str(path))
    assert os.listdir(tmp_path) == ["model.safetensors"]
    again = svm_ext.load_model(path)
    assert type(again) is type(model)
    assert again.config == model.config
    assert_holds(again, model.state_dict())
    with safe_open(path, "pt") as file:
        told = json.loads(file.metadata()["svm_ext"])
    assert (told["version"], told["model"]) == (1, kind)
    assert told["config"] == model.config.to_dict()


def test_a_loaded_model_computes_the_same(tmp_path):
    model, frames = tiny(), video(2).transpose(0, 1)
    save_model(model, tmp_path / "model.safetensors")
    again = svm_ext.load_model(tmp_path / "model.safetensors", memory_frames=5).eval()
    assert again.config.memory_frames == 5
    for ours, theirs in zip(again(frames), model(frames), strict=True):
        helpers.assert_same(ours, theirs)


def test_weights_move_between_types():
    narrow, wide = tiny(dtype=BF16), tiny()
    load_weights(narrow, wide.state_dict())
    assert_holds(narrow, wide.state_dict())
    assert {p.dtype for p in narrow.parameters()} == {BF16}


@pytest.mark.parametrize("where", ["while writing", "before the rename"])
def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch, where):
    path = tmp_path / "model.safetensors"
    save_model(tiny(), path)
    whole = path.read_bytes()

    def interrupted(first: object, second: object, **_: object) -> None:
        if where == "while writing":
            second.write_bytes(whole[:100])
        raise KeyboardInterrupt

    name = "svm_ext.models.weights.save_file" if where == "while writing" else "os.replace"
    monkeypatch.setattr(name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_model(tiny(), path)
    assert path.read_bytes() == whole
    assert os.listdir(tmp_path) == [path.name]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OSError, match="path: expected a place to write to, got"):
        save_model(tiny(), tmp_path / "none" / "model.safetensors")


def test_only_models_with_a_configuration_are_saved(tmp_path):
    with pytest.raises(ValueError, match="model: expected one of create_model, got a Linear"):
        save_model(nn.Linear(2, 2), tmp_path / "model.safetensors")


def test_a_model_that_loses_a_tensor_is_no_model(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(tiny(), path)
    with safe_open(path, "pt") as file:
        told, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del tensors["ln_pre.bias"]
    save_file(tensors, path, told)
    with pytest.raises(ValueError, match="expected all weights of the model, got none for ln_pre.bias"):
        svm_ext.load_model(path)
    told["svm_ext"] = told["svm_ext"].replace("SVit", "Other")
    save_file(tensors, path, told)
    with pytest.raises(ValueError, match="expected a model of SVit, Detector, Classifier, got Other"):
        svm_ext.load_model(path)


@pytest.mark.parametrize("metadata", [None, {"svm_ext": "{"}, {"svm_ext": "3"}, {"svm_ext": '{"version": 99}'}])
def test_files_without_our_metadata_build_no_model(tmp_path, metadata):
    path = tmp_path / "model.safetensors"
    save_file(tiny().state_dict(), path, metadata)
    with pytest.raises(ValueError, match=r"path: expected a file of save_model.*got .*model\.safetensors"):
        svm_ext.load_model(path)
    assert load_weights(tiny(), path).missing == []


# What does not fit.


def test_a_shape_that_does_not_fit_names_the_tensor():
    model, state = tiny(), tiny().state_dict()
    state["transformer.resblocks.1.attn.out_proj.bias"] = torch.zeros(33)
    unchanged(
        model, ValueError, r"resblocks.1.attn.out_proj.bias: expected shape \[32\] like the model's, got \[33", state
    )


@pytest.mark.parametrize("rows", [(15, 32), (16, 30), (16,), (0, 32), (18, 32)])
def test_a_position_table_that_is_no_grid(rows):
    state = tiny().state_dict() | {"positional_embedding": torch.zeros(rows)}
    unchanged(tiny(), ValueError, r"positional_embedding: expected shape \[16, 32\]", state)


def test_a_table_without_a_class_row_does_not_serve_a_class_token():
    unchanged(tiny(**CLASS_TOKEN), ValueError, r"positional_embedding: expected shape \[17, 32\]", tiny().state_dict())


def test_tables_of_other_parts_are_not_pictures():
    """Only the backbone's table is a grid; a decoder's is a row of frames."""
    overrides = dict(width=32, heads=2, layers=2, stages=(0, 1), outputs=(1,), patch_size=8, input_resolution=32)
    overrides |= dict(window_size=4, decoder_layers=1, num_classes=2)
    four, nine = (svm_ext.create_model("svit_tiny_action", clip_frames=n, **overrides) for n in (4, 9))
    unchanged(nine, ValueError, r"decoder.positional_embedding: expected shape \[9, 32\]", four.state_dict())


@pytest.mark.parametrize("source", [{}, {"a.weight": torch.zeros(3)}, {"state_dict": {"b": torch.zeros(1)}}, {"c": 3}])
def test_matching_nothing_is_an_error(source):
    unchanged(tiny(), ValueError, "source: expected weights of SVit, got none, but", source)


def test_what_has_no_place_is_reported():
    state = tiny().state_dict() | {"extra.weight": torch.zeros(2), "epoch": 3}
    report = load_weights(tiny(), state)
    assert (report.missing, report.unexpected) == ([], ["extra.weight"])


def test_a_file_that_is_not_there(tmp_path):
    for use in (svm_ext.load_model, read_state):
        with pytest.raises(FileNotFoundError, match=r"path: expected a file of weights, got none at .*none\.pth"):
            use(tmp_path / "none.pth")
    unchanged(tiny(), FileNotFoundError, "got none at", tmp_path)


@pytest.mark.parametrize("way", ["torchscript", "plain", "safetensors"])
def test_a_file_that_was_cut(tmp_path, way):
    """Wherever it was cut."""
    WAYS[way](clip_tower(32, 3, 8, 4), tmp_path / "clip.pt")
    [path] = tmp_path.iterdir()
    whole, model = path.read_bytes(), tiny()
    for length in (0, 1, 8, 9, 100, len(whole) // 2, len(whole) - 40, len(whole) - 1):
        path.write_bytes(whole[:length])
        unchanged(model, ValueError, "path: expected whole weights, got .*; fetch or save it again", path)
        with pytest.raises(ValueError, match="path: expected a file of save_model, got"):
            svm_ext.load_model(path)


def test_safetensors_under_another_name(tmp_path):
    """A file is what it holds, not what it is called."""
    model = tiny()
    save_file(model.state_dict(), tmp_path / "weights.pth")
    assert load_weights(tiny(), tmp_path / "weights.pth").missing == []


def test_a_file_of_something_else(tmp_path):
    path = tmp_path / "notes.pth"
    path.write_bytes(b"nothing that torch could read, at some length")
    unchanged(tiny(), ValueError, "path: expected whole weights", path)
    torch.save([torch.zeros(3)], path)
    unchanged(tiny(), ValueError, "path: expected a state dict, got list", path)
    path.write_bytes(pickle.dumps({"a": 1}, protocol=2))
    unchanged(tiny(), ValueError, "source: expected weights of SVit|path: expected whole weights", path)


class Trap:
    """Runs code when it is unpickled."""

    sprung = False

    def __reduce__(self):
        return (setattr, (Trap, "sprung", True))


def test_a_file_runs_no_code(tmp_path):
    torch.save({"state_dict": tiny().state_dict(), "trap": Trap()}, tmp_path / "trap.pth")
    unchanged(tiny(), ValueError, "it holds a .*setattr, which is no tensor", tmp_path / "trap.pth")
    assert not Trap.sprung


def test_the_loaded_model_is_trained_as_before():
    model = tiny().train()
    model.ln_pre.weight.requires_grad_(False)
    load_weights(model, tiny().state_dict())
    assert model.training
    assert not model.ln_pre.weight.requires_grad
    assert model.ln_pre.bias.requires_grad
    model(video(1)[0], model.new_memory(2, PADDED))[0].sum().backward()
