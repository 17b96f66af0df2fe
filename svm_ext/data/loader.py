"""Batches of clips in an order that can be left and taken up again: `Order`, `Concat`, `collate`.

    order = Order(len(clips), batch=4, epochs=10, seed=0)
    loader = DataLoader(clips, batch_sampler=order, collate_fn=collate, num_workers=2, persistent_workers=True)
    for frames, targets in loader:  # uint8 [B, T, 3, H, W], targets[b][t]
        order.position += 1  # to be saved with the model; a new Order with this position goes on from here

A key of a clip is its epoch and its index, so that workers, which hold a copy of the data set, need not be told when
an epoch begins: what is drawn anew in every epoch is drawn from the key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from .clips import Clips, Key, split_key
from .videos import Clip, Target


class Order(Sampler[list[tuple[int, int]]]):
    """The batches of one process, as lists of keys; every epoch is a permutation of its own.

    The batches of all processes together are a row of the permutation, whatever their number: two processes with two
    clips each see what one sees with four. Clips that do not fill a row wait for another epoch. `position` is the
    number of batches that are done with; setting it moves the beginning of the next iteration.
    """

    def __init__(self, length: int, batch: int, epochs: int, seed: int, rank: int = 0, ranks: int = 1) -> None:
        for name, count in {"length": length, "batch": batch, "epochs": epochs, "ranks": ranks}.items():
            if count < 1:
                raise ValueError(f"{name}: expected a whole number of at least 1, got {count}")
        if not 0 <= rank < ranks:
            raise ValueError(f"rank: expected 0 to {ranks - 1}, got {rank}")
        if batch * ranks > length:
            raise ValueError(f"batch: expected at most {length} clips in all processes, got {batch * ranks}; lower it")
        self.length, self.batch, self.epochs, self.seed = length, batch, epochs, seed
        self.rank, self.ranks, self.position = rank, ranks, 0

    @property
    def batches_an_epoch(self) -> int:
        """How many batches this process has in an epoch."""
        return self.length // (self.batch * self.ranks)

    def __len__(self) -> int:
        return max(self.epochs * self.batches_an_epoch - self.position, 0)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        first, done = divmod(self.position, self.batches_an_epoch)
        for epoch in range(first, self.epochs):
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            order = torch.randperm(self.length, generator=generator).tolist()
            for row in range(done if epoch == first else 0, self.batches_an_epoch):
                start = (row * self.ranks + self.rank) * self.batch
                yield [(epoch, index) for index in order[start : start + self.batch]]


class Concat:
    """Several data sets of clips, one after the other."""

    def __init__(self, parts: Sequence[Clips]) -> None:
        if not parts:
            raise ValueError("parts: expected at least one data set, got none")
        self.parts = tuple(parts)
        self._ends = np.cumsum([len(part) for part in self.parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, key: Key) -> Clip:
        epoch, index = split_key(key, len(self))
        number = int(np.searchsorted(self._ends, index, side="right"))
        before = int(self._ends[number - 1]) if number else 0
        return self.parts[number][epoch, index - before]


def collate(clips: Sequence[Clip]) -> tuple[Tensor, list[list[Target]]]:
    """Put clips of one size into a batch: frames uint8 [B, T, 3, H, W], and targets[b][t]."""
    sizes = {tuple(frames.shape) for frames, _ in clips}
    if len(sizes) != 1:
        told = ", ".join(str(list(size)) for size in sorted(sizes))
        raise ValueError(f"clips: expected one size, got {told}; augment or letterbox them to a size")
    return torch.stack([frames for frames, _ in clips]), [targets for _, targets in clips]
