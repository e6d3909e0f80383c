"""One hidden layer of the network."""

from __future__ import annotations

from torch import Tensor, nn

from snn_delays.nn.delayed_linear import DelayedLinear


class Block(nn.Module):
    """Delayed linear -> BatchNorm -> LIF -> dropout -> (filter).

    Shape: [T, B, I] -> [T + extra_steps, B, O].
    """

    def __init__(
        self,
        linear: DelayedLinear,
        norm: nn.Module,
        neuron: nn.Module,
        dropout: nn.Module,
        filter: nn.Module,
    ) -> None:
        super().__init__()
        self.linear = linear
        self.norm = norm
        self.neuron = neuron
        self.dropout = dropout
        self.filter = filter

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, I] -> [T + extra_steps, B, O]."""
        return self.filter(self.dropout(self.neuron(self.norm(self.linear(x)))))
