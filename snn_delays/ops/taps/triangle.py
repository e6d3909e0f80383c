# mypy: allow-untyped-defs
"""The triangle ``max(0, 1 - |u|)`` (DCLS, version "max"), u being the distance in widths.

Numba's and Triton's loops compile these functions with an ``abs`` and a ``where`` of their own, and
Triton would read annotations as code.
"""

from __future__ import annotations

from torch import abs, where


def value(u):
    """What a tap is worth, up to the norm."""
    return where(abs(u) < 1.0, 1.0 - abs(u), 0.0)


def slope(u, value):
    """The derivative of ``value`` with respect to u; 0 at the tip, as for torch's ``abs``."""
    side = where(u < 0.0, 1.0, where(u > 0.0, -1.0, 0.0))
    return where(value > 0.0, side, 0.0)
