"""Which tokens of a window are picture: windows at the right and the lower edge may reach beyond it."""

from __future__ import annotations

import torch
from torch import Tensor


def real_or_all(real: Tensor | None, windows: int, side: int, device: torch.device) -> Tensor:
    """Return the real rows and columns of each window, int32 [W, 2]; without `real` everything is."""
    return torch.full((windows, 2), side, dtype=torch.int32, device=device) if real is None else real


def inside(real: Tensor, side: int) -> Tensor:
    """Return which tokens of each window are real, [W, n, n]."""
    lines = torch.arange(side, device=real.device) < real[..., None]  # [W, (rows, columns), n]
    return lines[:, 0, :, None] & lines[:, 1, None, :]
