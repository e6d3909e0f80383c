# mypy: allow-untyped-defs
"""Surrogates: what stands for the derivative of a spike with respect to the membrane. A file each.

A surrogate's functions are plain arithmetic of u, the membrane above the threshold, and of numbers.
The loops of ``ops.scan`` compile copies of ``back`` with an ``exp``, an ``abs`` and a ``where`` of
their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from snn_delays.ops.surrogates import atan, boxcar, exponential, triangle
from snn_delays.ops.surrogates.atan import back


@dataclass(frozen=True)
class Surrogate:
    """A kind of surrogate.

    Attributes:
        name: its name in options.
        soft: (u, *numbers) -> a function of which ``back`` is the derivative.
        back: (g, u, *numbers) -> the gradient of u, from that of the spike.
        numbers: alpha -> its numbers; the first is a factor of ``back``, the height.
    """

    name: str
    soft: Callable[..., Any]
    back: Callable[..., Any]
    numbers: Callable[[float], tuple[float, ...]]


ATAN = Surrogate("atan", atan.soft, atan.back, atan.numbers)
SURROGATES = {
    kind.name: kind
    for kind in (
        ATAN,
        Surrogate("triangle", triangle.soft, triangle.back, triangle.numbers),
        Surrogate("boxcar", boxcar.soft, boxcar.back, boxcar.numbers),
        Surrogate("exponential", exponential.soft, exponential.back, exponential.numbers),
    )
}


def through(g, spike):
    """The gradient of the membrane, from that of the spike; loops put in their own.

    Args:
        g: the gradient of the spike.
        spike: what the loop knows of the spike; here the arguments of ``back``.
    """
    return back(g, *spike)
