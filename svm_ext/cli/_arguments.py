"""What several commands ask for: weights, a device, settings."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add what is watched."""
    parser.add_argument(
        "source",
        nargs="+",
        metavar="SOURCE",
        help="video, folder of pictures, 'pattern*.png', camera number or address",
    )


def add_model(parser: argparse.ArgumentParser, kind: str, usual: str, settings: str) -> argparse._ArgumentGroup:
    """Add which model of a kind watches, and return the group; `settings` says whose `--set` changes."""
    model = parser.add_argument_group("model")
    model.add_argument("--weights", metavar="FILE", help=f"the {kind}'s weights; ours tell which model they are of")
    model.add_argument("--model", metavar="NAME", help=f"for weights that do not tell it ({usual})")
    model.add_argument(
        "--random-weights", action="store_true", help="go without weights, to see the speed: finds nothing"
    )
    model.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help=f"change {settings} settings")
    return model


def add_where(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add where a model runs, and return the group."""
    where = parser.add_argument_group("where it runs")
    where.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:1 (default: the GPU if there is one)")
    where.add_argument("--backend", metavar="NAME", help="auto, cpu, cuda, triton or reference (default: auto)")
    return where


def add_live(parser: argparse.ArgumentParser) -> None:
    """Add what becomes of frames that a live source gives while the model is busy."""
    parser.add_argument_group("live sources").add_argument(
        "--live",
        choices=("latest", "all"),
        default="latest",
        help="a camera that is faster than the model loses frames (default), or waits; files never lose any",
    )


def require_weights(args: argparse.Namespace) -> None:
    """Refuse to go without weights unless that is asked for."""
    if args.weights and args.random_weights:
        raise ValueError("--random-weights: expected no --weights beside it, got both; leave one out")
    if not args.weights and not args.random_weights:
        raise ValueError(
            "--weights: expected a file, got none, and a model with random weights finds nothing useful;"
            " add --weights FILE, or --random-weights to try the speed"
        )
    if args.weights and not Path(args.weights).is_file():
        raise FileNotFoundError(f"--weights: expected a file of weights, got none at {args.weights}; check the name")


def require_room(args: argparse.Namespace, paths: Iterable[Path]) -> None:
    """Refuse to write to a folder that is none, or over files that are there unless that is asked for."""
    folder: Path = args.output
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not above.is_dir():
        raise ValueError(f"--output: expected a folder, got {folder}, which is a file; choose another")
    for path in paths:
        if path.exists() and not args.overwrite:
            raise ValueError(f"--output: {path} is there already; add --overwrite, or choose another folder")


def device_of(args: argparse.Namespace) -> torch.device:
    """Return the device that was asked for, or the GPU if there is one."""
    import torch

    from ..stream.models import default_device

    device = torch.device(args.device) if args.device else default_device()
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device: expected a device that is there, got {device}; torch finds no GPU")
    return device


def tell_model(args: argparse.Namespace, model: nn.Module) -> None:
    """Say which model runs where."""
    from ..backend import backend_for

    parameters = sum(parameter.numel() for parameter in model.parameters())
    weights = args.weights or "RANDOM: it finds nothing useful, but is as fast as a trained one"
    print(
        f"model    {args.model or type(model).__name__}, {parameters / 1e6:.1f} million parameters, weights {weights}"
    )
    device = next(model.parameters()).device
    print(f"runs on  {device}, back end {backend_for(device)}")


def setting(text: str, example: str) -> tuple[str, Any]:
    """Read FIELD=VALUE, the value as YAML."""
    import yaml

    name, found, value = text.partition("=")
    if not found or not name:
        raise ValueError(f"--set: expected FIELD=VALUE, got {text!r}; write for example {example}")
    return name.strip().replace("-", "_"), yaml.safe_load(value)
