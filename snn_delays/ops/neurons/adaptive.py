# mypy: allow-untyped-defs
"""The adaptive neuron: a second state w holds the membrane back after spikes.

``u = al r + (1 - al) (x - w)``, r being the membrane after the last step's reset, and then
``w = be w + a m + b s``: m is u, or with ``_after`` r after the step's reset. adLIF (Bittar and
Garner 2022), cAdLIF (Deckers et al. 2024) and SiLIF have the first, SE-adLIF (Baronig et al. 2025)
the second. A factor of ``a m + b s`` is multiplied into a and b.
"""

from __future__ import annotations

from snn_delays.ops.resets import hard as rest
from snn_delays.ops.resets import hard_back as rest_back
from snn_delays.ops.surrogates import through


def charge(x, r, w, al, be, a, b):
    """The membrane after the input, before the neuron may fire."""
    return al * r + (1.0 - al) * (x - w)


def reset(u, s, theta, r, w, al, be, a, b):
    """The membrane and w after the step."""
    return rest(u, s, theta), be * w + (a * u + b * s)


def back(g_s, spike, x, u, s, theta, r, w, al, be, a, b, g_r, g_w):
    """The gradients of the input, of r and w, and of al, be, a and b."""
    g_s, g_u = rest_back(g_s + g_w * b, g_r, u, s, theta)
    g = through(g_s, spike) + g_u + g_w * a
    g_x = (1.0 - al) * g
    return g_x, (al * g, be * g_w - g_x), (g * (r - x + w), g_w * w, g_w * u, g_w * s)


def reset_after(u, s, theta, r, w, al, be, a, b):
    """``reset`` where w takes the membrane after the reset."""
    left = rest(u, s, theta)
    return left, be * w + (a * left + b * s)


def back_after(g_s, spike, x, u, s, theta, r, w, al, be, a, b, g_r, g_w):
    """``back`` of ``reset_after``."""
    g_s, g_u = rest_back(g_s + g_w * b, g_r + g_w * a, u, s, theta)
    g = through(g_s, spike) + g_u
    g_x = (1.0 - al) * g
    g_own = g * (r - x + w), g_w * w, g_w * rest(u, s, theta), g_w * s
    return g_x, (al * g, be * g_w - g_x), g_own
