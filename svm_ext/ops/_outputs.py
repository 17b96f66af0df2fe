"""What an attend op returns, without contents: for the fakes, and for kernels that are launched from Python."""

from __future__ import annotations

import torch
from torch import Tensor

Results = tuple[Tensor, Tensor | None, Tensor | None]  # out; out_column and lse only where a backward is to follow


def like_tokens(q: Tensor) -> Tensor:
    """Return an empty [.., H, N, D] like q, with tokens outside of heads: merging heads costs nothing
    then."""
    return q.new_empty(q.transpose(-3, -2).shape).transpose(-3, -2)


def empty_results(q: Tensor, for_backward: bool) -> Results:
    """Return the results for q [.., H, N, D]: out, and what the backward needs if it is wanted: out_column and lse
    [.., H, plane, N]."""
    if not for_backward:
        return like_tokens(q), None, None
    lse_dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    return like_tokens(q), like_tokens(q), q.new_empty(*q.shape[:-2], 2, q.shape[-2], dtype=lse_dtype)
