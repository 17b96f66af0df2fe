"""What several commands ask for: weights, a device, settings."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


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
