"""The LIF neuron, its tau set."""

from __future__ import annotations

from typing import Any

from spikingjelly.activation_based import neuron

from snn_delays.nn.neurons.node import ScannedNode, stock
from snn_delays.ops.neurons import LI, LIF


@stock
class LIFNode(ScannedNode, neuron.LIFNode):
    """SpikingJelly's ``LIFNode``, faster."""

    def _step(self) -> tuple[Any, ...]:
        return LI if self.integrates else LIF, self.tau
