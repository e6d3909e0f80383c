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
# The same after every step, [T, B, K].
RUNNING_SCORES = {
    "sum": lambda v_TBK: _running_sum(torch.softmax(v_TBK, dim=2)),
    "mean": lambda v_TBK: _running_sum(v_TBK) / _steps(v_TBK),
    "max": lambda v_TBK: v_TBK.cummax(0).values,
    "last": lambda v_TBK: v_TBK,
    "spike_count": lambda s_TBK: _running_sum(s_TBK),
    "linear_sum": lambda v_TBK: v_TBK,
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

    def forward(self, x: Tensor | Spectrum, *, running: bool = False) -> Tensor:
        """[T, B, I], or its spectrum -> [B, K]; ``running``: [T, B, K], the scores if the input's
        steps up to each were all; the last are those of the whole input.
        """
        spikes = self.neuron(self.linear(x))
        v_TBK = spikes if self.kind == "spike_count" else self.neuron.v_seq
        scores = self.scores(v_TBK)
        if not running:
            return scores
        # the last scores are equal to the bit, though a running sum rounds otherwise
        return torch.cat([self._running_scores(v_TBK)[:-1], scores[None]])

    def scores(self, v_TBK: Tensor) -> Tensor:
        """From the neurons' membranes or spikes, [T, B, K], to scores [B, K]."""
        return (self.own_scores or SCORES[self.kind])(v_TBK)

    def _running_scores(self, v_TBK: Tensor) -> Tensor:
        if self.own_scores is None:
            return RUNNING_SCORES[self.kind](v_TBK)
        return torch.stack([self.scores(v_TBK[:end]) for end in range(1, len(v_TBK) + 1)])


def _running_sum(x_TBK: Tensor) -> Tensor:
    """``cumsum(0)``, which torch lacks for ``train.deterministic`` on a GPU."""
    reach = 1
    while reach < len(x_TBK):
        x_TBK = torch.cat([x_TBK[:reach], x_TBK[reach:] + x_TBK[:-reach]])
        reach *= 2
    return x_TBK


def _steps(v_TBK: Tensor) -> Tensor:
    """Number of steps up to each, [T, 1, 1]."""
    return torch.arange(1, len(v_TBK) + 1, device=v_TBK.device)[:, None, None]
