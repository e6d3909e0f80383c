"""Surrogates as modules, which a node calls where its steps do not run in one scan."""

from __future__ import annotations

from typing import Any

from spikingjelly.activation_based import surrogate as spikingjelly
from torch import Tensor, nn

from snn_delays.nn.stock import is_stock
from snn_delays.ops.surrogates import ATAN, SURROGATES, Surrogate


class Spike(nn.Module):
    """1 where the membrane is not below the threshold, else 0; its derivative is a surrogate's.

    Args:
        kind: a key of ``SURROGATES``.
        alpha: steepness, of those that have one.
    """

    def __init__(self, kind: str, alpha: float) -> None:
        super().__init__()
        self.kind = SURROGATES[kind]
        self.alpha = alpha

    def forward(self, u: Tensor) -> Tensor:
        """Spikes, from the membrane above the threshold."""
        soft: Tensor = self.kind.soft(u, *self.kind.numbers(self.alpha))
        return (u >= 0).to(u.dtype) + (soft - soft.detach())

    def extra_repr(self) -> str:
        """Kind and steepness, for ``print(network)``."""
        return f"{self.kind.name}, alpha={self.alpha}"


def build_surrogate(kind: str, alpha: float) -> nn.Module:
    """The module of a surrogate; SpikingJelly's for "atan"."""
    return spikingjelly.ATan(alpha=alpha) if kind == "atan" else Spike(kind, alpha)


def surrogate_of(module: Any) -> Surrogate:
    """The surrogate of which a node's ``surrogate_function`` is the module, if it ``is_known``."""
    kind: Surrogate = getattr(module, "kind", ATAN)
    return kind


def is_known(module: Any) -> bool:
    """Whether a node's ``surrogate_function`` does what a surrogate of ``ops`` does."""
    return is_stock(module, Spike) or (is_stock(module, spikingjelly.ATan) and module.spiking)
