# mypy: allow-untyped-defs
"""The surrogate ATan: ``height / (1 + (steepness u)^2)``, u being the membrane above threshold.

SpikingJelly's alpha makes ``height = alpha / 2`` and ``steepness = pi alpha / 2``.
"""

from __future__ import annotations

import math

from torch import atan


def soft(u, height, steepness):
    """A function of which ``back`` is the derivative."""
    return atan(steepness * u) * (height / steepness)


def back(g, u, height, steepness):
    """The gradient of u, from that of the spike."""
    d = steepness * u
    return g * height / (1.0 + d * d)


def numbers(alpha):
    """Height and steepness."""
    return alpha / 2, math.pi / 2 * alpha
