# mypy: allow-untyped-defs
"""The LIF neuron, its leak set: ``u = v - v / tau + x``; after a spike v is 0.

Rounded in SpikingJelly's order, so that spikes equal SpikingJelly's bit by bit.
"""

from __future__ import annotations

from operator import truediv as quotient

from torch import where

from snn_delays.ops.neurons.atan import through


def charge(x, v, tau):
    """The membrane after the input, before the neuron may fire."""
    return v - quotient(v, tau) + x


def reset(u, s, v, tau):
    """The membrane after the step; no gradient passes from the spike."""
    return (where(s > 0.0, 0.0, u),)


def back(g_s, spike, x, u, s, v, tau, g_v):
    """The gradients of the input, of v, and of no parameter."""
    g = through(g_s, spike) + where(s > 0.0, 0.0, g_v)
    return g, (g * (1.0 - 1.0 / tau),), ()


def charge_by_factor(x, v, keep):
    """``charge`` with ``keep = 1 - 1 / tau``, rounded otherwise.

    The block on spectra takes it: a division in every step would take longer than the rest of the
    step, and the spectra's own rounding leaves no spikes that could equal SpikingJelly's.
    """
    return v * keep + x


def back_by_factor(g_s, spike, x, u, s, v, keep, g_v):
    """``back`` of ``charge_by_factor``."""
    g = through(g_s, spike) + where(s > 0.0, 0.0, g_v)
    return g, (keep * g,), ()
