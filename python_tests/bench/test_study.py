"""The learning studies: fair trainings, a defect that is the reference's, work that is done once, honest tables."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import benchmark_scripts
from house import ROOT
from svm_ext.models.config import BackboneConfig
from svm_ext.models.svit import SVit
from svm_ext.models.weights import load_weights
from svm_ext.train.config import TrainConfig
from svm_ext.train.mot import Trainer
from svm_ext.train.ranks import Ranks

eager_svit = benchmark_scripts.load("eager_svit")
study = benchmark_scripts.load("study")
study_report = benchmark_scripts.load("study_report")
study_pets = benchmark_scripts.load("study_pets")
study_scenes = benchmark_scripts.load("study_scenes")

HERE = Ranks(0, 1, torch.device("cpu"))
STUDIES = {"pets": study_pets.STUDY, "scenes": study_scenes.STUDY}
# A training of seconds: a narrow network from nothing.
SMALL = dict(
    width=16,
    heads=1,
    layers=3,
    conv_blocks=(),
    stages=(0, 1, 2),
    neck_channels=8,
    csp_blocks=1,
    height=64,
    width_pixels=96,
    data="scenes",
    clips=3,
    clip_frames=3,
    memory_frames=4,
    alpha_init=1.0,
    batch=1,
    epochs=1,
    warmup_epochs=0.34,
    tail_epochs=0.0,
    precision="fp32",
    report_every=1,
    save_every=1,
)


def tiny(**changes: Any) -> Any:
    """A study of such trainings."""
    models = {name: {k: v for k, v in of.items() if k != "weights"} for name, of in study.MODELS.items()}
    return study.Study(settings={**SMALL, **changes}, benchmark="MOT15", models=models, memory=3, lengths=(1, 3))


def as_trained(model: str, seed: int = 1) -> TrainConfig:
    """What a tiny training is told."""
    return tiny().config(model, seed, "scenes")


# The defect.


@pytest.mark.parametrize("frames", [2, 5])
def test_the_defect_is_the_references(frames: int) -> None:
    """Its blocks under activation checkpointing, a memory of two frames: outputs and gradients are ours with one."""
    config = BackboneConfig(
        width=16, layers=3, heads=2, input_resolution=32, patch_size=8, window_size=4, conv_blocks=(), stages=(0, 1, 2),
        outputs=(0, 1, 2), memory_frames=2, alpha_init=1.0,
    )  # fmt: skip
    reference = eager_svit.EagerSVit(config).train()
    ours = SVit(config.replace(memory_frames=1)).train()
    assert not load_weights(ours, reference.state_dict()).missing
    clip = torch.randn(1, frames, 3, 48, 40)
    maps = ours(clip)
    probes = [torch.randn_like(x[:, 0]) for x in maps]
    sum((x[:, t] * p).mean() for x, p in zip(maps, probes, strict=True) for t in range(frames)).backward()

    for block in reference.transformer["resblocks"]:
        plain = block.forward
        block.forward = lambda x, grid, plain=plain: checkpoint(plain, x, grid, use_reentrant=True)
    found: list[list[torch.Tensor]] = []

    def kept(frame: torch.Tensor) -> list[torch.Tensor]:
        found.append(reference(frame))
        return found[-1]

    eager_svit.train_by_frames(kept, clip, probes)
    for t, of_frame in enumerate(found):
        for x, y in zip(of_frame, maps, strict=True):
            torch.testing.assert_close(x, y[:, t], rtol=1e-4, atol=1e-5)
    gradients = dict(ours.named_parameters())
    for name, parameter in reference.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name].grad, rtol=1e-3, atol=1e-5, msg=name)


def losses_and_gradients(model: torch.nn.Module, calls: list[tuple[Any, Any]]) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    total = sum(sum(model.loss(*call).values()) for call in calls)
    total.backward()
    return total.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", [study.STREAMING, study.DEFECT])
def test_the_defect_trains_every_frame_alone(name: str) -> None:
    """A clip's losses and gradients are those of its frames one by one; without the defect they are not."""
    trainer = Trainer(as_trained(name), HERE)
    clip, targets = next(trainer.batches())
    alone = [(clip[:, t], [row[t] for row in targets]) for t in range(clip.shape[1])]
    loss, gradients = losses_and_gradients(trainer.model, [(clip, targets)])
    loss_alone, gradients_alone = losses_and_gradients(trainer.model, alone)
    blind = name == study.DEFECT
    assert (loss == pytest.approx(loss_alone, rel=1e-5)) == blind
    asks = "backbone.transformer.resblocks.2.attn.in_proj_weight_t"
    assert gradients[asks].abs().max() > 0
    assert torch.allclose(gradients[asks], gradients_alone[asks], rtol=1e-3, atol=1e-6) == blind


@pytest.mark.parametrize("name", [study.STREAMING, study.DEFECT, study.FRAME_BASED])
def test_only_streaming_sees_the_past_in_training(name: str) -> None:
    trainer = Trainer(as_trained(name), HERE)
    clip, _ = next(trainer.batches())
    other = clip.clone()
    other[:, 0] = torch.randn_like(other[:, 0])
    last, changed = (trainer.model.raw(it)[0][0][:, -1] for it in (clip, other))
    assert torch.equal(last, changed) == (name != study.STREAMING)


# Fairness.


@pytest.mark.parametrize("of", STUDIES.values(), ids=STUDIES)
def test_all_are_trained_alike(of: Any) -> None:
    """The same pictures in the same steps: settings differ in the temporal branch and the start alone."""
    configs = {model: of.config(model, 3, Path("data")) for model in of.models}
    assert list(configs) == list(study.MODELS)
    common = {"weights": None, "temporal": "stream", "memory_frames": 32}
    assert len({str(config.with_settings(common)) for config in configs.values()}) == 1
    blind = {model for model, config in configs.items() if config.detector.backbone.memory_frames == 1}
    assert blind == {study.DEFECT, "defect-new"}
    assert configs[study.STREAMING].clip_frames == of.memory
    starts = {model: Path(config.weights) for model, config in configs.items()}
    assert starts[study.STREAMING] == starts[study.DEFECT]
    assert starts[study.FRAME_BASED] == starts["streaming-new"] == starts["defect-new"]
    assert all(path.is_file() for path in starts.values())


def test_new_branches_change_little_before_they_have_learnt() -> None:
    """All three begin as nearly the same function; branches of one seed are the same."""
    clip, maps = torch.randn(1, 3, 3, 64, 96), {}
    for model in (study.FRAME_BASED, "streaming-new", "defect-new"):
        small = dict(data="scenes", height=64, width_pixels=96, clips=2, batch=1)
        config = study_pets.STUDY.config(model, 1, Path("data")).with_settings(small)
        trainer = Trainer(config, HERE)
        maps[model] = trainer.model.eval().raw(clip)[0][0]
    plain = maps[study.FRAME_BASED]
    for model in ("streaming-new", "defect-new"):
        assert 0 < (maps[model] - plain).std() < 0.2 * plain.std()
    assert torch.allclose(maps["streaming-new"][:, 0], maps["defect-new"][:, 0], atol=1e-5)


def test_seeds_come_one_after_the_other() -> None:
    folders = {"train": Path("train"), "test": Path("test")}
    wanted = study.runs(tiny(), [study.DEFECT, study.STREAMING], [5, 6], Path("out"), folders)
    assert [str(run) for run in wanted] == [
        "streaming, seed 5",
        "defect, seed 5",
        "streaming, seed 6",
        "defect, seed 6",
    ]
    assert [run.folder.name for run in wanted] == ["streaming-5", "defect-5", "streaming-6", "defect-6"]
    assert {(run.train, run.test) for run in wanted} == {(Path("train"), Path("test"))}


def test_all_models_unless_told_otherwise() -> None:
    assert arguments(Path("out")).models == list(study.MODELS)
    assert arguments(Path("out"), "--models", "defect").models == [study.DEFECT]
    with pytest.raises(SystemExit):
        arguments(Path("out"), "--models", "best")


# The whole way, tiny.


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A generated video for training, another one for the test."""
    from svm_ext.data.export import write_scenes
    from svm_ext.data.scenes import SceneConfig

    top = tmp_path_factory.mktemp("videos")
    for number, part in enumerate(("train", "test")):
        write_scenes(top / part, SceneConfig(size=(64, 96)), seed=number, frames=4, min_visibility=0.2)
    return {"train": top / "train", "test": top / "test"}


def arguments(output: Path, *more: str) -> Any:
    import argparse

    parser = argparse.ArgumentParser()
    study.add_arguments(parser)
    return parser.parse_args(["--output", str(output), *more])


def of_folder(**changes: Any) -> Any:
    return tiny(augment=False, strides=(1,), sample=0.75, **changes)


@pytest.fixture(scope="module")
def finished(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    output = tmp_path_factory.mktemp("study")
    args = arguments(output, "--seeds", "1", "2", "--jobs", "1", "--json", str(output / "found.json"), "--plot",
                     str(output / "found.png"))  # fmt: skip
    return output, study.carry_out_and_tell(of_folder(), args, folders, "python benchmarks/tiny.py")


def test_a_study_leaves_scores_of_every_model_and_seed(finished: tuple[Path, dict[str, Any]]) -> None:
    output, result = finished
    assert json.loads((output / "found.json").read_text()) == result
    assert (output / "found.png").read_bytes().startswith(b"\x89PNG")
    assert list(result["scores"]) == list(study.MODELS)
    for model, seeds in result["scores"].items():
        assert list(seeds) == ["1", "2"]
        for of_seed in seeds.values():
            assert list(of_seed) == (["1", "3"] if model in study.CURVES else ["3"])
            assert all(set(scores) == set(study.KEPT) for scores in of_seed.values())
    assert result["machine"]["command"] == "python benchmarks/tiny.py"
    assert not [text for text in (str(output), str(ROOT)) if text in json.dumps(result)]


def test_what_is_done_is_not_done_again(
    finished: tuple[Path, dict[str, Any]], folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    output, result = finished
    for name in ("train", "evaluate_mot"):
        monkeypatch.setattr(study, name, lambda *_, **__: pytest.fail("done again"))
    again = study.carry_out_and_tell(of_folder(), arguments(output, "--seeds", "1", "2", "--jobs", "1"), folders, "")
    assert again["scores"] == result["scores"]


def test_other_lengths_are_scored_again_without_training(
    finished: tuple[Path, dict[str, Any]], folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    output, result = finished
    monkeypatch.setattr(study, "train", lambda *_, **__: pytest.fail("trained again"))
    [run] = study.runs(of_folder(), [study.STREAMING], [1], output, folders)
    before = (run.folder / "scores.json").read_text()
    scores = study.score_lengths(replace(run, study=replace(run.study, lengths=(1, 2, 3))))
    (run.folder / "scores.json").write_text(before)
    assert list(scores) == ["1", "2", "3"]
    assert scores["3"] == result["scores"][study.STREAMING]["1"]["3"]


def test_other_settings_do_not_pass_for_a_finished_training(
    finished: tuple[Path, dict[str, Any]], folders: dict[str, Path]
) -> None:
    output, _ = finished
    [run] = study.runs(of_folder(learning_rate=0.5), [study.DEFECT], [1], output, folders)
    with pytest.raises(ValueError, match="another learning_rate"):
        study.train_and_score(run)


@pytest.mark.parametrize("killed_after", [1, 2])
def test_an_interrupted_training_goes_on(
    finished: tuple[Path, dict[str, Any]],
    folders: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    killed_after: int,
) -> None:
    """Steps before the interrupt are not taken again, and the scores are those of a training without one."""
    taken, left = Trainer.steps, killed_after

    def steps(self: Trainer, clip: Any, targets: Any) -> Any:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        yield from taken(self, clip, targets)

    [run] = study.runs(of_folder(), [study.STREAMING], [2], tmp_path, folders)
    monkeypatch.setattr(Trainer, "steps", steps)
    with pytest.raises(KeyboardInterrupt):
        study.carry_out([run], 1)
    assert not (run.folder / "model.safetensors").exists()
    left = 3 - killed_after
    found = study.carry_out([run], 1)
    assert left == 0
    assert found == {study.STREAMING: {"2": finished[1]["scores"][study.STREAMING]["2"]}}
    without = finished[0] / run.folder.name / "model.safetensors"
    assert (run.folder / "model.safetensors").read_bytes() == without.read_bytes()


@pytest.mark.slow
def test_two_at_a_time_find_the_same(
    finished: tuple[Path, dict[str, Any]], folders: dict[str, Path], tmp_path: Path
) -> None:
    args = arguments(tmp_path, "--seeds", "1", "--jobs", "2")
    result = study.carry_out_and_tell(of_folder(), args, folders, "")
    for model, seeds in result["scores"].items():
        assert seeds["1"] == finished[1]["scores"][model]["1"]
    for run in study.runs(of_folder(), study.MODELS, [1], tmp_path, folders):
        before = finished[0] / run.folder.name / "model.safetensors"
        assert (run.folder / "model.safetensors").read_bytes() == before.read_bytes()


# What is told.


def made_up() -> dict[str, Any]:
    """Scores that can be checked by hand: AP50 is 0.5 + seed / 100, and one more hundredth a frame remembered."""

    def scores(model: int, seed: int, memory: int) -> dict[str, float]:
        value = 0.5 + model / 10 + seed / 100 + memory / 100
        return {name: value - place / 1000 for place, name in enumerate(study_report.COLUMNS)}

    names = list(study.MODELS)
    of = {name: {str(s): {str(m): scores(i, s, m) for m in (1, 8)} for s in (1, 2, 3)} for i, name in enumerate(names)}
    for model in set(names) - set(study.CURVES):
        of[model] = {seed: {"8": of_seed["8"]} for seed, of_seed in of[model].items()}
    return {"memory": 8, "scores": of}


def test_the_table_has_mean_and_spread() -> None:
    main, curve = study_report.markdown(made_up()).split("\n\n")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in main.splitlines()]
    assert rows[0] == ["model", "AP50", "AP", "HOTA", "MOTA", "IDF1"]
    assert [row[0] for row in rows[2:]] == list(study.MODELS)
    assert rows[2][1] == "0.600 (0.590-0.610)"
    assert rows[3][2] == "0.699 (0.689-0.709)"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in curve.splitlines()]
    assert rows[0] == ["model", "score", "1", "8"]
    assert rows[2] == [study.STREAMING, "AP50", "0.630", "0.700"]
    assert {row[0] for row in rows[2:]} == set(study.CURVES)


def test_one_seed_has_no_spread_and_no_score_no_number() -> None:
    assert study_report.cell([0.25]) == "0.250"
    assert study_report.cell([None]) == "-"
    assert study_report.cell([0.5, None]) == "-"


def test_a_plot_of_made_up_scores(tmp_path: Path) -> None:
    from PIL import Image

    study_report.draw(made_up(), tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.width > 800
        colours = picture.convert("RGB").getcolors(1 << 20)
    assert len(colours) > 50
    study_report.draw({**made_up(), "scores": {study.FRAME_BASED: made_up()["scores"][study.FRAME_BASED]}},
                      tmp_path / "plot.svg")  # fmt: skip
    assert "<svg" in (tmp_path / "plot.svg").read_text()


def test_json_comes_back(tmp_path: Path) -> None:
    study_report.write(made_up(), tmp_path / "made_up.json")
    assert json.loads((tmp_path / "made_up.json").read_text()) == made_up()


@pytest.mark.parametrize("name", STUDIES)
def test_the_readme_quotes_what_was_found(name: str) -> None:
    """Tables in the README are those of the results beside it, and their command is there too."""
    path = ROOT / f"benchmarks/results/{name}.json"
    if not path.exists():
        pytest.skip(f"the study of {name} was not carried out here")
    result, readme = json.loads(path.read_text()), (ROOT / "benchmarks/README.md").read_text()
    for table in study_report.markdown(result).split("\n\n"):
        assert table.strip() in readme
    assert result["machine"]["command"] in readme
    assert path.with_suffix(".png").is_file()
    assert set(result["scores"]) >= {study.FRAME_BASED, study.STREAMING, study.DEFECT}
