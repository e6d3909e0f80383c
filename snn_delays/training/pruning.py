"""Pruning of synapses until the delay buffer of a deployed network fits into a budget.

Its size is ``Network.buffer_steps``. Shapes: N inputs of all layers, O outputs, I inputs, D taps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snn_delays.errors import UserError
from snn_delays.nn import DelayedLinear, Network
from snn_delays.training.distributed import reported_once


@torch.no_grad()
def prune_to_budget(network: Network, budget: int) -> None:
    """Remove synapses of long delays until ``network.buffer_steps`` is at most ``budget``.

    A cut removes all synapses of an input whose delay exceeds a limit. The cut comes first that
    costs least for each step of buffer that it saves. Its cost is the sum of the squared weights
    that it removes, as a share of the layer's. A network that fits stays as it is.

    Args:
        network: its delays are frozen, its layers prunable.
        budget: in steps.

    Raises:
        UserError: a layer would keep no synapse.
    """
    layers = list(network.delayed_layers())
    longest = max(linear.taps for linear in layers)
    kept_ND = torch.cat([_kept_weight(linear, longest) for linear in layers])
    lengths_N = torch.cat([linear.buffer_steps.cpu() for linear in layers])
    _cut(lengths_N, kept_ND, budget)
    parts = lengths_N.split([linear.weight.shape[1] for linear in layers])
    for number, length_I in enumerate(parts, 1):
        if not length_I.any():
            raise reported_once(
                UserError(
                    f"train.buffer_budget={budget} leaves layer {number} of {len(layers)} without"
                    " synapses: raise it, or shorten delays by train.delay_penalty."
                )
            )
    for linear, length_I in zip(layers, parts, strict=True):
        linear.prune(_pair_steps(linear) <= length_I.to(linear.weight.device))


def _cut(lengths_N: Tensor, kept_ND: Tensor, budget: int) -> None:
    """Shorten ``lengths_N``, in place, cut by cut."""
    steps_D = torch.arange(kept_ND.shape[1])
    while lengths_N.sum() > budget:
        saved_ND = lengths_N.unsqueeze(1) - steps_D
        lost_ND = kept_ND.gather(1, lengths_N.unsqueeze(1)) - kept_ND
        price_ND = torch.where(saved_ND > 0, lost_ND / saved_ND, torch.inf)
        row, length = divmod(int(price_ND.argmin()), len(steps_D))
        lengths_N[row] = length


def _pair_steps(linear: DelayedLinear) -> Tensor:
    """Steps of an input that each output needs, by the longest delay of their copies, [O, I]."""
    return (1 + linear.delay).amax(2).expand(linear.weight.shape[:2])


def _kept_weight(linear: DelayedLinear, longest: int) -> Tensor:
    """Share of a layer's squared weights within 0, 1, ... steps of each input, [I, longest + 1]."""
    squares_OI = (linear.weight * linear.exists).cpu().double().square().sum(2)
    kept = squares_OI.new_zeros(squares_OI.shape[1], longest + 1)
    kept.scatter_add_(1, _pair_steps(linear).cpu().long().T, squares_OI.T / squares_OI.sum())
    return kept.cumsum(1)
