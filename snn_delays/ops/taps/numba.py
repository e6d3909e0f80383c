# mypy: allow-untyped-defs
"""Weighted taps and their gradients, compiled; ``Synapses.kernel`` is their definition.

The loops are written once, and ``kernels`` compiles them for a shape and a precision: it replaces
``value`` and ``slope``, and the functions here that call them.

Shapes: C kernel count, n = O I synapses, D taps, R of them wanted. A block of synapses stays in the
innermost cache.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from snn_delays.ops.primitives import absolute, exp_float32, exp_float64, where
from snn_delays.ops.taps.gaussian import slope, value
from snn_delays.ops.taps.synapses import Shape
from snn_delays.runtime.numba_jit import inner, kernel, prange
from snn_delays.runtime.specialise import specialise

WIDTH = 512  # synapses in a block


def _add_taps(d_n, j, inverse, g_n, total_n):
    for q in range(d_n.size):
        g = value((j - d_n[q]) * inverse)
        g_n[q] = g
        total_n[q] += g


def _taps(d_n, inverse, g_Dn, norm_n):
    """Taps that are not normalised yet, and one over what normalises them."""
    norm_n[:] = 1e-7
    for j in range(g_Dn.shape[0]):
        _add_taps(d_n, norm_n.dtype.type(j), inverse, g_Dn[j, : d_n.size], norm_n)
    for q in range(norm_n.size):
        norm_n[q] = 1.0 / norm_n[q]


def _multiply(a_n, b_n, out_n):
    for q in range(out_n.size):
        out_n[q] = a_n[q] * b_n[q]


def _multiply_add(a_n, b_n, out_n):
    for q in range(out_n.size):
        out_n[q] += a_n[q] * b_n[q]


def _weighted(jobs, w_Cn, d_Cn, inverse, taps, out_Rn):
    C, n = w_Cn.shape
    blocks = (n + WIDTH - 1) // WIDTH
    for job in prange(jobs):
        g = np.empty((taps, WIDTH), w_Cn.dtype)
        row = np.empty((2, WIDTH), w_Cn.dtype)
        for block in range(job * blocks // jobs, (job + 1) * blocks // jobs):
            lo, hi = block * WIDTH, min((block + 1) * WIDTH, n)
            m = hi - lo
            for c in range(C):
                _taps(d_Cn[c, lo:hi], inverse, g, row[1, :m])
                _multiply(row[1, :m], w_Cn[c, lo:hi], row[0, :m])
                for j in range(out_Rn.shape[0]):
                    if c == 0:
                        _multiply(row[0, :m], g[j, :m], out_Rn[j, lo:hi])
                    else:
                        _multiply_add(row[0, :m], g[j, :m], out_Rn[j, lo:hi])


def _add_moment(g_n, d_n, j, inverse, moment_n):
    for q in range(d_n.size):
        moment_n[q] += slope((j - d_n[q]) * inverse, g_n[q])


def _add_pulls(g_n, grad_n, d_n, j, inverse, of_weight_n, of_delay_n):
    for q in range(d_n.size):
        of_weight_n[q] += g_n[q] * grad_n[q]
        of_delay_n[q] += slope((j - d_n[q]) * inverse, g_n[q]) * grad_n[q]


def _finish(w_n, norm_n, inverse, moment_n, of_weight_n, of_delay_n):
    for q in range(w_n.size):
        of_weight_n[q] *= norm_n[q]
        pull = moment_n[q] * of_weight_n[q] - of_delay_n[q]
        of_delay_n[q] = w_n[q] * inverse * norm_n[q] * pull


def _gradient(jobs, w_Cn, d_Cn, inverse, taps, grad_Rn, g_w_Cn, g_d_Cn):
    """With N the norm: ``dg_j/dd = -(slope_j - g_j / N sum_j' slope_j') / (N width)``."""
    C, n = w_Cn.shape
    blocks = (n + WIDTH - 1) // WIDTH
    for job in prange(jobs):
        g = np.empty((taps, WIDTH), w_Cn.dtype)
        row = np.empty((2, WIDTH), w_Cn.dtype)
        for block in range(job * blocks // jobs, (job + 1) * blocks // jobs):
            lo, hi = block * WIDTH, min((block + 1) * WIDTH, n)
            m = hi - lo
            norm, moment = row[0, :m], row[1, :m]
            for c in range(C):
                d, g_w, g_d = d_Cn[c, lo:hi], g_w_Cn[c, lo:hi], g_d_Cn[c, lo:hi]
                _taps(d, inverse, g, norm)
                moment[:] = 0
                g_w[:] = 0
                g_d[:] = 0
                for j in range(taps):
                    _add_moment(g[j, :m], d, norm.dtype.type(j), inverse, moment)
                for j in range(grad_Rn.shape[0]):
                    _add_pulls(
                        g[j, :m], grad_Rn[j, lo:hi], d, norm.dtype.type(j), inverse, g_w, g_d
                    )
                _finish(w_Cn[c, lo:hi], norm, inverse, moment, g_w, g_d)


@dataclass(frozen=True)
class Kernels:
    """The loops for one shape and precision; they take arrays, and numbers of that precision.

    Attributes:
        weighted: (weight [C, n], delay [C, n], 1 / width, D, out [R, n]).
        gradient: (weight, delay, 1 / width, D, g_out [R, n], g_weight [C, n], g_delay [C, n]).
    """

    weighted: Callable[..., None]
    gradient: Callable[..., None]


@functools.cache
def kernels(shape: Shape, number: type) -> Kernels:
    """The loops compiled for a shape, for np.float32 or np.float64."""
    suffix = f"_{shape.name}_{number.__name__}"

    def compiled(function, compile=inner, **names):
        return compile(specialise(function, __name__, suffix, number, **names))

    exp = exp_float32 if number is np.float32 else exp_float64
    names = {"exp": exp, "abs": absolute, "where": where}
    names = {"value": compiled(shape.value, **names), "slope": compiled(shape.slope, **names)}
    for function in (_add_taps, _add_moment, _add_pulls, _multiply, _multiply_add, _finish):
        names[function.__name__] = compiled(function, **names)
    names["_taps"] = compiled(_taps, **names)
    return Kernels(compiled(_weighted, kernel, **names), compiled(_gradient, kernel, **names))
