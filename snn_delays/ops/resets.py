# mypy: allow-untyped-defs
"""Resets: what a spike leaves of the membrane.

A reset's functions are plain arithmetic, as a neuron's are (``ops.neurons``), which calls them as
``rest`` and ``rest_back``. theta is the firing threshold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import where


@dataclass(frozen=True)
class Reset:
    """A kind of reset.

    Attributes:
        name: tells kernels apart.
        rest: (u, s, theta) -> the membrane after the step, s being the spike, 0 or 1.
        rest_back: (g_s, g_r, u, s, theta) -> the gradients of s and of u, from that of s so far and
            that of the membrane after the step.
        detached: whether no gradient passes from the membrane after the step to the spike.
    """

    name: str
    rest: Callable[..., Any]
    rest_back: Callable[..., Any]
    detached: bool


def hard(u, s, theta):
    """After a spike the membrane is 0."""
    return where(s > 0.0, 0.0, u)


def hard_back(g_s, g_r, u, s, theta):
    """``rest_back`` of a hard reset that is detached."""
    return g_s, where(s > 0.0, 0.0, g_r)


def hard_attached(u, s, theta):
    """``hard``, differentiable in the spike."""
    return u - s * u


def hard_attached_back(g_s, g_r, u, s, theta):
    """``rest_back`` of a hard reset."""
    return g_s - g_r * u, where(s > 0.0, 0.0, g_r)


def soft(u, s, theta):
    """A spike takes the threshold off the membrane."""
    return u - theta * s


def soft_back(g_s, g_r, u, s, theta):
    """``rest_back`` of a soft reset that is detached."""
    return g_s, g_r


def soft_attached_back(g_s, g_r, u, s, theta):
    """``rest_back`` of a soft reset."""
    return g_s - g_r * theta, g_r


HARD = Reset("hard", hard, hard_back, detached=True)
RESETS = {  # by their name in options and by whether they are detached
    ("hard", True): HARD,
    ("hard", False): Reset("hard_attached", hard_attached, hard_attached_back, detached=False),
    ("soft", True): Reset("soft", soft, soft_back, detached=True),
    ("soft", False): Reset("soft_attached", soft, soft_attached_back, detached=False),
}
