"""adLIF (Bittar and Garner 2022): decays and adaptation of every neuron drawn over wide bounds."""

from __future__ import annotations

import math

from torch import Tensor

from snn_delays.nn.neurons.adaptive import AL, AdaptiveNode
from snn_delays.nn.neurons.node import stock


@stock
class AdLIFNode(AdaptiveNode):
    """Learns al, be, a and b themselves; bounds and draws are those of sparch."""

    DRAWS = BOUNDS = {  # noqa: RUF012 - class variables of the base
        "al": AL,
        "be": (math.exp(-1 / 30), math.exp(-1 / 120)),
        "a": (-1.0, 1.0),
        "b": (0.0, 2.0),
    }
    TIMES = ("al", "be")

    def dynamics(self, **p: Tensor) -> tuple[Tensor, ...]:
        """See ``AdaptiveNode``."""
        return p["al"], p["be"], p["a"], p["b"]
