"""SiLIF (Fabre et al. 2025): an adaptive neuron with the time step of a state space model."""

from __future__ import annotations

import math

from torch import Tensor

from snn_delays.nn.neurons.adaptive import AdaptiveNode
from snn_delays.nn.neurons.node import stock


@stock
class SiLIFNode(AdaptiveNode):
    """Learns the logarithms of two rates and of the step: ``al = e^(-rate_u step)``, be likewise.

    Bounds and draws are the published ones; rates in 1/s and the step of 4 ms are meant, whatever
    data.step_ms is.
    """

    DRAWS = {  # noqa: RUF012 - class variables of the base
        "log_rate_u": (math.log(10), math.log(250)),
        "log_rate_w": (math.log(2.5), math.log(10)),
        "log_step": (math.log(0.004), math.log(0.004)),
        "a": (0.0, 1.0),
        "b": (0.0, 2.0),
    }
    BOUNDS = {"a": (0.0, 1.0), "b": (0.0, 2.0)}  # noqa: RUF012
    TIMES = ("log_rate_u", "log_rate_w", "log_step")

    def dynamics(self, **p: Tensor) -> tuple[Tensor, ...]:
        """See ``AdaptiveNode``."""
        decays = ((-(p[rate] + p["log_step"]).exp()).exp() for rate in self.TIMES[:2])
        return *decays, p["a"], p["b"]
