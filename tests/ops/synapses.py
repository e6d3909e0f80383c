"""Synapses for tests."""

from __future__ import annotations

from torch import Tensor

from snn_delays.ops.taps import SHAPES, Synapses


def synapses(
    weight: Tensor, delay: Tensor, sigma: float | None, taps: int, shape: str = "gauss"
) -> Synapses:
    """Learned ones of a width; with None deployed ones."""
    if sigma is None:
        return Synapses(weight, delay, taps)
    return Synapses(weight, delay, taps, SHAPES[shape], weight.new_tensor(sigma))
