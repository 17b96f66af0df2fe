"""`svm-ext track`: follows what a detector finds in videos, cameras and addresses, and writes what it saw."""

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
    from torch import nn

    from ..stream.results import FrameResult
    from ..stream.sources import Source
    from ..stream.track import Tracking
    from ._progress import FrameProgress

EXAMPLES = """\
examples:
  svm-ext track street.mp4 --weights detector.safetensors       writes tracks/street.mp4, .txt and .jsonl
  svm-ext track 0 --weights detector.safetensors                the first camera, until Ctrl-C
  svm-ext track rtsp://10.0.0.7/door rtsp://10.0.0.8/yard --weights W --live all --output yard
  svm-ext track MOT17-04/img1 --weights released.pth --set high=0.6 --set memory_frames=16
"""
# As in svm_ext.stream.prepare and svm_ext.stream.track; written here, because --help must not wait for torch.
MODEL = "svit_base_mot"
_MEMORY_TYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.epilog = EXAMPLES
    add_source(parser)
    model = add_model(parser, "detector", f"default: {MODEL}", "the model's or the tracker's")
    model.add_argument(
        "--size",
        type=_sides,
        metavar="LxS",
        help="scale pictures to these sides, like 1440x800 (default: as the model was trained)",
    )
    where = add_where(parser)
    where.add_argument("--memory-dtype", choices=tuple(_MEMORY_TYPES), help="type of the memory (default: the model's)")
    add_live(parser)
    out = parser.add_argument_group("results")
    out.add_argument("--output", type=Path, default=Path("tracks"), metavar="DIR", help="folder (default: tracks)")
    out.add_argument("--overwrite", action="store_true", help="replace results that are there")
    out.add_argument("--no-video", action="store_true", help="write the text files only")
    out.add_argument(
        "--show-memory", action="store_true", help="draw the frames that the memory holds under each video"
    )


def run(args: argparse.Namespace) -> int:
    """Track until the sources end or Ctrl-C, and say what was written."""
    from ..backend import use_backend
    from ..stream.session import StreamSession
    from ..stream.track import Tracking, close_all, open_sources, split_settings

    settings = dict(setting(text, "memory_frames=16") for text in args.set)
    rules, coast, overrides = split_settings(settings)
    require_weights(args)
    with contextlib.ExitStack() as stack:
        stack.enter_context(use_backend(args.backend) if args.backend else contextlib.nullcontext())
        sources = open_sources(args.source)
        unread = stack.enter_context(contextlib.ExitStack())
        unread.callback(close_all, list(sources.values()))
        outputs = {name: Outputs.of(name, args) for name in sources}
        model = _model(args, overrides)
        session = StreamSession(model, size=args.size, rules=rules, memory=_memory(args), coast=coast)
        tracking = stack.enter_context(Tracking(sources, session, args.live))
        unread.pop_all()  # from here on each source belongs to the thread that reads it
        _tell_start(args, sources, model)
        _follow(tracking, outputs, args)
    return 0


@dataclass(frozen=True)
class Outputs:
    """Where the results of one stream go."""

    video: Path | None
    text: Path
    lines: Path

    @classmethod
    def of(cls, name: str, args: argparse.Namespace) -> Outputs:
        """Return the files of a stream; one that is there and may not be replaced is an error."""
        folder: Path = args.output
        made = cls(None if args.no_video else folder / f"{name}.mp4", folder / f"{name}.txt", folder / f"{name}.jsonl")
        require_room(args, made.paths())
        return made

    def paths(self) -> list[Path]:
        """Return the files."""
        return [path for path in (self.video, self.text, self.lines) if path is not None]


def _model(args: argparse.Namespace, overrides: dict[str, Any]) -> nn.Module:
    """Build the detector on its device."""
    from ..stream.track import find_model

    device = device_of(args)
    named = args.model or args.weights or MODEL
    model, _ = find_model(named, args.weights if args.model else None, **overrides)
    return model.to(device).eval()


def _memory(args: argparse.Namespace) -> dict[str, Any]:
    import torch

    return {"dtype": getattr(torch, _MEMORY_TYPES[args.memory_dtype])} if args.memory_dtype else {}


def _tell_start(args: argparse.Namespace, sources: dict[str, Source], model: nn.Module) -> None:
    """Say what was found, before the work."""
    for source in sources.values():
        print(f"source   {source}")
    tell_model(args, model)
    print(f"writes   {args.output}", flush=True)


def _follow(tracking: Tracking, outputs: dict[str, Outputs], args: argparse.Namespace) -> None:
    """Track and write, and sum up however it ends."""
    from ._progress import FrameProgress

    lengths = [source.length for source in tracking.sources.values()]
    progress = FrameProgress(None if None in lengths else sum(lengths))
    tally = Tally()
    state = "interrupted"
    try:
        with Interrupts() as interrupts, contextlib.ExitStack() as stack:
            sinks = {name: stack.enter_context(Sink(it, tracking, name, args)) for name, it in outputs.items()}
            for result in tracking:
                with interrupts.held():
                    tally.add(result, tracking.session.nbytes)
                    sinks[result.stream].write(result, progress.rate)
                    progress.step(_line_of(tracking, tally, result, args))
        state = "done"
    except Exception:
        state = "failed"
        raise
    finally:
        progress.clear()
        _sum_up(state, tracking, outputs, progress, tally)


class Tally:
    """Counts what was found, in numbers that stay small."""

    def __init__(self) -> None:
        self.boxes = self.nbytes = 0
        self.alive: dict[Any, int] = {}  # stream -> tracks in its newest frame
        self.most: dict[Any, int] = {}  # stream -> the highest id

    def add(self, result: FrameResult, nbytes: int) -> None:
        """Count a frame, and what the memory of all streams occupies."""
        self.nbytes = max(self.nbytes, nbytes)
        self.boxes += len(result.tracks)
        self.alive[result.stream] = len(result.tracks)
        ids = result.tracks.ids
        self.most[result.stream] = max([self.most.get(result.stream, 0), *(int(number) for number in ids)])


class Sink:
    """The files of one stream, which are whole when it is closed."""

    def __init__(self, outputs: Outputs, tracking: Tracking, name: str, args: argparse.Namespace) -> None:
        from ..stream.writer import JsonLinesWriter, MotWriter, VideoWriter

        self._folder = args.output
        self._show_memory, self._session, self._name = args.show_memory, tracking.session, name
        self._text, self._lines = MotWriter(outputs.text), JsonLinesWriter(outputs.lines)
        self._video = VideoWriter(outputs.video, tracking.sources[name].fps) if outputs.video else None
        self._annotator: Any = None

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *error: Any) -> None:
        with contextlib.ExitStack() as stack:  # closes the others too where one fails
            for writer in (self._text, self._lines, self._video):
                stack.callback(writer.close) if writer else None

    def write(self, result: FrameResult, fps: float | None) -> None:
        """Write the tracks of a frame, and the frame with them."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._text.write(result)
        self._lines.write(result)
        if self._video:
            self._video.write(self._drawn(result, fps), result.time)

    def _drawn(self, result: FrameResult, fps: float | None) -> Any:
        from ..stream.draw import Annotator

        if self._annotator is None:
            frames = self._session.remembered(self._name)[1] if self._show_memory else 0
            self._annotator = Annotator(memory=frames)
        return self._annotator.draw(result, fps)


def _line_of(tracking: Tracking, tally: Tally, result: FrameResult, args: argparse.Namespace) -> str:
    alive = sum(tally.alive.values())
    line = f"{tracking.dropped} dropped  {alive} track{'s' if alive != 1 else ''}"
    return f"{line}  memory {result.remembered} frames" if args.show_memory else line


def _sum_up(state: str, tracking: Tracking, outputs: dict[str, Outputs], progress: FrameProgress, tally: Tally) -> None:
    """Say what came of it: the last lines of the command."""
    tracks = sum(tally.most.values())
    print(
        f"{state}: {progress.done} frames in {progress.seconds:.1f} s, {progress.mean_rate:.1f} fps,"
        f" {tracking.dropped} dropped; {tracks} tracks, {tally.boxes} boxes"
    )
    streams = f"{len(outputs)} stream{'s' if len(outputs) != 1 else ''}"
    print(f"memory of {streams}: {tally.nbytes / 1e6:.1f} MB, however long")
    for problem in tracking.problems:
        print(f"problem: {problem}")
    for path in (path for it in outputs.values() for path in it.paths() if path.exists()):
        print(f"wrote {path}")


def _sides(text: str) -> tuple[int, int]:
    try:
        long, short = (int(side) for side in text.lower().split("x"))
    except ValueError:
        long = short = 0
    if min(long, short) < 32:
        raise argparse.ArgumentTypeError(f"expected two sides of at least 32 pixels, like 1440x800, got {text!r}")
    return max(long, short), min(long, short)
