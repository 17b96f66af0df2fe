"""The geometry of windows: how a picture's tokens fall into squares, and the orders in which they lie.

A picture of h x w tokens is cut into windows of n x n from its upper left corner; the last row and column of
windows may reach beyond it. Tokens lie in one of three orders:

    grid     [B, h, w, C]    as in the picture
    window   [B, L, C]       real tokens only: first those of whole windows, window by window, then of windows cut
                             at the right, of windows cut at the bottom, and of the corner
    padded   [B*W, N, C]     every window in full, row by row of windows: how a memory keeps them

Between the blocks it is the window order: what treats tokens one by one then computes real ones only, and windows
of one size are one slice, which attention reads without a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import pad


def grid_of(size: Sequence[int], patch: int, name: str) -> tuple[int, int]:
    """Return the rows and columns of tokens of a picture (height, width) in pixels; `name` is whose size it is."""
    if not isinstance(size, Sequence) or len(size) != 2:
        raise ValueError(f"{name}: expected (height, width) in pixels, got {size!r}; give both")
    height, width = size
    if height < patch or width < patch or height % patch or width % patch:
        raise ValueError(
            f"{name}: expected a height and a width that are multiples of {patch}, got {height} x {width};"
            " pad or resize the pictures"
        )
    return height // patch, width // patch


def runs(length: int, side: int) -> list[int]:
    """Return how far along an axis windows are whole, and what is left for the last one."""
    return [run for run in (length - length % side, length % side) if run]


def real_sizes(h: int, w: int, side: int) -> list[tuple[int, int]]:
    """Return the real rows and columns of every window, row by row of windows."""
    heights, widths = ([min(side, x - at) for at in range(0, x, side)] for x in (h, w))
    return [(rows, columns) for rows in heights for columns in widths]


def to_windows(x: Tensor, side: int) -> Tensor:
    """Cut [B, h, w, C] into [B*W, N, C], row by row of windows; what lies beyond the picture is 0."""
    _, h, w, _ = x.shape
    x = pad(x, (0, 0, 0, -w % side, 0, -h % side))
    return rearrange(x, "b (i r) (j s) c -> (b i j) (r s) c", r=side, s=side)


def from_windows(x: Tensor, h: int, w: int, side: int) -> Tensor:
    """Undo `to_windows`: [B*W, N, C] to [B, h, w, C]."""
    x = rearrange(x, "(b i j) (r s) c -> b (i r) (j s) c", i=-(-h // side), j=-(-w // side), r=side, s=side)
    return x[:, :h, :w]


def window_order(grid: Tensor, side: int) -> Tensor:
    """Return what lies on a grid [h, w] in window order, [L]."""
    order = []
    for rows in grid.split(runs(grid.shape[0], side)):
        for part in rows.split(runs(grid.shape[1], side), 1):
            r, s = (min(side, length) for length in part.shape)
            order.append(rearrange(part, "(i r) (j s) -> (i j r s)", r=r, s=s))
    return torch.cat(order)


class Group(NamedTuple):
    """Windows of one real size: one slice of the window order."""

    windows: int
    tokens: int  # of each window, the lead included
    missing: int  # positions of each window beyond the picture


class Windows:
    """The windows of pictures of h x w tokens, and the ways between the three orders.

    In window order `lead` tokens (the class token) may lie before the others; they belong to the only window.
    """

    def __init__(self, h: int, w: int, side: int, device: torch.device, lead: int = 0) -> None:
        self.h, self.w, self.side, self.lead, self.device = h, w, side, lead, device
        self.real = real_sizes(h, w, side)
        self.whole = h % side == 0 and w % side == 0
        self.groups = _groups(h, w, side, lead)
        tokens = torch.arange(h * w, device=device)
        slots = torch.arange(len(self.real) * side**2, device=device)
        self._order = window_order(tokens.view(h, w), side)  # where in the grid the tokens of the window order lie
        self._place = torch.zeros_like(tokens).scatter(0, self._order, tokens)  # and the other way round
        self._filled = to_windows(self._place.view(1, h, w, 1), side).flatten()  # which tokens padded windows take
        grid = from_windows(slots.view(-1, side**2, 1), h, w, side)
        self._slot = window_order(grid.view(h, w), side)  # and where they lie there

    def from_grid(self, x: Tensor) -> Tensor:
        """Return [B, h, w, C] in window order, [B, L, C]."""
        x = x.flatten(1, 2)
        return x if len(self.real) == 1 else x.index_select(1, self._order)

    def to_grid(self, x: Tensor) -> Tensor:
        """Return [B, L, C] without the lead as pictures, [B, h, w, C]."""
        x = x[:, self.lead :]
        x = x if len(self.real) == 1 else x.index_select(1, self._place)
        return x.unflatten(1, (self.h, self.w))

    def split(self, x: Tensor) -> list[Tensor]:
        """Return [B, L, C] as windows [B*windows, tokens, C], group by group."""
        parts = x.split([group.windows * group.tokens for group in self.groups], 1)
        return [
            part.unflatten(1, (group.windows, group.tokens)).flatten(0, 1)
            for part, group in zip(parts, self.groups, strict=True)
        ]

    def join(self, parts: list[Tensor]) -> Tensor:
        """Undo `split`."""
        joined = [
            part.unflatten(0, (len(part) // group.windows, group.windows)).flatten(1, 2)
            for part, group in zip(parts, self.groups, strict=True)
        ]
        return joined[0] if len(joined) == 1 else torch.cat(joined, 1)

    def pad(self, x: Tensor) -> Tensor:
        """Return [B, L, C] without the lead as padded windows [B*W, N, C]; beyond the picture lies anything."""
        x = x[:, self.lead :]
        x = x if self.whole else x.index_select(1, self._filled)
        return x.unflatten(1, (len(self.real), self.side**2)).flatten(0, 1)

    def unpad(self, x: Tensor) -> Tensor:
        """Undo `pad`: [B*W, N, C] to [B, L, C], without the lead."""
        x = x.unflatten(0, (len(x) // len(self.real), len(self.real))).flatten(1, 2)
        return x if self.whole else x.index_select(1, self._slot)


def _groups(h: int, w: int, side: int, lead: int) -> list[Group]:
    groups = []
    for rows in runs(h, side):
        for columns in runs(w, side):
            real = min(side, rows) * min(side, columns)
            groups.append(Group(rows * columns // real, real + lead, side**2 - real))
    return groups
