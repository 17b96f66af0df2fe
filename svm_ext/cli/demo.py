"""`svm-ext demo`: tracks people through a generated street with the detector that comes with the package."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from ..data.scenes import Scene
    from ..evaluate.scenes import SceneScores, SceneTrial

EXAMPLES = """\
examples:
  svm-ext demo                        writes demo/demo.mp4, .txt and .json
  svm-ext demo --seed 5 --output five another street, with other people
"""
_COLUMNS = ("HOTA", "MOTA", "IDF1", "IDSW", "FP", "FN", "AP50", "AP50 hard", "fps", "memory")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.epilog = EXAMPLES
    parser.add_argument("--output", type=Path, default=Path("demo"), metavar="DIR", help="folder (default: demo)")
    parser.add_argument("--seed", type=int, default=3, metavar="N", help="which scene (default: 3, a lively one)")
    parser.add_argument("--frames", type=int, default=250, metavar="N", help="how long (default: 250, 10 seconds)")


def run(args: argparse.Namespace) -> int:
    """Track, write the video, and tell how well it went."""
    from ..data import demo
    from ..data.scenes import FPS

    if args.frames < 1:
        raise ValueError(f"--frames: expected at least 1, got {args.frames}; {FPS:g} are a second")
    if args.output.exists() and not args.output.is_dir():
        raise ValueError(f"--output: expected a folder, got {args.output}, which is a file; choose another")
    from ..evaluate.scenes import demo_trial

    scene = demo.demo_scene(args.seed)
    trials = {name: demo_trial(*contender) for name, contender in demo.CONTENDERS.items()}
    _tell_start(scene, trials, args)
    with _one_thread():
        people = _follow(scene, trials, args)
    scores = {name: trial.scores() for name, trial in trials.items()}
    _tell_scores(scores, people, demo.VISIBLE)
    _write_scores(scores, args)
    return 0


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one core: a model this small would wait for its other threads longer than it computes."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _tell_start(scene: Scene, trials: dict[str, SceneTrial], args: argparse.Namespace) -> None:
    """Say what is about to happen."""
    from ..backend import backend_for
    from ..data.scenes import FPS

    height, width = scene.config.size
    print(f"scene    {args.frames} frames of {width}x{height}, {args.frames / FPS:.1f} s of a generated street")
    print(f"model    {_described(_shown(trials).model)}, trained on other scenes by svm_ext.train.demo")
    print(f"runs on  cpu, back end {backend_for('cpu')}")
    print(f"writes   {args.output}", flush=True)


def _shown(of_contenders: dict[str, Any]) -> Any:
    """Return what belongs to the first contender, whose tracks are drawn."""
    return next(iter(of_contenders.values()))


def _described(model: nn.Module) -> str:
    backbone = model.config.backbone
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return f"S-ViT, {backbone.layers} blocks, {parameters / 1e6:.2f} million parameters"


def _follow(scene: Scene, trials: dict[str, SceneTrial], args: argparse.Namespace) -> int:
    """Show every frame to every model as it comes, and return how many people came by."""
    from ..data.scenes import FPS
    from ..stream.draw import Annotator
    from ..stream.writer import MotWriter, VideoWriter
    from ._progress import FrameProgress

    args.output.mkdir(parents=True, exist_ok=True)
    annotator, people, progress = Annotator(), set(), FrameProgress(args.frames)
    for trial in trials.values():
        trial.begin()
    with contextlib.ExitStack() as stack:
        video = stack.enter_context(VideoWriter(args.output / "demo.mp4", FPS))
        text = stack.enter_context(MotWriter(args.output / "demo.txt"))
        stack.callback(progress.clear)
        for frame in scene.frames(0, args.frames):
            results = {name: trial.step(frame) for name, trial in trials.items()}
            shown = _shown(results)
            video.write(annotator.draw(shown, 1000 / shown.timing.total), shown.time)
            text.write(shown)
            people.update(frame.people.tolist())
            progress.step(f"{len(shown.tracks)} tracks")
    return len(people)


def _row(name: str, scores: SceneScores) -> str:
    """Return one line of the table."""
    cells = (
        *(f"{scores.tracks[column]:.3f}" for column in _COLUMNS[:3]),
        *(f"{scores.tracks[column]}" for column in _COLUMNS[3:6]),
        f"{scores.ap50:.3f}",
        f"{scores.ap50_hard:.3f}",
        f"{scores.frames_per_second:.1f}",
        f"{scores.memory_bytes / 1e6:.1f} MB",
    )
    return f"{name:20}" + "".join(f"{cell:>{_width(name)}}" for name, cell in zip(_COLUMNS, cells, strict=True))


def _width(column: str) -> int:
    return max(len(column), 7) + 2


def _tell_scores(scores: dict[str, SceneScores], people: int, visible: float) -> None:
    """Print the table, and what its columns mean."""
    print(f"\n{'':20}" + "".join(f"{column:>{_width(column)}}" for column in _COLUMNS))
    for name, found in scores.items():
        print(_row(name, found))
    shown = _shown(scores)
    print(f"\n{people} people, {shown.tracks['GT_Dets']} boxes.")
    print(f"Of whom less than {visible:.0%} is to be seen need not be found.")
    print(f"AP50 hard: average precision on the {shown.hard} boxes of people half hidden or blurred.")


def _write_scores(scores: dict[str, SceneScores], args: argparse.Namespace) -> None:
    import json

    from .._files import whole_file

    with whole_file(args.output / "demo.json") as part:
        part.write_text(json.dumps({name: asdict(found) for name, found in scores.items()}, indent=2) + "\n")
    for suffix in ("mp4", "txt", "json"):
        print(f"wrote {args.output / 'demo'}.{suffix}")
