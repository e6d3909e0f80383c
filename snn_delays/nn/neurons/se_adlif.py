"""SE-adLIF (Baronig et al. 2025): an adaptive neuron that takes the state after the reset."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from snn_delays.nn.neurons.adaptive import AdaptiveNode
from snn_delays.nn.neurons.node import stock
from snn_delays.ops.neurons import ADAPTIVE_AFTER

TAU_U_MS, TAU_W_MS = (20.0, 100.0), (240.0, 1200.0)
Q = 120.0  # the published factor of a and b


@stock
class SEAdLIFNode(AdaptiveNode):
    """Learns where two time constants lie between bounds: ``tau = lo + (hi - lo) share``.

    ``al = e^(-1 / tau)``; be likewise, and a and b have the factor ``(1 - be) 120``. The published
    bounds are steps of 4 ms; here they are times.

    Args:
        size: number of neurons N.
        step_ms: length of a time step.
        settings: see ``AdaptiveNode``.
    """

    STEP = ADAPTIVE_AFTER
    DRAWS = BOUNDS = {  # noqa: RUF012 - class variables of the base
        "share_u": (0.0, 1.0),
        "share_w": (0.0, 1.0),
        "a": (0.0, 1.0),
        "b": (0.0, 2.0),
    }
    TIMES = ("share_u", "share_w")

    def __init__(self, size: int, *, step_ms: float, **settings: Any) -> None:
        super().__init__(size, **settings)
        self.step_ms = step_ms

    def dynamics(self, **p: Tensor) -> tuple[Tensor, ...]:
        """See ``AdaptiveNode``."""
        al, be = (
            (-self.step_ms / (low + (high - low) * p[share])).exp()
            for share, (low, high) in zip(self.TIMES, (TAU_U_MS, TAU_W_MS), strict=True)
        )
        factor = Q * (1 - be)
        return al, be, factor * p["a"], factor * p["b"]


def draw_weight(weight: Tensor) -> None:
    """Uniform within one over the root of the number of inputs, as published."""
    bound = (weight.shape[1] * weight.shape[2]) ** -0.5
    nn.init.uniform_(weight, -bound, bound)
