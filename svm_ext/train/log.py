"""What a training tells while it runs, and leaves behind: lines for people, JSON lines for programs, a plot."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, TextIO

NAMES = ("loss", "loss_cls", "loss_bbox", "loss_obj", "loss_l1")  # drawn, in this order


class Log:
    """Appends one JSON line a report to `metrics.jsonl` and tells people the same in one line.

    A resumed training cuts what the killed one had told after its last checkpoint. Only rank 0 has a folder; the
    others keep silent.
    """

    def __init__(self, folder: Path | None, total: int, done: int = 0, stream: TextIO | None = None) -> None:
        self.path = folder / "metrics.jsonl" if folder else None
        self._total, self._begun_at = total, done
        self._stream = stream or sys.stderr
        self._start = time.monotonic()
        self._board = None
        if self.path:
            kept = [line for line in read(self.path) if line["iteration"] < done]
            self.path.write_text("".join(json.dumps(line) + "\n" for line in kept))

    def with_tensorboard(self) -> Log:
        """Also write for TensorBoard, where that package is installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ImportError("tensorboard: expected the package, found none; type: pip install tensorboard") from None
        if self.path:
            self._board = SummaryWriter(self.path.parent / "tensorboard")
        return self

    def report(self, iteration: int, figures: dict[str, float]) -> None:
        """Write the figures of one iteration, which is counted from 0."""
        if not self.path:
            return
        line = {"iteration": iteration, **{name: round(value, 6) for name, value in figures.items()}}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        if self._board:
            for name, value in figures.items():
                self._board.add_scalar(name, value, iteration)
        self._stream.write(self._line(iteration, figures) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Let go of what is open."""
        if self._board:
            self._board.close()

    def _line(self, iteration: int, figures: dict[str, float]) -> str:
        done, gone = iteration + 1, time.monotonic() - self._start
        left = gone / max(done - self._begun_at, 1) * (self._total - done)
        told = "  ".join(f"{name} {value:.3g}" for name, value in figures.items() if name != "seconds")
        return f"{done:>6}/{self._total}  {done / self._total:4.0%}  {told}  {clock(left)} left"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds as people write them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file; a last one that was cut by a kill is left out."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def draw(path: Path, output: Path) -> None:
    """Draw losses and learning rate of a metrics file over the iterations."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = read(path)
    where = [line["iteration"] for line in lines]
    figure, (losses, rate) = pyplot.subplots(2, 1, figsize=(8, 6), sharex=True, height_ratios=[3, 1])
    for name in NAMES:
        if any(name in line for line in lines):
            losses.plot(where, [line.get(name) for line in lines], label=name, lw=2.0 if name == "loss" else 1.0)
    losses.set_yscale("log")
    losses.set_ylabel("loss")
    losses.legend(frameon=False)
    rate.plot(where, [line.get("lr") for line in lines], color="black", lw=1.0)
    rate.set_ylabel("learning rate")
    rate.set_xlabel("iteration")
    for axes in (losses, rate):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(output, dpi=120)
    pyplot.close(figure)
