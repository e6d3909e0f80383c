"""Modules: the delayed linear layer, SpikingJelly neurons, the readout, the network."""

from snn_delays.nn.delayed_linear import DelayedLinear
from snn_delays.nn.network import (
    Network,
    build_network,
    count_parameters,
    draw_network,
    weight_shapes,
)

__all__ = [
    "DelayedLinear",
    "Network",
    "build_network",
    "count_parameters",
    "draw_network",
    "weight_shapes",
]
