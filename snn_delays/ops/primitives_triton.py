# mypy: allow-untyped-defs, allow-incomplete-defs
"""Functions of numbers that plain functions call, for kernels on GPUs."""

from __future__ import annotations

from snn_delays.runtime.triton_jit import jit, tl


@jit
def exp(x):
    """``e^x``."""
    return tl.exp(x)


@jit
def absolute(x):
    """``|x|``."""
    return tl.abs(x)


@jit
def where(condition, a, b):
    """As torch's."""
    return tl.where(condition, a, b)


@jit
def quotient(a, b: tl.constexpr):
    """``a / b`` as IEEE rounds it, as torch does on the CPU.

    A plain division in float32 would be off by up to two units in the last place on the GPU. An
    exact one is slow for a zero, which every spike leaves; but a zero is its own quotient.
    """
    zero = a == 0.0
    some = tl.where(zero, 1.0, a)
    divided = tl.div_rn(some, b) if a.dtype == tl.float32 else some / b
    return tl.where(zero, a, divided)
