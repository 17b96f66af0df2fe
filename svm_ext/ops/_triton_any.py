"""Launches attention for windows and heads that do not fit into one pass: a plane at a time, line by line."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._triton_launch import Work, kernels_of

_ROW_THEN_COLUMN = 1, 0  # the planes' places in a log-sum-exp; the second adds to what the first has written


def launch(kernel: str, q: Tensor, work: Work, *arguments: Any, **chosen: Any) -> None:
    """Launch one of the kernels of attend_any.py for both planes; its arguments are those of the one-pass kernel."""
    function, splits = getattr(kernels_of("attend_any"), kernel), work.launch.splits
    programs = work.units * splits * work.launch.parts
    with torch.cuda.device_of(q):
        for plane in _ROW_THEN_COLUMN:
            function[(programs,)](*arguments, **chosen, SPLITS=splits, PLANE=plane, **work.options)
