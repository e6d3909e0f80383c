# mypy: allow-untyped-defs
"""The leaky membrane ``v = al v + (1 - al) x``, which never fires: the readout of adaptive neurons.

Its reset is that of ``integrator``.
"""

from __future__ import annotations


def charge(x, v, al):
    """The membrane after the input."""
    return al * v + (1.0 - al) * x


def back(g_u, spike, x, u, s, theta, v, al, g_v):
    """The gradients of the input, of v and of al."""
    g = g_u + g_v
    return (1.0 - al) * g, (al * g,), (g * (v - x),)
