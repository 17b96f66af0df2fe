"""Configurations: what they refuse, how they print, and that they come back from a file."""

from __future__ import annotations

import dataclasses
import json
import os

import pytest
import yaml

from svm_ext.models.config import BackboneConfig, ClassifierConfig, Config, DetectorConfig, nearest

ACTION = dict(conv_blocks=(), adapter=False, class_token=True, outputs=(3,))
CHANGED = {
    "backbone": BackboneConfig(width=192, heads=3, temporal="clip", conv_blocks=(), drop_path=0.25, alpha_init=1e-7),
    "detector": DetectorConfig(backbone=BackboneConfig(layers=12, checkpoint=True), num_classes=5, use_l1=True),
    "classifier": ClassifierConfig(backbone=BackboneConfig(**ACTION), num_classes=174, causal=True),
}


def test_the_defaults_are_the_papers_model():
    config = BackboneConfig()
    assert (config.width, config.layers, config.heads, config.patch_size) == (768, 12, 12, 16)
    assert (config.window_size, config.memory_frames, config.conv_blocks) == (14, 32, (2, 5, 8, 11))
    assert (config.temporal, config.cross_query, config.alpha_init) == ("stream", "input", 1e-4)
    assert (DetectorConfig().neck_channels, DetectorConfig().csp_blocks, DetectorConfig().num_classes) == (256, 4, 1)
    assert (ClassifierConfig().num_classes, ClassifierConfig().clip_frames) == (400, 16)


def test_configurations_are_frozen_values():
    with pytest.raises(dataclasses.FrozenInstanceError):
        BackboneConfig().width = 3
    assert BackboneConfig(stages=[2, 5, 8, 11]) == BackboneConfig()
    assert len({BackboneConfig(), BackboneConfig(), BackboneConfig(width=384, heads=6)}) == 2


@pytest.mark.parametrize("suffix", [".json", ".yaml", ".yml", ".YAML"])
@pytest.mark.parametrize("name", CHANGED)
def test_what_is_saved_comes_back(tmp_path, name, suffix):
    config, path = CHANGED[name], tmp_path / f"config{suffix}"
    config.save(path)
    assert type(config).load(str(path)) == config
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("name", CHANGED)
def test_it_prints_as_yaml(name):
    config = CHANGED[name]
    values = yaml.safe_load(str(config))
    assert list(values) == type(config).names()
    assert type(config).from_dict(values) == config
    assert json.loads(json.dumps(config.to_dict())) == config.to_dict()


def test_files_may_say_less(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("num_classes: 3\nbackbone:\n  alpha_init: 1e-5  # YAML takes it for a text\n  outputs: [0, 1, 2]\n")
    config = DetectorConfig.load(path)
    assert config == DetectorConfig(num_classes=3, backbone=BackboneConfig(alpha_init=1e-5, outputs=(0, 1, 2)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_clases: 3", "num_clases: expected a field of DetectorConfig, got none; did you mean num_classes?"),
        ("backbone: {widht: 3}", "widht: expected a field of BackboneConfig, got none; did you mean width?"),
        ("backbone: 3", "backbone: expected a BackboneConfig, got 3"),
        ("just a text", "DetectorConfig: expected fields and values, got 'just a text'"),
        ("", "DetectorConfig: expected fields and values, got None"),
        ("num_classes: [", "path: expected a yaml file, got"),
        ("3: 4", "3: expected a field of DetectorConfig"),
    ],
)
def test_files_that_say_something_else(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the message is compared below, as text)
        DetectorConfig.load(path)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path: expected a configuration, got no file at .*none\.json"):
        BackboneConfig.load(tmp_path / "none.json")
    for use in (BackboneConfig.load, BackboneConfig().save):
        with pytest.raises(ValueError, match=r"ends in \.json, \.yaml or \.yml, got .*config\.toml; rename it"):
            use(tmp_path / "config.toml")
    (tmp_path / "cut.json").write_text(json.dumps(BackboneConfig().to_dict())[:50])
    with pytest.raises(ValueError, match="path: expected a json file, got"):
        BackboneConfig.load(tmp_path / "cut.json")


def test_replace_finds_the_config_that_has_the_field():
    config = DetectorConfig().replace(width=384, heads=6, num_classes=2)
    assert config == DetectorConfig(backbone=BackboneConfig(width=384, heads=6), num_classes=2)
    both = DetectorConfig().replace(backbone=BackboneConfig(width=192, heads=3), memory_frames=4)
    assert both.backbone == BackboneConfig(width=192, heads=3, memory_frames=4)
    assert BackboneConfig().replace() == BackboneConfig()


def test_replace_names_the_nearest():
    with pytest.raises(
        ValueError, match="nms_treshold: expected a field of DetectorConfig, got none; did you mean nms_"
    ):
        DetectorConfig().replace(nms_treshold=0.5)
    with pytest.raises(ValueError, match="memory_frame: .* did you mean memory_frames"):
        ClassifierConfig(backbone=BackboneConfig(**ACTION)).replace(memory_frame=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(width=0), "width: expected at least 1, got 0; change width"),
        (dict(width=True), "width: expected a whole number, got True"),
        (dict(width=768.0), "width: expected a whole number, got 768.0"),
        (dict(heads=5), "heads: expected a divisor of width 768, got 5; change heads"),
        (dict(input_resolution=225), "input_resolution: expected a multiple of patch_size 16, got 225"),
        (dict(temporal="memory"), "temporal: expected one of none, stream, clip, got 'memory'"),
        (dict(cross_query=None), "cross_query: expected one of input, attn_out, got None"),
        (dict(layers=6), "conv_blocks: expected rising numbers from 0 to 5, got (2, 5, 8, 11)"),
        (dict(layers=6, conv_blocks=()), "stages: expected rising numbers from 0 to 5"),
        (dict(stages=(5, 2, 8, 11)), "stages: expected rising numbers from 0 to 11"),
        (dict(stages=3), "stages: expected a list of int, got 3"),
        (dict(stages=("a",)), "stages: expected a whole number, got 'a'"),
        (dict(outputs=(1, 2, 4)), "outputs: expected rising numbers from 0 to 3, got (1, 2, 4)"),
        (dict(outputs=(1, 1, 2)), "outputs: expected rising numbers"),
        (dict(outputs=(1, 2)), "outputs: expected three stages for the adapter, got (1, 2)"),
        (dict(outputs=(), adapter=False), "outputs: expected at least one stage"),
        (dict(width=15, heads=3), "width: expected an even number for adapter and conv_blocks, got 15"),
        (dict(drop_path=1.0), "drop_path: expected at least 0 and below 1, got 1.0"),
        (dict(drop_path=float("nan")), "drop_path: expected at least 0 and below 1, got nan"),
        (dict(drop_path="much"), "drop_path: expected a number, got 'much'"),
        (dict(checkpoint=1), "checkpoint: expected true or false, got 1"),
        (dict(class_token=True), "class_token: expected false beside conv_blocks, got True"),
        (ACTION | dict(window_size=7), "class_token: expected false where input_resolution / patch_size 14 is not"),
    ],
)
def test_contradictions_name_the_field(changes, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the message is compared below, as text)
        BackboneConfig(**changes)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["neck_channels", "csp_blocks", "num_classes"])
def test_detectors_count_from_one(name):
    with pytest.raises(ValueError, match=f"{name}: expected at least 1, got 0"):
        DetectorConfig(**{name: 0})


def test_detectors_take_three_scales():
    with pytest.raises(ValueError, match="adapter: expected true for a detector"):
        DetectorConfig(backbone=BackboneConfig(adapter=False))
    with pytest.raises(ValueError, match="score_threshold: expected 0 to 1, got 1.5"):
        DetectorConfig(score_threshold=1.5)


@pytest.mark.parametrize("name", ["num_classes", "clip_frames", "decoder_layers"])
def test_classifiers_count_from_one(name):
    with pytest.raises(ValueError, match=f"{name}: expected at least 1, got -2"):
        ClassifierConfig(**{name: -2})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Other(Config):
    """A configuration of somebody else, on the same machinery."""

    name: str = "x"
    limit: int | None = None
    rates: tuple[float, ...] = (1.0,)


def test_the_machinery_serves_others():
    config = Other.from_dict({"name": "y", "limit": None, "rates": [1, "2e-3"]})
    assert config == Other(name="y", rates=(1.0, 0.002))
    assert config.replace(limit=3).limit == 3
    assert str(config) == 'name: "y"\nlimit: null\nrates: [1.0, 0.002]'
    for changes, message in (
        (dict(limit="a"), "limit: expected a whole number"),
        (dict(name=3), "name: expected a text"),
    ):
        with pytest.raises(ValueError, match=message):
            config.replace(**changes)


def test_nearest_lists_everything_where_nothing_is_near():
    assert nearest("qqqq", ["one", "two"]) == "choose from one, two"
    assert nearest("tow", ["one", "two"]) == "did you mean two?"
