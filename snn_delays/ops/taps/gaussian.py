# mypy: allow-untyped-defs
"""The Gaussian ``exp(-u^2 / 2)`` (DCLS, version "gauss"), u being the distance in widths.

Numba's and Triton's loops compile these functions with an ``exp`` of their own, and
Triton would read annotations as code.
"""

from __future__ import annotations

from torch import exp


def value(u):
    """What a tap is worth, up to the norm."""
    return exp(u * u * -0.5)


def slope(u, value):
    """The derivative of ``value`` with respect to u."""
    return -u * value
