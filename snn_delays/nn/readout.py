"""From the last hidden layer's spikes to class scores."""

from __future__ import annotations

import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from snn_delays.config import ModelConfig
from snn_delays.config.options import check_options, is_own
from snn_delays.nn.delayed_linear import DelayedLinear
from snn_delays.nn.own_parts import own_readout
from snn_delays.ops.spectral.spectrum import Spectrum

SCORES = {
    "sum": lambda v_TBK: torch.softmax(v_TBK, dim=2).sum(0),
    "mean": lambda v_TBK: v_TBK.mean(0),
    "max": lambda v_TBK: v_TBK.amax(0),
    "last": lambda v_TBK: v_TBK[-1],
    "spike_count": lambda s_TBK: s_TBK.sum(0),
    "linear_sum": lambda v_TBK: v_TBK[-1],  # of membranes that do not leak
}


class Readout(nn.Module):
    """A delayed linear layer and a membrane that never fires (or, for spike_count, one that does).

    Shape: [T, B, I] -> scores [B, K], which cross-entropy takes as logits.

    Args:
        linear: the delayed linear layer.
        node: the output neurons; infinite threshold and stored membrane unless ``spike_count``.
        kind: a key of ``SCORES``, or ``module:name`` of the user's own.

    Raises:
        ValueError: another kind.

    Attributes:
        own_scores: the user's own function or module; None: that of ``kind``.
    """

    def __init__(self, linear: DelayedLinear, node: neuron.BaseNode, kind: str) -> None:
        super().__init__()
        check_options(ModelConfig, readout=kind)
        self.linear = linear
        self.neuron = node
        self.kind = kind
        self.own_scores = own_readout(kind, classes=len(linear.weight)) if is_own(kind) else None

    def forward(self, x: Tensor | Spectrum) -> Tensor:
        """[T, B, I], or its spectrum -> [B, K]."""
        return self.scores(self.linear(x))

    def scores(self, y: Tensor) -> Tensor:
        """From the delayed linear layer's output, [T, B, K], to scores [B, K]."""
        spikes = self.neuron(y)
        scores = self.own_scores or SCORES[self.kind]
        return scores(spikes if self.kind == "spike_count" else self.neuron.v_seq)
