"""clip_attend: all frames of a clip, forward and dQ."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ... import ops
from ...ops import _check, reference
from .. import baselines, inputs
from ..case import Case, Contender, Room, Shape

UNITS, FRAMES = (12, 96), (2, 8, 16)
_LSE_BYTES = 4


def pairs(shape: Shape) -> int:
    """Return how many pairs of a query frame and a key frame it sees there are: frame t sees t + 1."""
    return shape.frames * (shape.frames + 1) // 2


def bytes_moved(shape: Shape) -> int:
    """Forward: read q, k, v, write out, the column plane's share and the log-sum-exp of both planes. Backward:
    read dout and all of these, write dq."""
    frames = (3 + 2) + (1 + 3 + 2 + 1)
    lse = 2 * (2 * shape.units * shape.tokens * _LSE_BYTES)
    return shape.frames * (frames * shape.frame_bytes + lse)


def flops(shape: Shape) -> int:
    """Count as in memory_attend for each pair of frames, with 5 products in place of 2: logits and values forward,
    logits again, dP and dQ backward."""
    return shape.units * pairs(shape) * 2 * (shape.tokens * shape.side) * (5 * shape.dim) * 2


def build(shape: Shape, room: Room) -> Case:
    """Return the case: ours, the reference model's frame by frame with autograd, and library attention with a
    mask."""
    clip_bytes = shape.frames * shape.frame_bytes
    room.reserve("clip_attend", 8 * clip_bytes)
    q, k, v = inputs.clip(shape)
    dout = torch.randn_like(q)

    def both_ways(attend: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[], tuple[Tensor, Tensor]]:
        def run() -> tuple[Tensor, Tensor]:
            out = attend(q, k, v)
            return out.detach(), torch.autograd.grad(out, q, dout)[0]

        return run

    ours = both_ways(lambda *clip: ops.clip_attend(*clip, memory_frames=shape.frames))
    contenders = [Contender("clip_attend", ours, _seen)]
    # What autograd keeps of every frame: rearranged keys and values of both planes, and their softmax.
    logits = 2 * shape.side * shape.tokens * shape.units * shape.dtype.itemsize
    if room.take("eager", pairs(shape) * (4 * shape.frame_bytes + 2 * logits)):
        contenders.append(Contender("eager", both_ways(baselines.eager_clip), _seen))
    if room.take("sdpa", 24 * clip_bytes):
        contenders.append(Contender("sdpa", both_ways(baselines.sdpa_clip), _seen))

    def expected(units: Tensor) -> tuple[Tensor, Tensor]:
        return _expected(*(_few(x, units) for x in (dout, q, k, v)), shape.dtype)

    sizes = {"units": shape.units, "frames": shape.frames}
    moved, work = bytes_moved(shape), flops(shape)
    return Case("clip_attend", shape.dtype, sizes, moved, work, contenders, expected, shape.units, room.left_out)


def _units_first(x: Tensor) -> Tensor:
    """Reshape [B, T, W, H, N, D] to [units, T, N, D]."""
    return x.movedim(1, 3).flatten(0, 2)


def _seen(results: tuple[Tensor, Tensor]) -> Tensor:
    return torch.stack([_units_first(x) for x in results], 1)  # [units, (out, dq), T, N, D]


def _few(x: Tensor, units: Tensor) -> Tensor:
    """Copy some units of a clip as [units, T, 1, 1, N, D] in fp64."""
    return _units_first(x.detach())[units][:, :, None, None].double()


def _expected(dout: Tensor, q: Tensor, k: Tensor, v: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    options = (q.shape[-1] ** -0.5, q.shape[1], _check.EVICTIONS["clear"])
    nothing, found = (None, None, None), []
    for kind in (torch.float64, dtype):
        results = reference.clip_attend(q, k, v, *nothing, *options, True, dtype=kind)
        dq = reference.clip_attend_backward(dout, q, k, v, *nothing, *results, *options, dtype=kind)
        found.append(_seen((results[0], dq)))
    return found[0], found[1].to(dtype)
