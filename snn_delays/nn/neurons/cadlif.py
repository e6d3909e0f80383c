"""cAdLIF (Deckers et al. 2024): adLIF whose membrane cannot oscillate without bound."""

from __future__ import annotations

from torch import Tensor, nn

from snn_delays.nn.neurons.adlif import AdLIFNode
from snn_delays.nn.neurons.node import stock


@stock
class CAdLIFNode(AdLIFNode):
    """Learns al, be, a and b themselves; bounds and draws are those published with SiLIF."""

    DRAWS = BOUNDS = {  # noqa: RUF012 - class variables of the base
        "al": (0.36, 0.96),
        "be": (0.96, 0.99),
        "a": (0.0, 1.0),
        "b": (0.0, 2.0),
    }


def draw_weight(weight: Tensor) -> None:
    """Xavier uniform, as published."""
    nn.init.xavier_uniform_(weight)
