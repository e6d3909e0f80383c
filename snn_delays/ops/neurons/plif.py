# mypy: allow-untyped-defs
"""The PLIF neuron (Fang et al. 2021), which learns the share that leaks: ``u = v - v share + x``.

Rounded in SpikingJelly's order. Its reset is LIF's.
"""

from __future__ import annotations

from snn_delays.ops.resets import hard_back as rest_back
from snn_delays.ops.surrogates import through


def charge(x, v, share):
    """The membrane after the input, before the neuron may fire."""
    return v - v * share + x


def back(g_s, spike, x, u, s, theta, v, share, g_v):
    """The gradients of the input, of v and of the share."""
    g_s, g_u = rest_back(g_s, g_v, u, s, theta)
    g = through(g_s, spike) + g_u
    return g, (g * (1.0 - share),), (-(g * v),)
