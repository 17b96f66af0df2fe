"""FrameBatchNorm: batch norm with the statistics of each frame, also where a whole clip comes at once.

Training frame by frame, batch norm sees one frame of every stream and moves its running statistics by one
step; a clip gives the same numbers here. The parameters and buffers are those of `nn.BatchNorm2d`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch import distributed as dist


class FrameBatchNorm(nn.BatchNorm2d):
    """Batch norm of frames [B, C, h, w] or of a clip [B, T, C, h, w], whose frames are normalised one by one.

    In training the statistics are those of all ranks where torch.distributed runs.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x, and in training let the running statistics follow its frames in their order."""
        if not self.training:
            y = F.batch_norm(
                x.flatten(0, -4), self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
            return y.view_as(x)
        frames = 1 if x.ndim == 4 else x.shape[1]
        # A channel of a frame is to batch norm what a channel is: statistics over B, h and w.
        apart = x if x.ndim == 4 else x.flatten(1, 2)  # [B, T*C, h, w]
        weight, bias = self.weight.repeat(frames), self.bias.repeat(frames)  # [T*C]
        if ranks() > 1:
            y, mean, var = _NormOfAllRanks.apply(apart, weight, bias, self.eps)
        else:
            mean, var = torch.zeros_like(weight), torch.zeros_like(weight)
            # Running statistics with momentum 1 are the batch's own.
            y = F.batch_norm(apart, mean, var, weight, bias, training=True, momentum=1.0, eps=self.eps)
        self._follow(mean.detach().view(frames, -1), var.detach().view(frames, -1))
        return y.view_as(x)

    @torch.no_grad()
    def _follow(self, mean: Tensor, var: Tensor) -> None:
        """Move the running statistics by one step a frame [T, C]: the newest has the most weight."""
        frames = len(mean)
        ago = torch.arange(frames - 1, -1, -1, device=mean.device, dtype=mean.dtype)  # [T]
        share = self.momentum * (1 - self.momentum) ** ago[:, None]
        for running, now in ((self.running_mean, mean), (self.running_var, var)):
            running.mul_((1 - self.momentum) ** frames).add_((share * now).sum(0))
        self.num_batches_tracked.add_(frames)


def ranks() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _NormOfAllRanks(torch.autograd.Function):
    """Batch norm of x [B, F, h, w] with the statistics of all ranks; returns them too, the variance unbiased."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        var, mean = torch.var_mean(x.to(weight.dtype), (0, 2, 3), correction=0)  # [F]
        count = mean.new_tensor([x.numel() / x.shape[1]])
        mine = torch.cat([mean, var, count])
        everyone = [torch.empty_like(mine) for _ in range(ranks())]
        dist.all_gather(everyone, mine)
        means, variances, counts = torch.stack(everyone).split([len(mean), len(var), 1], dim=1)  # [ranks, F or 1]
        total = counts.sum()
        mean = (counts * means).sum(0) / total
        var = (counts * (variances + (means - mean) ** 2)).sum(0) / total
        ctx.save_for_backward(x, weight, mean, (var + eps).rsqrt(), total)
        y = F.batch_norm(x, mean, var, weight, bias, eps=eps)
        unbiased = var * (total / (total - 1))
        ctx.mark_non_differentiable(mean, unbiased)
        return y, mean, unbiased

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, inverse_std, total = ctx.saved_tensors
        each = (slice(None), None, None)  # [F] as [F, 1, 1]
        normal = (x.to(weight.dtype) - mean[each]) * inverse_std[each]
        wide = dy.to(weight.dtype)
        dweight, dbias = (wide * normal).sum((0, 2, 3)), wide.sum((0, 2, 3))  # of this rank: [F]
        sums = torch.cat([dweight, dbias])
        dist.all_reduce(sums)
        along, constant = (sums / total).chunk(2)
        dx = (wide - constant[each] - normal * along[each]) * (weight * inverse_std)[each]
        return dx.to(x.dtype), dweight, dbias, None
