"""Synapses: weights, delays, and the shape of the taps that a delay becomes.

Shapes: O outputs, I inputs, C kernel count, D taps.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from snn_delays.ops.taps import gaussian, triangle
from snn_delays.ops.taps.one_tap import whole_delay
from snn_delays.runtime.weight_cache import cached

T = TypeVar("T")

EPSILON = 1e-7  # DCLS adds it to the sum that a delay's taps are divided by


@dataclass(frozen=True)
class Shape:
    """What the taps around a delay look like.

    Attributes:
        name: its name in options.
        value: u -> what a tap at distance u from the delay, in widths, is worth, up to the norm.
        slope: (u, value) -> the derivative of ``value`` with respect to u; None: torch finds it,
            and nothing is compiled.
    """

    name: str
    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor] | None = None


SHAPES = {
    "gauss": Shape("gauss", gaussian.value, gaussian.slope),
    "triangle": Shape("triangle", triangle.value, triangle.slope),
}


@dataclass(frozen=True)
class Synapses:
    """The delayed synapses of a layer.

    Attributes:
        weight: [O, I, C].
        delay: in steps within [0, D - 1]; [O, I, C], or a shape that broadcasts to it.
        taps: D.
        shape: of the taps around a delay while it is learned; None: the deployed synapse, one tap
            of the whole weight at the rounded delay, which has no gradient in the delay.
        width: of the shape in steps, a scalar on the weights' device and in their precision;
            nobody looks at its value, since a look would wait for a GPU. None where shape is.
        straight_through: whether learned synapses act as deployed ones, while the gradient of a
            delay is that of the shape's taps (Bengio, Léonard and Courville 2013, arXiv 1308.3432).
    """

    weight: Tensor
    delay: Tensor
    taps: int
    shape: Shape | None = None
    width: Tensor | None = None
    straight_through: bool = False

    def __post_init__(self) -> None:
        if self.weight.dim() != 3:
            raise ValueError(f"weight {list(self.weight.shape)} must be [O, I, C].")
        fits = self.delay.dim() == 3 and all(
            mine in (1, whole)
            for mine, whole in zip(self.delay.shape, self.weight.shape, strict=True)
        )
        if not fits:
            raise ValueError(
                f"delay {list(self.delay.shape)} must be as weight {list(self.weight.shape)}, or 1"
                " in a dimension whose synapses share it."
            )
        if self.taps < 1:
            raise ValueError(f"taps={self.taps} must be at least 1.")

    @property
    def deployed(self) -> bool:
        """Whether each synapse acts through one tap at its rounded delay."""
        return self.shape is None

    def rounded(self) -> Synapses:
        """The deployed synapses of these weights and delays."""
        return replace(self, shape=None, straight_through=False)

    def transposed(self) -> Synapses:
        """With inputs and outputs exchanged."""
        return replace(self, weight=self.weight.transpose(0, 1), delay=self.delay.transpose(0, 1))

    def cached(self, kind: Hashable, make: Callable[[], T]) -> T:
        """``make()``, or its earlier value, where the synapses are deployed and gradients are off.

        The earlier value serves as long as no number of weight and delay has changed.

        Args:
            kind: what is made from the synapses, and all that shapes it besides them.
            make: makes it.
        """
        if not self.deployed or torch.is_grad_enabled():
            return make()
        return cached(self.weight, self.delay, (kind, self.taps), make)

    def kernel(self) -> Tensor:
        """``K[j, o, i] = sum_c w[o, i, c] g_j(d[o, i, c])``, [D, O, I], written as its definition.

        The deployed kernel holds a tap of weight w at each delay, rounded half to even. So does the
        straight-through one, whose gradients are: of w, the deployed kernel's; of d, those of g.
        """
        if self.straight_through:
            of_delay = replace(self, weight=self.weight.detach(), straight_through=False).kernel()
            return self.rounded().kernel() + (of_delay - of_delay.detach())
        if self.shape is not None:
            weighted_OICD = self.weight.unsqueeze(3) * tap_values(self)
            return weighted_OICD.sum(2).permute(2, 0, 1)  # which autocast would not round
        index = whole_delay(self.delay, self.taps).expand_as(self.weight)
        kernel_OID = self.weight.new_zeros(*self.weight.shape[:2], self.taps)
        return kernel_OID.scatter_add(2, index, self.weight).permute(2, 0, 1)


def tap_values(synapses: Synapses) -> Tensor:
    """The taps of every delay, normalised to one, [O, I, C, D].

    ``g_j = value(u_j) / (1e-7 + sum_j' value(u_j'))`` with ``u_j = (j - d) / width``.
    """
    shape, width, delay = synapses.shape, synapses.width, synapses.delay
    assert shape is not None
    assert width is not None
    j = torch.arange(synapses.taps, dtype=delay.dtype, device=delay.device)
    g = shape.value((j - delay.unsqueeze(-1)) / width)
    g = g / (EPSILON + g.sum(-1, keepdim=True))
    return g.expand(*synapses.weight.shape, synapses.taps)
