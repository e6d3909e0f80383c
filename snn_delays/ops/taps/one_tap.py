"""The deployed synapse: one tap of its whole weight at the rounded delay.

Shapes: C kernel count, n = O I synapses, D taps, R of them wanted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snn_delays.runtime.tracing import watcher


def whole_delay(delay: Tensor, taps: int) -> Tensor:
    """Delays rounded to the nearest step, half to even, as int64.

    Raises:
        ValueError: a delay outside [0, taps - 1], or NaN, where looking at it costs no wait.
    """
    steps = delay.detach().round()
    looked_at = steps.device.type == "cpu" and steps.numel() and not watcher()
    if looked_at and not 0 <= steps.min() <= steps.max() < taps:
        raise ValueError(f"delays must lie in [0, {taps - 1}], the taps.")
    return steps.long()


def weighted(weight_Cn: Tensor, delay_Cn: Tensor, taps: int, out_Rn: Tensor) -> None:
    """Out <- the first R taps of ``sum_c w [j = round(d)]``."""
    whole_Dn = weight_Cn.new_zeros(taps, weight_Cn.shape[1])
    index_Cn = whole_delay(delay_Cn, taps)
    out_Rn.copy_(whole_Dn.scatter_add_(0, index_Cn, weight_Cn)[: len(out_Rn)])


def gradient(delay_Cn: Tensor, taps: int, g_out_Rn: Tensor) -> Tensor:
    """Of the weights, [C, n]: what arrives at their taps; the rounded delay has none."""
    index_Cn, reach = whole_delay(delay_Cn, taps), len(g_out_Rn)
    return torch.mul(g_out_Rn.gather(0, index_Cn.clamp(max=reach - 1)), index_Cn < reach)
