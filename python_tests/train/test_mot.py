"""Training goes down, resumes to the same numbers, and does with two processes what it does with one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from svm_ext.train import log
from svm_ext.train.config import TrainConfig
from svm_ext.train.mot import Trainer, train
from svm_ext.train.ranks import Ranks

HERE = Ranks(0, 1, torch.device("cpu"))
SMALL = dict(
    width=32,
    heads=2,
    layers=4,
    conv_blocks=(1, 3),
    stages=(0, 1, 2, 3),
    neck_channels=16,
    memory_frames=2,
    height=64,
    width_pixels=96,
    clips=8,
    clip_frames=2,
    batch=2,
    epochs=2,
    workers=0,
    report_every=1,
    save_every=3,
)


def small(**changes: object) -> TrainConfig:
    settings = {**SMALL, **changes}
    if settings["epochs"] == 1:
        settings |= {"warmup_epochs": 0.5, "tail_epochs": 0.25}
    return TrainConfig().with_settings(settings)


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in log.read(folder / "metrics.jsonl")]


def test_a_training_leaves_everything_behind(tmp_path: Path) -> None:
    weights = train(small(), tmp_path / "run")
    names = {entry.name for entry in (tmp_path / "run").iterdir()}
    assert names == {"config.yaml", "metrics.jsonl", "last.pt", "curves.png", "model.safetensors"}
    assert TrainConfig.load(tmp_path / "run/config.yaml") == small()
    assert len(losses(tmp_path / "run")) == 8
    assert all(tensor.isfinite().all() for tensor in load_file(weights).values())


def test_the_loss_goes_down(tmp_path: Path) -> None:
    train(small(epochs=30, clips=4, learning_rate=1e-2), tmp_path / "run")
    told = losses(tmp_path / "run")
    assert sum(told[-8:]) < 0.85 * sum(told[:8])


@pytest.mark.parametrize("step", ["clip", "frame"])
def test_a_resumed_training_gives_the_same_numbers(tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after any number of batches; drop_path makes it depend on the random state too."""
    config = small(step=step, drop_path=0.3, save_every=1)
    train(config, tmp_path / "whole")
    whole = load_file(tmp_path / "whole/model.safetensors")
    taken = Trainer.steps

    def killed_after_batches(left: int) -> Callable[..., Iterator[object]]:
        def steps(self, clip, targets):
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            yield from taken(self, clip, targets)

        return steps

    for killed_after in (1, 4, 6):
        folder = tmp_path / f"killed{killed_after}"
        monkeypatch.setattr(Trainer, "steps", killed_after_batches(killed_after))
        with pytest.raises(KeyboardInterrupt):
            train(config, folder)
        monkeypatch.undo()
        torch.manual_seed(99)  # another process has other random numbers
        train(config, folder, resume=True)
        assert losses(folder) == losses(tmp_path / "whole")
        resumed = load_file(folder / "model.safetensors")
        assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_workers_change_nothing(tmp_path: Path) -> None:
    train(small(epochs=1, workers=2), tmp_path / "two")
    train(small(epochs=1, workers=0), tmp_path / "zero")
    assert losses(tmp_path / "two") == losses(tmp_path / "zero")


def test_a_clip_has_the_gradients_of_its_frames() -> None:
    """Both step modes, where nothing changes the weights in between."""
    gradients = {}
    for step in ("clip", "frame"):
        trainer = Trainer(small(step=step, gradient_norm=0.0), HERE)
        clip, targets = next(trainer.batches())
        model = trainer.model
        if step == "clip":
            sum(model.loss(clip, targets).values()).backward()
        else:
            memory = trainer._cleared_memory(len(clip))
            for t in range(clip.shape[1]):
                sum(model.loss(clip[:, t], [row[t] for row in targets], memory).values()).backward()
        gradients[step] = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert gradients["clip"].keys() == gradients["frame"].keys()
    largest = max(float(expected.abs().max()) for expected in gradients["frame"].values())
    for name, expected in gradients["frame"].items():  # some are 0 in truth: a bias in front of a norm
        error = (gradients["clip"][name] - expected).abs().max()
        assert error <= 1e-3 * expected.abs().max() + 1e-6 * largest, name


def test_each_frame_is_a_step_in_frame_mode() -> None:
    trainer = Trainer(small(step="frame"), HERE)
    assert trainer.schedule.total == 16
    clip, targets = next(trainer.batches())
    before = {name: p.clone() for name, p in trainer.model.named_parameters()}
    assert len(list(trainer.steps(clip, targets))) == trainer.iteration == 2
    assert any(not torch.equal(before[name], p) for name, p in trainer.model.named_parameters())


def test_bf16_trains(tmp_path: Path) -> None:
    train(small(precision="bf16", epochs=1, clips=4), tmp_path / "run")
    assert all(value == value for value in losses(tmp_path / "run"))


def test_it_overwrites_no_training_and_resumes_no_other(tmp_path: Path) -> None:
    train(small(epochs=1, clips=2), tmp_path / "run")
    with pytest.raises(ValueError, match=r"output: .*--resume"):
        train(small(epochs=1, clips=2), tmp_path / "run")
    with pytest.raises(ValueError, match="another learning_rate"):
        train(small(epochs=1, clips=2, learning_rate=1.0), tmp_path / "run", resume=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def settings_of(config: dict[str, object]) -> list[str]:
    return [
        part
        for name, value in config.items()
        for part in ("--set", f"{name}={value!r}".replace("(", "[").replace(")", "]"))
    ]


@pytest.mark.slow
def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    """The same global batch in one process, and in two over gloo."""
    one = small(batch=4, clips=8, epochs=2)
    train(one, tmp_path / "one")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    command += ["-m", "svm_ext.train.mot"]
    two = {**SMALL, "batch": 2, "clips": 8, "epochs": 2}
    command += [*settings_of(two), "--output", str(tmp_path / "two")]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-3)
    # Adam turns the rounding of a gradient that is 0 in truth (a bias in front of a norm) into whole steps, so that
    # only the weights as a whole can be compared.
    first, second = (
        torch.cat([tensor.flatten().float() for tensor in load_file(tmp_path / run / "model.safetensors").values()])
        for run in ("one", "two")
    )
    assert (first - second).norm() <= 1e-3 * first.norm()


@pytest.mark.slow
def test_a_killed_process_goes_on(tmp_path: Path) -> None:
    """Kill it without a warning, as the machine would, and resume from the command line."""
    settings = {**SMALL, "epochs": 4, "save_every": 1}
    command = [sys.executable, "-m", "svm_ext.train.mot", *settings_of(settings), "--threads", "1", "--output"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True, env=env, cwd=tmp_path)
    process = subprocess.Popen([*command, str(tmp_path / "killed")], stderr=subprocess.DEVNULL, env=env, cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "killed/last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run(
        [*command, str(tmp_path / "killed"), "--resume"], check=True, capture_output=True, env=env, cwd=tmp_path
    )
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
