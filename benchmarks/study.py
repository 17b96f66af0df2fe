"""What the learning studies share: models trained alike, scored alike, and told in a table, JSON and a plot.

A study trains each of its models with each of its seeds, in a folder a training, and scores the trained model on
videos that no training saw, with several lengths of memory. After an interrupt the same command goes on: what is
trained stays trained, what is scored stays scored.

The models have the same network but for the temporal branch, and the same pictures in the same steps:

frame-based   has no temporal branch.
streaming     has one, and sees in training what a memory would hold at each frame of a clip.
defect        has one too, trained with the reference's defect: activation checkpointing runs every block twice and
              appends every frame twice, so that with the released recipe's memory of two frames the second frame
              finds the memory full, clears it, and sees itself alone. Just that is done here, without checkpointing:
              with `memory_frames=1` every frame of a clip sees itself. A test holds outputs and gradients against
              the reference's own arithmetic, checkpointed.

They start from the detectors that come with the package, which were trained alike on generated scenes: `frame-based`
from that for single frames, the others from the streaming one, whose branch has learnt to remember. For the defect
that is a gift: it can only forget. `streaming-new` and `defect-new` have none: they start from the detector for single
frames with new branches, as the paper starts from an image model, and so begin as the same function as `frame-based`
but for a tenth of an untrained branch.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import study_report
import torch

from svm_ext._files import whole_file
from svm_ext.bench import machine
from svm_ext.data import demo
from svm_ext.evaluate.mot import MotPlan, evaluate_mot
from svm_ext.evaluate.tracks import COMBINED
from svm_ext.models.registry import load_model
from svm_ext.tracking import TrackerRules
from svm_ext.train.config import TrainConfig, config_from
from svm_ext.train.mot import train

Settings = Mapping[str, Any]
OfMemory = dict[str, dict[str, float | None]]  # [frames remembered][score]
Scores = dict[str, dict[str, OfMemory]]  # [model][seed]

# Of the tracker that all are scored with: models that are trained for minutes are less sure than the package's.
RULES = TrackerRules(high=0.5, low=0.1, init=0.5, confirm=2, match_tentative=0.1, match_high=0.02)
FRAME_BASED, STREAMING, DEFECT = "frame-based", "streaming", "defect"
MODELS: dict[str, Settings] = {  # what each changes in the settings of a study
    FRAME_BASED: {"weights": str(demo.FRAME_BASED), "temporal": "none"},
    STREAMING: {"weights": str(demo.STREAMING)},
    DEFECT: {"weights": str(demo.STREAMING), "memory_frames": 1},
    "streaming-new": {"weights": str(demo.FRAME_BASED)},
    "defect-new": {"weights": str(demo.FRAME_BASED), "memory_frames": 1},
}
CURVES = (STREAMING,)  # scored with other lengths of memory too
KEPT = ("AP50", "AP", "HOTA", "DetA", "AssA", "MOTA", "IDF1", "IDSW", "FP", "FN")


@dataclass(frozen=True)
class Study:
    """What is trained, and how it is scored."""

    settings: Settings  # of all trainings, changes in the preset "demo"
    benchmark: str  # whose rules
    models: Mapping[str, Settings] = field(default_factory=lambda: MODELS)
    memory: int = 8  # frames remembered for the main scores: as many as a clip of the training has
    lengths: tuple[int, ...] = (1, 2, 4, 8, 16, 32)  # frames remembered, for the curve

    def config(self, model: str, seed: int, data: Path) -> TrainConfig:
        """Return what one training is told."""
        return config_from("demo").with_settings(
            {**self.settings, **self.models[model], "seed": seed, "data": str(data)}
        )


@dataclass(frozen=True)
class Run:
    """One training of a study."""

    study: Study
    model: str
    seed: int
    folder: Path
    train: Path  # folders of annotated videos
    test: Path

    @property
    def weights(self) -> Path:
        """Where the training leaves the model."""
        return self.folder / "model.safetensors"

    def __str__(self) -> str:
        return f"{self.model}, seed {self.seed}"


def runs(
    study: Study, models: Iterable[str], seeds: Sequence[int], output: Path, folders: Mapping[str, Path]
) -> list[Run]:
    """Return all trainings, seed by seed, so that what an interrupt leaves can be compared."""
    names = [model for model in study.models if model in models]
    return [
        Run(study, model, seed, output / f"{model}-{seed}", folders["train"], folders["test"])
        for seed in seeds
        for model in names
    ]


def carry_out(wanted: Sequence[Run], jobs: int) -> Scores:
    """Train and score, `jobs` at a time with a core each; return all scores.

    First come all trainings and their scores with the memory of the study, then other lengths of memory.
    """
    for run, scores in _done(train_and_score, wanted, jobs):
        main = scores[str(run.study.memory)]
        told = "  ".join(f"{name} {main[name]:.3f}" for name in KEPT[:7] if main[name] is not None)
        print(f"{run}: {told}", flush=True)
    models = dict.fromkeys(run.model for run in wanted)
    by_model = [run for model in models for run in wanted if run.model == model]
    found = {(run.model, run.seed): scores for run, scores in _done(score_lengths, by_model, jobs)}
    return {model: {str(run.seed): found[model, run.seed] for run in wanted if run.model == model} for model in models}


def _done(work: Callable[[Run], OfMemory], wanted: Sequence[Run], jobs: int) -> Iterable[tuple[Run, OfMemory]]:
    if jobs == 1:
        yield from ((run, work(run)) for run in wanted)
        return
    # Fresh interpreters: a forked one would share the threads and locks of this one.
    with ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        futures = {pool.submit(work, run): run for run in wanted}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in active_children():  # else they would take up what waits already
                worker.terminate()
            raise


def train_and_score(run: Run) -> OfMemory:
    """Train unless that is done, and score with the memory of the study; what the training tells goes to FOLDER.log."""
    config = run.study.config(run.model, run.seed, run.train)
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    if not (run.weights.exists() and TrainConfig.load(run.folder / "config.yaml") == config):
        with Path(f"{run.folder}.log").open("a") as log, contextlib.redirect_stderr(log):
            train(config, run.folder, resume=True)
    return score(run, [run.study.memory])


def score_lengths(run: Run) -> OfMemory:
    """Score with every length of memory, if the model is one of CURVES."""
    return score(run, [*run.study.lengths, run.study.memory] if run.model in CURVES else [run.study.memory])


def score(run: Run, lengths: Sequence[int]) -> OfMemory:
    """Return the scores with these lengths of memory; those that are in FOLDER/scores.json are not taken again."""
    path = run.folder / "scores.json"
    scores: OfMemory = json.loads(path.read_text()) if path.exists() else {}
    missing = [length for length in dict.fromkeys(lengths) if str(length) not in scores]
    model = load_model(run.weights).eval() if missing else None
    for length in missing:
        plan = MotPlan(length, rules=RULES, benchmark=run.study.benchmark)
        combined = evaluate_mot(model, run.test, plan).as_dict()[COMBINED]
        scores[str(length)] = {name: _number(combined[name]) for name in KEPT}
        with whole_file(path) as part:
            part.write_text(json.dumps(scores, indent=1) + "\n")
    return {str(length): scores[str(length)] for length in sorted({*lengths})}


def _number(value: float) -> float | None:
    """Return a number as JSON knows it, which has no nan."""
    return None if value != value else round(float(value), 6)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what all studies are asked."""
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for data and trainings")
    parser.add_argument(
        "--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="NAME", help=f"default: {' '.join(MODELS)}"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="N", help="default: 1 2 3")
    parser.add_argument(
        "--jobs", type=int, default=2, metavar="N", help="trainings at a time, a core each (default: 2)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all scores and what they were taken on")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them, PNG or SVG")


def carry_out_and_tell(
    study: Study, args: argparse.Namespace, folders: Mapping[str, Path], command: str
) -> dict[str, Any]:
    """Do all trainings of a study, print the tables, write what is asked for; return what was written."""
    wanted = runs(study, args.models, args.seeds, args.output, folders)
    result = {
        "schema": 1,
        "machine": machine.describe("cpu", command),
        "settings": _told(study.settings),
        "models": {model: _told(changes) for model, changes in study.models.items() if model in args.models},
        "benchmark": study.benchmark,
        "memory": study.memory,
        "scores": carry_out(wanted, args.jobs),
    }
    print(study_report.markdown(result))
    if args.json:
        study_report.write(result, args.json)
    if args.plot:
        study_report.draw(result, args.plot)
    return result


def _told(settings: Settings) -> Settings:
    """Return settings as JSON has them, and without the place of weights."""
    told = {name: Path(value).name if name == "weights" else value for name, value in settings.items()}
    return json.loads(json.dumps(told))
