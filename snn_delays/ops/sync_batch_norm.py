"""BatchNorm whose statistics are those of a batch that several processes share.

torch's SyncBatchNorm does the same on GPUs and refuses the CPU's tensors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from snn_delays.ops.batch_norm import affine, factors, gamma_gradient
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
        scale, shift = affine(mean, rstd, gamma.double(), beta.double(), 0.0)
        ctx.save_for_backward(y, gamma, mean, rstd)
        ctx.count = y.shape[0] * whole_batch(y.shape[1])
        ctx.mark_non_differentiable(mean, var)
        ctx.set_materialize_grads(False)  # or zeros would be made for these two at every step
        return torch.addcmul(shift.to(y.dtype), y, scale.to(y.dtype)), mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, *_: Any) -> Any:
        """Of y, gamma and beta."""
        y, gamma, mean, rstd = ctx.saved_tensors
        centre = mean.to(y.dtype)
        g_beta = g.sum((0, 1)).double()
        moment = (g * (y - centre)).sum((0, 1)).double()
        g_gamma = gamma_gradient(g_beta, moment, mean, rstd, centre.double())
        of_gamma, of_beta = all_reduce(torch.stack([g_gamma, g_beta]))
        found = factors(of_gamma, of_beta, mean, rstd, gamma.double(), 0.0, ctx.count)
        a, b, c = (factor.to(y.dtype) for factor in found)
        g_y = torch.addcmul(torch.addcmul(b, g, a), y, c)
        return g_y, g_gamma.to(y.dtype), g_beta.to(y.dtype), None
