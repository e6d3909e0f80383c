# mypy: allow-untyped-defs
"""The surrogate exponential: ``height e^(-steepness |u|)``, u being the membrane above threshold.

SLAYER's (Shrestha and Orchard 2018). The height is ``0.4 alpha / 2``, as SE-adLIF networks have it.
"""

from __future__ import annotations

from torch import abs, exp, where


def soft(u, height, steepness):
    """A function of which ``back`` is the derivative."""
    far = exp(-steepness * where(u < 0.0, -u, u))
    return where(u < 0.0, far, 2.0 - far) * (height / steepness)


def back(g, u, height, steepness):
    """The gradient of u, from that of the spike."""
    return g * height * exp(-steepness * abs(u))


def numbers(alpha):
    """Height and steepness."""
    return 0.2 * alpha, alpha
