"""`svm-ext recognize`: tells what happens in videos, cameras and addresses, while it happens."""

from __future__ import annotations

import argparse
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._arguments import (
    add_live,
    add_model,
    add_source,
    add_where,
    device_of,
    require_room,
    require_weights,
    setting,
    tell_model,
)
from ._signals import Interrupts

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from ..stream.recognize import ActionResult, Recognition

EXAMPLES = """\
examples:
  svm-ext recognize wrestling.mp4 --weights actions.safetensors --classes kinetics400.txt
  svm-ext recognize 0 --weights W --stride 2 --top 3      the first camera, until Ctrl-C
  svm-ext recognize rtsp://10.0.0.7/hall rtsp://10.0.0.8/gym --weights W --live all --output watched
"""
# As in svm_ext.stream.recognize; written here, because --help must not wait for torch.
MODEL, STRIDE = "svit_base_action", 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.epilog = EXAMPLES
    add_source(parser)
    model = add_model(parser, "classifier", f"such as {MODEL}", "the model's")
    model.add_argument("--classes", type=Path, metavar="FILE", help="the names of the classes, a line each")
    model.add_argument(
        "--stride", type=int, default=STRIDE, metavar="N", help=f"show the model every N-th frame (default: {STRIDE})"
    )
    add_where(parser)
    add_live(parser)
    out = parser.add_argument_group("results")
    out.add_argument("--top", type=int, default=5, metavar="N", help="how many actions to tell (default: 5)")
    out.add_argument("--output", type=Path, default=Path("actions"), metavar="DIR", help="folder (default: actions)")
    out.add_argument("--overwrite", action="store_true", help="replace results that are there")


def run(args: argparse.Namespace) -> int:
    """Recognise until the sources end or Ctrl-C, and say what was seen."""
    from ..backend import use_backend
    from ..stream.recognize import ActionSession, Recognition
    from ..stream.watch import close_all, open_sources

    if args.top < 1:
        raise ValueError(f"--top: expected at least 1, got {args.top}; 1 tells the best alone")
    require_weights(args)
    settings = dict(setting(text, "clip_frames=8") for text in args.set)
    with contextlib.ExitStack() as stack:
        stack.enter_context(use_backend(args.backend) if args.backend else contextlib.nullcontext())
        sources = open_sources(args.source)
        unread = stack.enter_context(contextlib.ExitStack())
        unread.callback(close_all, list(sources.values()))
        outputs = {name: _output_of(name, args) for name in sources}
        model = _model(args, settings)
        names = _names(args.classes, model.config.num_classes)
        session = ActionSession(model, stride=args.stride)
        recognition = stack.enter_context(Recognition(sources, session, args.live))
        unread.pop_all()  # from here on each source belongs to the thread that reads it
        for source in sources.values():
            print(f"source   {source}")
        tell_model(args, model)
        print(f"writes   {args.output}", flush=True)
        _follow(recognition, outputs, names, args)
    return 0


def _output_of(name: str, args: argparse.Namespace) -> Path:
    """Return the file of a stream; one that is there and may not be replaced is an error."""
    path = args.output / f"{name}.jsonl"
    require_room(args, [path])
    return path


def _model(args: argparse.Namespace, settings: dict[str, Any]) -> nn.Module:
    """Build the classifier on its device."""
    from ..models.classifier import Classifier
    from ..stream.models import find_model

    device = device_of(args)
    named = args.model or args.weights or MODEL
    model, _ = find_model(named, args.weights if args.model else None, Classifier, **settings)
    return model.to(device).eval()


def _names(path: Path | None, classes: int) -> list[str]:
    """Return what the classes are called; without a file they have numbers."""
    if path is None:
        return [f"class {number}" for number in range(classes)]
    names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if len(names) != classes:
        raise ValueError(
            f"--classes: expected {classes} names, got {len(names)} in {path}; name them in the model's order"
        )
    return names


@dataclass
class _Sums:
    """What was said of one stream, added up."""

    answers: int = 0
    scores: Any = 0.0  # float64 [classes]

    def add(self, result: ActionResult) -> None:
        """Take in an answer."""
        self.answers += 1
        self.scores = self.scores + result.scores.astype("float64")

    @property
    def mean(self) -> np.ndarray:
        """The scores of the whole video [classes]."""
        return self.scores / self.answers


def _follow(recognition: Recognition, outputs: dict[str, Path], names: list[str], args: argparse.Namespace) -> None:
    """Recognise and write, and sum up however it ends."""
    from ..stream.writer import JsonLinesWriter
    from ._progress import FrameProgress

    lengths = [source.length for source in recognition.sources.values()]
    seen = None if None in lengths else sum(-(-length // args.stride) for length in lengths)
    progress = FrameProgress(seen)
    sums = {name: _Sums() for name in outputs}
    state = "interrupted"
    try:
        with Interrupts() as interrupts, contextlib.ExitStack() as stack:
            files = {name: stack.enter_context(JsonLinesWriter(path)) for name, path in outputs.items()}
            for result in recognition:
                with interrupts.held():
                    best = result.best(args.top)
                    args.output.mkdir(parents=True, exist_ok=True)
                    files[result.stream].write_line(_as_line(result, best, names))
                    sums[result.stream].add(result)
                    progress.step(f"{result.stream}: {names[best[0][0]]} {best[0][1]:.2f}")
        state = "done"
    except Exception:
        state = "failed"
        raise
    finally:
        progress.clear()
        print(
            f"{state}: {progress.done} answers in {progress.seconds:.1f} s, {progress.mean_rate:.1f} a second,"
            f" {recognition.dropped} frames dropped"
        )
        _sum_up(recognition, outputs, names, sums, args.top)


def _as_line(result: ActionResult, best: list[tuple[int, float]], names: list[str]) -> dict[str, Any]:
    actions = [{"label": label, "name": names[label], "score": round(score, 4)} for label, score in best]
    return {"frame": result.index, "time": round(result.time, 6), "actions": actions}


def _sum_up(
    recognition: Recognition, outputs: dict[str, Path], names: list[str], sums: dict[str, _Sums], top: int
) -> None:
    """Say what each video showed as a whole: the mean of all its answers."""
    from ..stream.recognize import best_of

    for name, found in sums.items():
        if found.answers:
            print(f"{name}, the mean of {found.answers} answers:")
        for label, score in best_of(found.mean, top) if found.answers else []:
            print(f"  {score:.3f}  {names[label]}")
    for problem in recognition.problems:
        print(f"problem: {problem}")
    for path in outputs.values():
        if path.exists():
            print(f"wrote {path}")
