"""The taps of recurrent delays (DelRec, arXiv 2509.24852).

``h_j(d) = max(0, w - |j - (1 + d)|) / w^2`` with j >= 1: a triangle of half-width w around ``1 +
d``, which is not normalised and loses what lies below the first step. Deployed: one tap of 1 at
``1 + round(d)``.

Shapes: N neurons, K taps of each.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from snn_delays.ops.taps import triangle


@dataclass(frozen=True)
class DelayLines:
    """The recurrent delays of a layer, one for each neuron that fires.

    Attributes:
        delay: [N] in steps, at least 0; 0 is the shortest, a spike that arrives in the next step.
        width: half-width w of the triangle in steps, at least 1, a scalar or [N]; None: deployed.
        straight_through: whether learned delays act as deployed ones, while their gradient stays
            that of the triangle.
    """

    delay: Tensor
    width: Tensor | None = None
    straight_through: bool = False

    def taps(self, j: Tensor) -> Tensor:
        """``h_j`` for j >= 1 of shape [..., N], differentiable in delay and width."""
        deployed = (j == 1 + self.delay.detach().round()).to(self.delay.dtype)
        if self.width is None:
            return deployed
        smooth = triangle.value((j - 1 - self.delay) / self.width) / self.width
        return deployed + (smooth - smooth.detach()) if self.straight_through else smooth

    def table(self, steps: int) -> tuple[Tensor, Tensor]:
        """The taps that matter to a sequence of so many steps, none left out.

        Returns:
            j of every neuron's first tap, [N] int64; the values of its taps from there on, [N, K].
        """
        delay = self.delay.detach()
        if self.width is None:
            first, count = 1 + delay.round(), 1
        else:
            width = self.width.detach()
            first = ((1 + delay - width).floor() + 1).clamp(min=1)
            count = int(2 * width.max()) + 1
        j = first + torch.arange(min(count, steps - 1), device=first.device)[:, None]
        return first.clamp(max=steps).long(), self.taps(j).T.contiguous()
