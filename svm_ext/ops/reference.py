"""The ops in plain torch: what they mean, on any device, in either pool layout.

The oracle of every test, and a back end. Correct first. Forward passes are differentiable through q, so
that autograd can judge the backward formulas. Letters: S streams, B batch rows, W windows, H heads, n
window side, N = n*n tokens, T frames held, D head dim.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import _check, _fp8, _padding, _pool

Pads = tuple[Tensor | None, Tensor | None]  # pad_k, pad_v

_NONE = float("-inf")  # the logit of a key that is not there


def _compute_dtype(*tensors: Tensor) -> torch.dtype:
    """Return the type to compute in: fp64 stays, everything narrower is computed in fp32."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def _line_logits(q: Tensor, k: Tensor, held: Tensor, real: Tensor, pad_k: Tensor | None, scale: float) -> Tensor:
    """Return the logits [W, B, H, r, c, T*s (+ 1)] of queries (r, c) over the keys (t, s, c) of a column.

    q [W, B, H, r, c, D], k [W, B, H, T, s, c, D], held [W, B, H, T], real [W] rows, pad_k [H, D].
    """
    side = k.shape[-3]
    logits = scale * torch.einsum("wbhrcd,wbhtscd->wbhrcts", q, k)
    is_real = torch.arange(side, device=q.device) < real[:, None]  # [W, s]
    there = held[..., None] & is_real[:, None, None, None]  # [W, B, H, T, s]
    logits = logits.masked_fill(~there[:, :, :, None, None], _NONE).flatten(-2)  # [W, B, H, r, c, T*s]
    if pad_k is None:
        return logits
    # The p padded keys of each of T frames are all one key: together they weigh p * T times what it weighs.
    weight = (side - real)[:, None, None] * held.sum(-1)  # [W, B, H]
    logit = scale * torch.einsum("wbhrcd,hd->wbhrc", q, pad_k)
    logit = logit + weight.to(q.dtype).log()[..., None, None]  # log(0) = -inf: no padding, no key
    return torch.cat([logits, logit[..., None]], dim=-1)


def _line_values(v: Tensor, pad_v: Tensor | None) -> Tensor:
    """Return the values [W, B, H, c, T*s (+ 1), D] that belong to the logits of a column."""
    values = v.permute(0, 1, 2, 5, 3, 4, 6).flatten(4, 5)  # [W, B, H, c, T*s, D]
    if pad_v is None:
        return values
    virtual = pad_v[None, None, :, None, None].expand(*values.shape[:4], 1, -1)
    return torch.cat([values, virtual], dim=-2)


def _probabilities(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return softmax and log-sum-exp over the last dimension: 0 and -inf where there is no key."""
    top = logits.amax(-1, keepdim=True).detach()
    top = top.masked_fill(top == _NONE, 0)
    weights = (logits - top).exp()
    total = weights.sum(-1, keepdim=True)
    return weights / total.masked_fill(total == 0, 1), (top + total.log()).squeeze(-1)


class Frames:
    """The frames that one frame's queries see; tokens go in and come out as [B*W, H, N, D]."""

    def __init__(self, k: Tensor, v: Tensor, held: Tensor, real: Tensor | None, pads: Pads) -> None:
        # k, v [W, B, H, T, n, n, D]; held [W, B, H, T]; real [W, 2]
        self.real = _padding.real_or_all(real, k.shape[0], k.shape[-2], k.device)
        self.inside = _padding.inside(self.real, k.shape[-2])  # [W, n, n]
        # What nobody may see is not even multiplied by zero: unwritten memory can hold anything.
        stored = held[..., None, None] & self.inside[:, None, None, None]  # [W, B, H, T, n, n]
        self.k, self.v = (x.masked_fill(~stored[..., None], 0) for x in (k, v))
        self.held = held
        self.pad_k, self.pad_v = (None if pad is None else pad.to(k.dtype) for pad in pads)

    def attend(self, q: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return out, out_column and lse [B*W, H, 2, N]."""
        grid = self._to_grid(q)
        with torch.autocast(q.device.type, enabled=False):  # the op's caller narrowed what is to be narrowed
            column, lse_column = self._plane(0, grid, scale)
            row, lse_row = self._plane(1, grid, scale)
        lse = torch.stack([lse_column, lse_row], 3)  # [W, B, H, 2, n, n]
        return self._from_grid(column + row), self._from_grid(column), lse.transpose(0, 1).flatten(0, 1).flatten(3)

    def gradient(self, dout: Tensor, q: Tensor, scale: float) -> Tensor:
        """Return dq."""
        dout, q = self._to_grid(dout), self._to_grid(q)
        with torch.autocast(q.device.type, enabled=False):
            dq = self._plane_gradient(0, dout, q, scale) + self._plane_gradient(1, dout, q, scale)
        return self._from_grid(dq)

    def _to_grid(self, x: Tensor) -> Tensor:
        """Reshape [B*W, H, N, D] to [W, B, H, n, n, D], in the type to compute in."""
        windows, batch, _, _, side, _, _ = self.k.shape
        return x.to(self.k.dtype).unflatten(0, (batch, windows)).unflatten(3, (side, side)).transpose(0, 1)

    def _from_grid(self, x: Tensor) -> Tensor:
        """Reshape [W, B, H, n, n, D] to [B*W, H, N, D], with tokens outside of heads in memory."""
        x = x.transpose(0, 1).flatten(3, 4)  # [B, W, H, N, D]
        return x.transpose(2, 3).flatten(0, 1).contiguous().transpose(1, 2)

    def _turned(self, index: int, x: Tensor) -> Tensor:
        """Swap rows and columns [.., n, n, D] for the row plane (1): it is the column plane (0) then."""
        return x if index == 0 else x.transpose(-3, -2)

    def _logits(self, index: int, q: Tensor, scale: float) -> Tensor:
        q, k = self._turned(index, q), self._turned(index, self.k)
        return _line_logits(q, k, self.held, self.real[:, index], self.pad_k, scale)

    def _plane(self, index: int, q: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Return one plane's output [W, B, H, n, n, D] and lse [W, B, H, n, n]; padded queries get 0 and
        -inf."""
        p, lse = _probabilities(self._logits(index, q, scale))
        values = _line_values(self._turned(index, self.v), self.pad_v)
        out = self._turned(index, torch.einsum("wbhrck,wbhckd->wbhrcd", p, values))
        lse = self._turned(index, lse[..., None])[..., 0]
        outside = ~self.inside[:, None, None]  # [W, 1, 1, n, n]
        return out.masked_fill(outside[..., None], 0), lse.masked_fill(outside, _NONE)

    def _plane_gradient(self, index: int, dout: Tensor, q: Tensor, scale: float) -> Tensor:
        """Return one plane's share of dq: dS = P * (dP - sum(P * dP)), dq = scale * dS K."""
        p, _ = _probabilities(self._logits(index, q, scale))
        values = _line_values(self._turned(index, self.v), self.pad_v)
        keys = _line_values(self._turned(index, self.k), self.pad_k)
        dp = torch.einsum("wbhrcd,wbhckd->wbhrck", self._turned(index, dout), values)
        ds = scale * p * (dp - (p * dp).sum(-1, keepdim=True))
        dq = self._turned(index, torch.einsum("wbhrck,wbhckd->wbhrcd", ds, keys))
        return dq.masked_fill(~self.inside[:, None, None, ..., None], 0)


def _memory_frames(
    q: Tensor,
    k_pool: Tensor,
    v_pool: Tensor,
    cursor: Tensor,
    streams: Tensor | None,
    real: Tensor | None,
    pads: Pads,
    dtype: torch.dtype | None,
) -> Frames:
    """Check the arguments and gather what the queries of one frame see."""
    size = _check.attend(q, k_pool, v_pool, cursor, streams, real, *pads)
    _check.attend_values(cursor, streams, real, size)
    dtype = dtype or _compute_dtype(q, k_pool)
    rows = torch.arange(size.streams, device=q.device) if streams is None else streams
    exponents = _pool.exponents_of(k_pool, cursor)
    frames = map(_pool.read, (k_pool, v_pool), (rows, rows), exponents)
    k, v = (x.transpose(0, 1).to(dtype) for x in frames)  # [W, B, H, T, n, n, D]
    count = cursor[rows][..., 0].transpose(0, 1)  # [W, B, H]
    held = torch.arange(size.frames, device=q.device) < count[..., None]  # [W, B, H, T]
    return Frames(k, v, held, real, pads)


def memory_attend(
    q: Tensor,
    k_pool: Tensor,
    v_pool: Tensor,
    cursor: Tensor,
    streams: Tensor | None,
    real: Tensor | None,
    pad_k: Tensor | None,
    pad_v: Tensor | None,
    scale: float,
    for_backward: bool,
    *,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Attend the memory in both planes; `dtype` computes in another type than fp32 (or fp64 for fp64)."""
    frames = _memory_frames(q, k_pool, v_pool, cursor, streams, real, (pad_k, pad_v), dtype)
    out, out_column, lse = frames.attend(q, scale)
    if not for_backward:
        return out.to(q.dtype), None, None
    return out.to(q.dtype), out_column.to(q.dtype), lse.to(_lse_dtype(q)).contiguous()


def memory_attend_backward(
    dout: Tensor,
    q: Tensor,
    k_pool: Tensor,
    v_pool: Tensor,
    cursor: Tensor,
    streams: Tensor | None,
    real: Tensor | None,
    pad_k: Tensor | None,
    pad_v: Tensor | None,
    out: Tensor,
    out_column: Tensor,
    lse: Tensor,
    scale: float,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Return dq; computed from the inputs alone, out, out_column and lse are not looked at."""
    frames = _memory_frames(q, k_pool, v_pool, cursor, streams, real, (pad_k, pad_v), dtype)
    _check.results(q, dout, out, out_column, lse)
    return frames.gradient(dout, q, scale).to(q.dtype)


def _lse_dtype(q: Tensor) -> torch.dtype:
    return torch.float64 if q.dtype == torch.float64 else torch.float32


def _plan(cursor: Tensor, step: Tensor, capacity: int, evict: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return slot, merge slot (= slot where nothing merges) and the cursor after, as svm/ring.h does.

    cursor [B, W, H, 2], step [B, 1, 1]; the slots are [B, W, H].
    """
    count, mark = cursor.unbind(-1)
    again = (count > 0) & (mark == step)
    full = (count >= capacity) & ~again
    cleared = full & (evict == _check.EVICTIONS["clear"])
    merging = full & (evict == _check.EVICTIONS["merge"]) & (capacity > 1)
    slot = torch.where(again, count - 1, count) % capacity
    slot = slot.masked_fill(cleared, 0)
    merge_slot = torch.where(merging, (slot + 1) % capacity, slot)
    after = torch.where(again, count, count + 1).masked_fill(cleared, 1)
    return slot, merge_slot, torch.stack([after, torch.where(again, mark, step)], -1)


class _Slots:
    """The frames of one pool by their slots, [B, W, H, n, n, D/g, g], as numbers."""

    def __init__(self, pool: Tensor, exponents: Tensor | None, index: tuple[Tensor, ...], inside: Tensor) -> None:
        self.view = _pool.frames_view(_fp8.raw(pool))  # [S, W, H, T, n, n, D/g, g]
        self.exponents, self.index = exponents, index
        self.inside = inside[:, None, :, :, None, None]  # [W, 1, n, n, 1, 1]

    def read(self, slot: Tensor) -> Tensor:
        """Return the frames of slots [B, W, H], in the type to compute in."""
        stored = self.view[(*self.index, slot)]
        if self.exponents is None:
            return stored.to(_compute_dtype(stored))
        return _fp8.numbers(stored, _a_frame(self.exponents[(*self.index, slot)])).float()

    def write(self, slot: Tensor, frame: Tensor, where: Tensor) -> None:
        """Write frames to the slots of the units `where` [B, W, H]; tokens that are not real stay."""
        at = (*self.index, slot)
        if self.exponents is not None:
            greatest = frame.float().masked_fill(~self.inside, 0).abs().flatten(3).amax(-1)
            exponents = _fp8.exponents_for(greatest)
            self.exponents[at] = torch.where(where, exponents, self.exponents[at])
            frame = _fp8.quantised(frame, _a_frame(exponents))
        self.view[at] = torch.where(self.inside & _a_frame(where), frame.to(self.view.dtype), self.view[at])


def _a_frame(x: Tensor) -> Tensor:
    """Let what holds for whole frames [B, W, H] broadcast over them."""
    return x[..., None, None, None, None]


@torch.no_grad()
def memory_append_(
    k_pool: Tensor,
    v_pool: Tensor,
    cursor: Tensor,
    k: Tensor,
    v: Tensor,
    step: Tensor,
    streams: Tensor | None,
    real: Tensor | None,
    evict: int,
) -> None:
    """Store one frame's K and V, detached; everything is checked before anything is written."""
    size = _check.append(k_pool, v_pool, cursor, k, v, step, streams, real, evict)
    rows = torch.arange(size.streams, device=k.device) if streams is None else streams
    _check.append_values(cursor, step, rows, real, size)
    slot, merge_slot, after = _plan(cursor[rows][..., :2], step[rows][:, None, None], size.frames, evict)
    units = (torch.arange(count, device=k.device) for count in (size.windows, size.heads))
    index = torch.meshgrid(rows, *units, indexing="ij")  # 3 x [B, W, H]
    inside = _padding.inside(_padding.real_or_all(real, size.windows, size.side, k.device), size.side)
    for pool, exponents, tokens in zip((k_pool, v_pool), _pool.exponents_of(k_pool, cursor), (k, v), strict=True):
        slots = _Slots(pool, exponents, index, inside)
        slots.write(merge_slot, (slots.read(slot) + slots.read(merge_slot)) / 2, slot != merge_slot)
        frame = tokens.unflatten(0, (len(rows), size.windows)).unflatten(3, (size.side, size.side))
        slots.write(slot, frame.unflatten(-1, slots.view.shape[-2:]), torch.ones_like(slot, dtype=torch.bool))
    cursor[rows, ..., :2] = after


def stream_step_(
    k_pool: Tensor,
    v_pool: Tensor,
    cursor: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    step: Tensor,
    streams: Tensor | None,
    real: Tensor | None,
    pad_k: Tensor | None,
    pad_v: Tensor | None,
    scale: float,
    evict: int,
) -> Tensor:
    """Append, then attend."""
    _check.step(k_pool, v_pool, cursor, q, k, v, step, streams, real, pad_k, pad_v, evict)
    memory_append_(k_pool, v_pool, cursor, k, v, step, streams, real, evict)
    return memory_attend(q, k_pool, v_pool, cursor, streams, real, pad_k, pad_v, scale, False)[0]


def first_visible(t: int, memory_frames: int, evict: int) -> int:
    """Return the first frame of a clip that frame t sees: of its block (clear) or of the window (fifo)."""
    return t - t % memory_frames if evict == _check.EVICTIONS["clear"] else max(0, t - memory_frames + 1)


def _clip_frames(k: Tensor, v: Tensor, real: Tensor | None, pads: Pads, dtype: torch.dtype) -> Frames:
    """Take frames of a clip, [B, T, W, H, N, D], for what a memory holds."""
    side = round(k.shape[4] ** 0.5)
    grids = (x.to(dtype).permute(2, 0, 3, 1, 4, 5).unflatten(4, (side, side)) for x in (k, v))
    k, v = grids  # [W, B, H, T, n, n, D]
    return Frames(k, v, torch.ones(k.shape[:4], dtype=torch.bool, device=k.device), real, pads)


def clip_attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    real: Tensor | None,
    pad_k: Tensor | None,
    pad_v: Tensor | None,
    scale: float,
    memory_frames: int,
    evict: int,
    for_backward: bool,
    *,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Attend each frame of a clip to the frames that a memory would hold then; K and V are detached."""
    _check.clip(q, k, v, real, pad_k, pad_v, memory_frames, evict)
    _check.real_values(real, round(q.shape[4] ** 0.5))
    out, out_column = _clip_like(q), _clip_like(q)
    lse = q.new_empty(*q.shape[:4], 2, q.shape[4], dtype=_lse_dtype(q))  # [B, T, W, H, 2, N]
    for t in range(q.shape[1]):
        seen = slice(first_visible(t, memory_frames, evict), t + 1)
        past = k[:, seen].detach(), v[:, seen].detach()
        frames = _clip_frames(*past, real, (pad_k, pad_v), dtype or _compute_dtype(q))
        results = frames.attend(q[:, t].flatten(0, 1), scale)
        for whole, frame in zip((out, out_column, lse), results, strict=True):
            whole[:, t] = frame.unflatten(0, (q.shape[0], q.shape[2])).to(whole.dtype)
    return (out, out_column, lse) if for_backward else (out, None, None)


def clip_attend_backward(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    real: Tensor | None,
    pad_k: Tensor | None,
    pad_v: Tensor | None,
    out: Tensor,
    out_column: Tensor,
    lse: Tensor,
    scale: float,
    memory_frames: int,
    evict: int,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Return dq; computed from the inputs alone, out, out_column and lse are not looked at."""
    _check.clip(q, k, v, real, pad_k, pad_v, memory_frames, evict)
    _check.real_values(real, round(q.shape[4] ** 0.5))
    _check.results(q, dout, out, out_column, lse)
    dq = _clip_like(q)
    for t in range(q.shape[1]):
        seen = slice(first_visible(t, memory_frames, evict), t + 1)
        frames = _clip_frames(k[:, seen], v[:, seen], real, (pad_k, pad_v), dtype or _compute_dtype(q))
        gradient = frames.gradient(dout[:, t].flatten(0, 1), q[:, t].flatten(0, 1), scale)
        dq[:, t] = gradient.unflatten(0, (q.shape[0], q.shape[2])).to(q.dtype)
    return dq


def _clip_like(q: Tensor) -> Tensor:
    """Return an empty clip of q's shape [B, T, W, H, N, D], with tokens outside of heads in memory."""
    return q.new_empty(q.transpose(3, 4).shape).transpose(3, 4)
