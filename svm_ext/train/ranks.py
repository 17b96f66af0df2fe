"""The processes of one training: who one is, where one computes, and how they meet and part."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch import distributed as dist


@dataclass(frozen=True)
class Ranks:
    """This process among `count`; `torchrun` tells it in environment variables."""

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            dist.barrier()

    def mean(self, figures: dict[str, Tensor]) -> dict[str, float]:
        """Average figures over all processes, which must all ask for them."""
        values = torch.stack(list(figures.values())).double()
        if self.count > 1:
            dist.all_reduce(values)
        return dict(zip(figures, (values / self.count).tolist(), strict=True))

    def wrap(self, model: nn.Module) -> nn.Module:
        """Let gradients be averaged over the processes."""
        if self.count == 1:
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        # Running statistics are the same everywhere already: they come from all processes' frames.
        return nn.parallel.DistributedDataParallel(model, device_ids=ids, broadcast_buffers=False)


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the other processes that torchrun started, if it did, and leave them at the end."""
    rank, count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    place = torch.device(device)
    if place.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(f"device: expected one that is there, got {device} without a GPU; use cpu")
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", place.index or 0)))
        torch.cuda.set_device(place)
    if count == 1:
        yield Ranks(0, 1, place)
        return
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield Ranks(rank, count, place)
    finally:
        dist.destroy_process_group()
