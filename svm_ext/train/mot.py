"""Train a detector that remembers.

    svm-ext train mot --config scenes --output runs/scenes
    torchrun --nproc-per-node 8 -m svm_ext.train.mot --config mot17 --set data=MOT17 --output runs/mot17

Read `train` from top to bottom: clips in, one optimizer step after each, checkpoints, the averaged weights out.
The step mode "clip" sends all frames through the model at once; "frame" is the reference's: an optimizer step
after every frame, with a memory between them. Without the steps in between both have the same gradients.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..memory import StreamMemory
from ..models.detector import Detector
from ..models.weights import load_weights, save_model
from . import checkpoint, data
from .config import TrainConfig
from .ema import WeightAverage
from .log import Log, draw
from .optimizer import Schedule, parameter_groups
from .ranks import Ranks, joined

Targets = list[list[dict[str, Tensor]]]  # [B][T]
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def train(config: TrainConfig, output: str | Path, *, resume: bool = False) -> Path:
    """Train, and return the file with the averaged weights.

    The folder `output` takes config.yaml, metrics.jsonl, last.pt (to resume from), curves.png and
    model.safetensors. A training that was killed and resumed gives the numbers of one that was not.
    """
    output = Path(output)
    with joined(config.device) as ranks:
        if ranks.first:
            _prepare_folder(output, config, resume)
        ranks.wait()
        trainer = Trainer(config, ranks)
        if resume and (output / "last.pt").exists():
            trainer.load_state_dict(checkpoint.read(output / "last.pt"))
        log = Log(output if ranks.first else None, trainer.schedule.total, trainer.iteration)
        if config.tensorboard:
            log = log.with_tensorboard()
        saved = trainer.iteration
        for clip, targets in trainer.batches():
            for figures in trainer.steps(clip, targets):
                if trainer.iteration % config.report_every == 0 or trainer.iteration == trainer.schedule.total:
                    log.report(trainer.iteration - 1, figures())
            if trainer.iteration - saved >= config.save_every:
                trainer.save(output / "last.pt")
                saved = trainer.iteration
        trainer.save(output / "last.pt")
        log.close()
        if ranks.first:
            save_model(trainer.average.model, output / "model.safetensors")
            draw(output / "metrics.jsonl", output / "curves.png")
    return output / "model.safetensors"


class Trainer:
    """The model and all that changes with it; `steps` is the heart."""

    def __init__(self, config: TrainConfig, ranks: Ranks) -> None:
        torch.manual_seed(config.seed)
        self.config, self.ranks = config, ranks
        self.model = Detector(config.detector.replace(picture_size=sorted(config.size, reverse=True))).train()
        if config.weights:
            load_weights(self.model, config.weights)
        self.model.to(ranks.device)
        self.losses = ranks.wrap(Losses(self.model))
        self.average = WeightAverage(self.model, horizon=config.ema_horizon)
        groups = parameter_groups(
            self.model, config.learning_rate, config.weight_decay, config.backbone_factor, config.like_reference
        )
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), fused=True)
        self.scaler = torch.amp.GradScaler(ranks.device.type, enabled=config.precision == "fp16")
        self.clips = data.Clips(config, ranks)
        epoch = self.clips.batches_an_epoch * (config.clip_frames if config.step == "frame" else 1)
        self.schedule = Schedule(
            total=config.epochs * epoch,
            warmup=round(config.warmup_epochs * epoch),
            tail=round(config.tail_epochs * epoch),
            floor=config.floor,
        )
        self.iteration = 0  # optimizer steps so far
        self._memory: StreamMemory | None = None

    def batches(self) -> Iterator[tuple[Tensor, Targets]]:
        """Yield the clips that are left, [B, T, 3, H, W] normalised, and their targets."""
        return self.clips.after(self.iteration // self._steps_a_clip)

    def steps(self, clip: Tensor, targets: Targets) -> Iterator[Callable[[], dict[str, float]]]:
        """Take the optimizer steps of one batch of clips; yield after each a way to ask for its figures."""
        if self.config.step == "clip":
            yield self._step(clip, targets, None, clip.shape[1])
            return
        memory = self._cleared_memory(len(clip))
        for t in range(clip.shape[1]):
            yield self._step(clip[:, t], [row[t] for row in targets], memory, 1)

    def _step(
        self, frames: Tensor, targets: Any, memory: StreamMemory | None, length: int
    ) -> Callable[[], dict[str, float]]:
        start = time.perf_counter()
        rate = self.schedule.apply(self.optimizer, self.iteration)
        dtype = _DTYPES[self.config.precision]
        with torch.autocast(self.ranks.device.type, dtype, enabled=dtype != torch.float32):
            losses = {name: loss / length for name, loss in self.losses(frames, targets, memory).items()}
        total = sum(losses.values())
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(total).backward()
        self.scaler.unscale_(self.optimizer)
        if self.config.gradient_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.average.update(self.model)
        self.iteration += 1
        images = len(frames) * length * self.ranks.count

        def figures() -> dict[str, float]:  # waits for the GPU, so only where somebody reads it
            told = self.ranks.mean({"loss": total.detach(), **{name: loss.detach() for name, loss in losses.items()}})
            return {**told, "lr": rate, "images/s": images / (time.perf_counter() - start)}

        return figures

    def _cleared_memory(self, batch: int) -> StreamMemory:
        if self._memory is None or self._memory.streams != batch:
            dtype = _DTYPES[self.config.precision]
            self._memory = self.model.new_memory(batch, self.config.size, dtype=dtype, device=self.ranks.device)
        self._memory.reset()
        return self._memory

    @property
    def _steps_a_clip(self) -> int:
        return self.config.clip_frames if self.config.step == "frame" else 1

    def save(self, path: Path) -> None:
        """Write a checkpoint that a training can go on from."""
        if self.ranks.first:
            checkpoint.write(self.state_dict(), path)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "config": self.config.to_dict(),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "iteration": self.iteration,
            "random": checkpoint.random_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.iteration = state["iteration"]
        checkpoint.set_random_state(state["random"])


class Losses(nn.Module):
    """A detector whose forward gives its losses, as data parallel training wants it."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, frames: Tensor, targets: Any, memory: StreamMemory | None) -> dict[str, Tensor]:
        """Return the losses of frames or of a clip."""
        return self.detector.loss(frames, targets, memory)


def _prepare_folder(output: Path, config: TrainConfig, resume: bool) -> None:
    """Refuse to overwrite another training, or to go on with other settings."""
    written = output / "config.yaml"
    if not written.exists():
        output.mkdir(parents=True, exist_ok=True)
        config.save(written)
        return
    if not resume:
        raise ValueError(f"output: expected a new folder, got {output} with a training in it; use --resume")
    before = TrainConfig.load(written)
    changed = [name for name in config.names() if getattr(before, name) != getattr(config, name)]
    if changed:
        raise ValueError(f"resume: expected the settings in {written}, got another {changed[0]}; leave them")


if __name__ == "__main__":
    from ..cli.main import main

    sys.exit(main(["train", "mot", *sys.argv[1:]]))
