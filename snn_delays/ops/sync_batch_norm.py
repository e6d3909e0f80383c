"""BatchNorm whose statistics are those of a batch that several processes share.

torch's SyncBatchNorm does the same on GPUs and refuses the CPU's tensors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from snn_delays.runtime.distributed import all_reduce, pooled, whole_batch


class PooledNorm(Function):
    """y [T, B, C], gamma and beta [C], eps -> normalised y; mean and biased variance, float64 [C].

    Gradients of gamma and beta are those of this process's samples: the others' are added with
    all other gradients of the network.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Any:
        """See the class."""
        var, mean = torch.var_mean(y, (0, 1), correction=0)
        mean, var = pooled(mean.double(), var.double(), y.shape[1])
        rstd = (var + eps).rsqrt()
        scale = gamma.double() * rstd
        ctx.save_for_backward(y, mean, rstd, scale)
        ctx.count = y.shape[0] * whole_batch(y.shape[1])
        ctx.mark_non_differentiable(mean, var)
        ctx.set_materialize_grads(False)  # or zeros would be made for these two at every step
        shift = (beta.double() - scale * mean).to(y.dtype)
        return torch.addcmul(shift, y, scale.to(y.dtype)), mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, *_: Any) -> Any:
        """Of y, gamma and beta."""
        y, mean, rstd, scale = ctx.saved_tensors
        g_beta = g.sum((0, 1)).double()
        g_gamma = (g * (y - mean.to(y.dtype))).sum((0, 1)).double() * rstd
        sums = all_reduce(torch.stack([g_beta, g_gamma])) / ctx.count
        of_y = -scale * rstd * sums[1]
        shift = -scale * sums[0] - of_y * mean
        scale, of_y, shift = (factor.to(y.dtype) for factor in (scale, of_y, shift))
        g_y = torch.addcmul(torch.addcmul(shift, g, scale), y, of_y)
        return g_y, g_gamma.to(y.dtype), g_beta.to(y.dtype), None
