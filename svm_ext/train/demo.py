"""Train the detectors that come with the package, from nothing: clips, two trainings side by side, scores.

    python -m svm_ext.train.demo --output runs/demo

Three rounds, each with new clips of 8 frames: short parts of 1,600 to learn what people look like, then 1,600 whole
ones with more to remember, then 1,200 in larger pictures, the size that the models see later. The streaming detector
and a frame-based one are trained alike, each on one core, and scored on scenes that neither has seen; about an hour on
two idle cores. With `--install` their weights take the place of those in the package. After an interrupt the same
command goes on. With `--score` nothing is trained, and the package's weights are scored.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data import demo
from ..data.rendered import render
from ..evaluate.scenes import SceneScores, demo_trial
from ..models.registry import load_model
from ..models.weights import save_model
from .config import config_from

# What is trained: where the package has its weights, and what it changes in the preset.
MODELS = {"streaming": (demo.STREAMING, {}), "frame_based": (demo.FRAME_BASED, {"temporal": "none"})}
# Of each round: how many clips it draws, and what it changes in the preset.
ROUNDS: tuple[tuple[int, dict[str, Any]], ...] = (
    (1600, {}),
    (1600, {"clip_frames": 8, "epochs": 5, "learning_rate": 1e-3}),
    (
        1200,
        {
            "height": demo.MODEL_SIZE[0],
            "width_pixels": demo.MODEL_SIZE[1],
            "clip_frames": 8,
            "epochs": 1,
            "learning_rate": 8e-4,
            "ema_horizon": 300.0,
        },
    ),
)
HELD_OUT = range(100, 112)  # scenes; `svm-ext demo` shows number 3


def train(output: Path, changes: Mapping[str, Any] | None = None) -> dict[str, Path]:
    """Train both detectors, each in a process of its own, and return their files of weights."""
    output = output.resolve()
    before: dict[str, dict[str, Any]] = {name: {} for name in MODELS}
    for number, (length, of_round) in enumerate(ROUNDS):
        clips = output / f"clips-{number}"
        size = config_from("demo").with_settings(of_round).size
        render(demo.training_scenes(number, length), clips, size=size, workers=2, told=_tell_drawing)
        started = {
            output / f"{name}-{number}": {**of_round, **of_model, **before[name], **(changes or {}), "data": clips}
            for name, (_, of_model) in MODELS.items()
        }
        _train_together(started)
        before = {name: {"weights": output / f"{name}-{number}" / "model.safetensors"} for name in MODELS}
    return {name: ship(before[name]["weights"], output / f"{name}.safetensors") for name in MODELS}


def _train_together(folders: dict[Path, dict[str, Any]]) -> None:
    """Train in all folders at once, with the settings of each; those that are finished stay as they are."""
    left = {folder: settings for folder, settings in folders.items() if not (folder / "model.safetensors").exists()}
    processes = {folder: _started(folder, settings) for folder, settings in left.items()}
    try:
        failed = [folder for folder, process in processes.items() if process.wait()]
    finally:
        for process in processes.values():
            process.terminate()
    if failed:
        raise ValueError(f"train: {failed[0].name} ended before its time; see {failed[0]}.log")


def _started(folder: Path, settings: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    """Begin a training, or go on with it."""
    command = [sys.executable, "-m", "svm_ext.cli.main", "train", "mot", "--config", "demo", "--threads", "1"]
    command += ["--output", str(folder), *(["--resume"] if folder.exists() else [])]
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    print(f"training {folder.name}: follow it in {folder}.log", flush=True)
    # Started beside its results: in the folder of the sources Python would find those, and not what is installed.
    where = {"cwd": folder.parent, "env": {**os.environ, "OMP_NUM_THREADS": "1"}}
    with Path(f"{folder}.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, **where)


def ship(trained: Path, path: Path) -> Path:
    """Write weights in half precision: the same model in half the bytes."""
    size = sorted(demo.MODEL_SIZE, reverse=True)
    save_model(load_model(trained, picture_size=size).half(), path)
    return path


def score(weights: Path, memory: dict[str, int] | None = None, frames: int = 200) -> SceneScores:
    """Score a detector on scenes that no training has seen."""
    trial = demo_trial(weights, memory)
    for number in HELD_OUT:
        trial.begin()
        for frame in demo.demo_scene(number).frames(0, frames):
            trial.step(frame)
    return trial.scores()


def _tell_drawing(done: int) -> None:
    if done % 200 == 0:
        print(f"{done} clips drawn", flush=True)


def _tell(name: str, scores: SceneScores) -> None:
    told = "  ".join(f"{key} {scores.tracks[key]:.3f}" for key in ("MOTA", "HOTA", "IDF1"))
    print(f"{name:20} {told}  AP50 {scores.ap50:.3f}  half hidden or blurred {scores.ap50_hard:.3f}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, score, and install where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--output", type=Path, metavar="DIR", help="folder for clips and trainings")
    wanted.add_argument("--score", action="store_true", help="only score the weights in the package")
    parser.add_argument("--install", action="store_true", help="put the weights into the package")
    args = parser.parse_args(arguments)
    if args.score and args.install:
        parser.error("--install: expected --output with it, got --score, which trains nothing")
    trained = {} if args.score else {MODELS[name][0]: path for name, path in train(args.output).items()}
    for name, (shipped, memory) in demo.CONTENDERS.items():
        _tell(name, score(trained.get(shipped, shipped), memory))
    if args.install:
        for shipped, path in trained.items():
            shipped.parent.mkdir(exist_ok=True)
            shipped.write_bytes(path.read_bytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
