# mypy: allow-untyped-defs
"""BatchNorm's arithmetic between sums over a batch and what is done to each of its numbers.

The norm is ``y -> scale (y - centre) + shift``, and the gradient of y is ``a g + b + c (y -
centre)`` with g that of the norm's output. The centre is 0, or the mean as a number of lower
precision, so that y and mean cancel before they are scaled, and nothing is lost.

The functions take tensors in float64, [C] for C channels; ``ops.batch_norm_triton`` compiles them
with a ``where`` of its own, and Triton would read annotations as code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, where


def variance(first, second):
    """The biased variance, from the means of ``y - pivot`` and of its square."""
    found = second - first * first
    return where(found < 0, 0.0, found)


def affine(mean, rstd, gamma, beta, centre):
    """Scale and shift; ``rstd`` is ``1 / sqrt(variance + eps)``."""
    scale = gamma * rstd
    return scale, beta - scale * (mean - centre)


def gamma_gradient(total, moment, mean, rstd, centre):
    """From the sums of g, which is beta's gradient, and of ``g (y - centre)``."""
    return (moment - (mean - centre) * total) * rstd


def factors(g_gamma, g_beta, mean, rstd, gamma, centre, n):
    """a, b and c, from the gradients of gamma and beta; the statistics are of n numbers."""
    scale = gamma * rstd
    c = -scale * rstd * g_gamma / n
    return scale, -scale * g_beta / n - c * (mean - centre), c


def unbiased(var, n, others):
    """The variance that a norm keeps; ``others`` is n - 1."""
    return var * n / others


def check_numbers(n: int) -> None:
    """Refuse a single number of a channel, which has no variance.

    Raises:
        ValueError: that.
    """
    if n < 2:
        raise ValueError(f"BatchNorm in training needs 2 numbers of a channel, and has {n}.")


@dataclass(frozen=True)
class Running:
    """What a norm keeps of its batches, moved in place as torch's BatchNorm moves it.

    Attributes:
        mean: [C].
        var: unbiased, [C].
        batches: how many, a scalar.
        momentum: weight of a new batch.
    """

    mean: Tensor
    var: Tensor
    batches: Tensor
    momentum: float

    @torch.no_grad()
    def track(self, mean: Tensor, var: Tensor, n: int) -> None:
        """Move by a batch's mean and biased variance, [C], of n numbers each."""
        check_numbers(n)
        self.batches.add_(1)
        self.mean.lerp_(mean.to(self.mean.dtype), self.momentum)
        self.var.lerp_(unbiased(var, n, n - 1).to(self.var.dtype), self.momentum)
