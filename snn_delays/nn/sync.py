"""BatchNorm and dropout that do the same where several processes share a batch as where one has it.

Alone they are SpikingJelly's, but for the rounding of BatchNorm in evaluation.
"""

from __future__ import annotations

from typing import Any

import torch
from spikingjelly.activation_based import layer
from torch import Tensor, nn

from snn_delays.ops.batch_norm import Running
from snn_delays.ops.sync_batch_norm import PooledNorm
from snn_delays.runtime.distributed import own_part, whole_batch


class BatchNorm1d(layer.BatchNorm1d):
    """Over time and batch, of all processes. Shape: [T, B, C] -> [T, B, C].

    In evaluation ``alpha x + beta``, whose product is rounded before the sum. Torch's own norm
    rounds once on some processors and twice on others, which moves spikes.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, C] -> [T, B, C]."""
        if not self.training and self._is_affine(x):
            alpha, beta = self.affine_map()
            return (x * alpha).add_(beta)
        if own_part() is None or not self.training:
            return super().forward(x)
        y, mean, var = PooledNorm.apply(x, self.weight, self.bias, self.eps)
        self.running.track(mean, var, x.shape[0] * whole_batch(x.shape[1]))
        return y

    def _is_affine(self, x: Tensor) -> bool:
        sequence = self.step_mode == "m" and x.dim() == 3
        return (
            sequence and self.affine and self.track_running_stats and x.dtype == self.weight.dtype
        )

    def affine_map(self) -> tuple[Tensor, Tensor]:
        """Alpha and beta of evaluation, [C] each, which are rounded once."""
        numbers = (self.weight, self.bias, self.running_mean, self.running_var)
        gamma, shift, mean, var = torch.stack(numbers).double()
        alpha = gamma / (var + self.eps).sqrt()
        return alpha.to(self.weight.dtype), (shift - mean * alpha).to(self.weight.dtype)

    @property
    def running(self) -> Running:
        """Its running statistics."""
        return Running(self.running_mean, self.running_var, self.num_batches_tracked, self.momentum)


class Dropout(layer.Dropout):
    """One mask per sample and neuron, constant over time.

    Every process draws the masks of the whole batch and takes those of its own samples, so all
    keep equal random states, which are one process's.
    """

    def create_mask(self, x: Tensor) -> Tensor:
        """A mask for spikes like ``x``, [B, C]."""
        part = own_part()
        if part is None:
            return super().create_mask(x)
        return super().create_mask(x.new_empty(part.whole, *x.shape[1:]))[part.rows]


def dropout_mask(dropout: Any, like_BO: Tensor) -> Tensor:
    """Dropout's mask of a batch, [B, O]: 0, or the size of a spike; ones without dropout."""
    if isinstance(dropout, nn.Identity):
        return torch.ones_like(like_BO)
    mask: Tensor = dropout.create_mask(like_BO)
    dropout.mask = mask
    return mask
