"""Statistics of the learned delays, one line per epoch, from which their drift can be drawn."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snn_delays.nn import Network


def drawn_delays(network: Network) -> list[Tensor]:
    """A copy of each layer's delays, as it holds them; an empty list if no delays are learned."""
    layers = [m for m in network.delayed_layers() if m.delays == "learned"]
    return [m.delay.detach().clone() for m in layers]


@torch.no_grad()
def delay_trace(network: Network, drawn: list[Tensor]) -> list[dict[str, Any]]:
    """Statistics of each layer's learned delays.

    Args:
        network: the network.
        drawn: its delays before training, from ``drawn_delays``.

    Returns:
        For each layer, readout last: ``counts``, number of delays at each whole step, [D];
        ``moved``, mean distance from the initial delays, in steps; ``low`` and ``high``, shares of
        delays that are clamped at the lower and upper bound.
    """
    lines = []
    for m, before in zip(network.delayed_layers(), drawn, strict=True):
        now, then = m.delay[m.delay_exists], before[m.delay_exists]
        lines.append(
            {
                "counts": torch.bincount(now.round().long(), minlength=m.taps).tolist(),
                "moved": round((now - then).abs().mean().item(), 4),
                "low": round((now == 0).float().mean().item(), 4),
                "high": round((now == m.taps - 1).float().mean().item(), 4),
            }
        )
    return lines
