# mypy: allow-untyped-defs
"""LIF and PLIF neurons that never fire: the membrane is their output. Their charges are the same.

Their ways back round as their charges do; those of neurons that fire save a division.
"""

from __future__ import annotations

from operator import truediv as quotient


def reset(u, s, theta, v, leak):
    """Nothing is reset."""
    return (u,)


def back(g_u, spike, x, u, s, theta, v, tau, g_v):
    """Of a LIF neuron: the gradients of the input, of v, and of no parameter."""
    g = g_u + g_v
    return g, (g - quotient(g, tau),), ()


def back_learned(g_u, spike, x, u, s, theta, v, share, g_v):
    """Of a PLIF neuron: the gradients of the input, of v and of the share."""
    g = g_u + g_v
    return g, (g - g * share,), (-(g * v),)
