# mypy: allow-untyped-defs
"""Functions of numbers that compiled loops on the CPU have of their own, and vectorise."""

from __future__ import annotations

import functools
import math

import numpy as np

from snn_delays.ops.spectral.gemm_llvm import float_of_bits
from snn_delays.runtime.numba_jit import inner

# sums in their order: the logarithm of two comes in two parts, which must stay apart
exact_inner = functools.partial(inner, fastmath={"contract", "nsz", "arcp"})


@exact_inner
def exp_float32(x):
    """``e^x`` for x up to 88, at most 2 units in the last place off; at least e^-87.

    Cephes' polynomial after taking out the power of two, which is made from its bits.
    """
    x = max(x, np.float32(-87))
    n = np.floor(x * np.float32(1.4426950408889634) + np.float32(0.5))
    r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    power = float_of_bits((np.int32(n) + np.int32(127)) << np.int32(23))
    return (p * r * r + r + np.float32(1)) * power


@inner
def exp_float64(x):
    """``e^x``."""
    return math.exp(x)


@inner
def absolute(x):
    """``|x|``."""
    return abs(x)


@inner
def where(condition, a, b):
    """As torch's."""
    return a if condition else b


@functools.partial(inner, fastmath=False)
def quotient(a, b):
    """``a / b``, rounded as IEEE says: no product by ``1 / b``."""
    return a / b
