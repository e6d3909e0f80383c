# mypy: allow-untyped-defs
"""The LIF neuron, its leak set: ``u = v - v / tau + x``.

Rounded in SpikingJelly's order, so that spikes equal SpikingJelly's bit by bit.
"""

from __future__ import annotations

from operator import truediv as quotient

from snn_delays.ops.resets import hard as rest
from snn_delays.ops.resets import hard_back as rest_back
from snn_delays.ops.surrogates import through


def charge(x, v, tau):
    """The membrane after the input, before the neuron may fire."""
    return v - quotient(v, tau) + x


def reset(u, s, theta, v, tau):
    """The membrane after the step."""
    return (rest(u, s, theta),)


def back(g_s, spike, x, u, s, theta, v, tau, g_v):
    """The gradients of the input, of v, and of no parameter."""
    g_s, g_u = rest_back(g_s, g_v, u, s, theta)
    g = through(g_s, spike) + g_u
    return g, (g * (1.0 - 1.0 / tau),), ()


def charge_by_factor(x, v, keep):
    """``charge`` with ``keep = 1 - 1 / tau``, rounded otherwise.

    The block on spectra takes it: a division in every step would take longer than the rest of the
    step, and the spectra's own rounding leaves no spikes that could equal SpikingJelly's.
    """
    return v * keep + x


def back_by_factor(g_s, spike, x, u, s, theta, v, keep, g_v):
    """``back`` of ``charge_by_factor``."""
    g_s, g_u = rest_back(g_s, g_v, u, s, theta)
    g = through(g_s, spike) + g_u
    return g, (keep * g,), ()
