"""A compact trace of learned delays, a line an epoch, from which their drift can be drawn."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snn_delays.nn import Network


def drawn_delays(network: Network) -> list[Tensor]:
    """The delays as they are now, [O, I, C] of each layer; nothing where none are learned."""
    layers = [m for m in network.delayed_layers() if m.delays == "learned"]
    return [m.delay.detach().clone() for m in layers]


@torch.no_grad()
def delay_trace(network: Network, drawn: list[Tensor]) -> list[dict[str, Any]]:
    """Where the learned delays of each layer are.

    Args:
        network: the network.
        drawn: its delays before training, as ``drawn_delays`` gave them.

    Returns:
        Of each layer, readout last: ``counts``, synapses at each rounded delay [D]; ``moved``, mean
        distance from where they were drawn, steps; ``low`` and ``high``, shares clamped at either
        end.
    """
    lines = []
    for m, before in zip(network.delayed_layers(), drawn, strict=True):
        now, then = m.delay[m.exists], before[m.exists]
        lines.append(
            {
                "counts": torch.bincount(now.round().long(), minlength=m.taps).tolist(),
                "moved": round((now - then).abs().mean().item(), 4),
                "low": round((now == 0).float().mean().item(), 4),
                "high": round((now == m.taps - 1).float().mean().item(), 4),
            }
        )
    return lines
