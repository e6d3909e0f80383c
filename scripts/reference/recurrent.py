"""Recurrent delays as DelRec (arXiv 2509.24852) describes them, in plain torch: a spike schedules
the currents that it will cause.

Shapes: T time, B batch, N neurons, J steps ahead.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Fire = Callable[[Tensor], Tensor]


def triangle(j: Tensor, delay_N: Tensor, width: Tensor) -> Tensor:
    """``h_j = max(0, w - |j - (1 + d)|) / w^2`` for j of shape [..., 1], [..., N]."""
    return torch.relu(width - (j - (1 + delay_N)).abs()) / width**2


def scheduled(
    y_TBN: Tensor, weight: Tensor, delay_N: Tensor, width: Tensor, mask_BN: Tensor, fire: Fire
) -> Tensor:
    """Spikes [T, B, N], differentiable.

    Args:
        y_TBN: feedforward current.
        weight: R [N, N], from the second to the first.
        delay_N: in steps.
        width: of the triangle, a scalar or [N].
        mask_BN: of the recurrent current.
        fire: one step of the neurons, current [B, N] -> spikes, which keeps their states.
    """
    furthest = int((1 + delay_N + width).max().ceil())
    j = torch.arange(1, furthest + 1, device=y_TBN.device)[:, None]
    weights_JON = weight * triangle(j, delay_N, width)[:, None]
    currents_JBN = y_TBN.new_zeros(furthest, *y_TBN.shape[1:])
    nothing, spikes = torch.zeros_like(currents_JBN[:1]), []
    for t, y_BN in enumerate(y_TBN):
        x = y_BN + mask_BN * currents_JBN[0] if t else y_BN
        spikes.append(fire(x))
        caused_JBN = torch.einsum("bi,joi->jbo", spikes[-1], weights_JON)
        currents_JBN = (torch.cat((currents_JBN[1:], nothing)) if t else currents_JBN) + caused_JBN
    return torch.stack(spikes)
