# mypy: allow-untyped-defs
"""The PLIF neuron (Fang et al. 2021), which learns the share that leaks: ``u = v - v share + x``.

Rounded in SpikingJelly's order. Its reset is LIF's.
"""

from __future__ import annotations

from torch import where

from snn_delays.ops.neurons.atan import through


def charge(x, v, share):
    """The membrane after the input, before the neuron may fire."""
    return v - v * share + x


def back(g_s, spike, x, u, s, v, share, g_v):
    """The gradients of the input, of v and of the share."""
    g = through(g_s, spike) + where(s > 0.0, 0.0, g_v)
    return g, (g * (1.0 - share),), (-(g * v),)
