"""The LIF neuron that learns tau (Fang et al. 2021)."""

from __future__ import annotations

from typing import Any

from spikingjelly.activation_based import neuron
from torch import Tensor

from snn_delays.nn.neurons.node import ScannedNode, stock
from snn_delays.ops.neurons import PLI, PLIF


@stock
class ParametricLIFNode(ScannedNode, neuron.ParametricLIFNode):
    """SpikingJelly's ``ParametricLIFNode``, faster."""

    def _step(self) -> tuple[Any, ...]:
        return (PLI if self.integrates else PLIF,)

    def own(self) -> tuple[Tensor, ...]:
        """The share of the membrane that leaks in a step."""
        return (self.w.sigmoid(),)
