# mypy: allow-untyped-defs
"""BatchNorm, LIF and dropout between two spectra, compiled: four passes over memory, two a way.

The step and the way back are the neuron's own (``ops.neurons``), as in ``ops.scan``; the loops are
of tiles, and ``kernels`` compiles them for a precision. Of a step they keep one number a neuron,
which serves a neuron of one state whose way back wants no more of a step than the spike.

Shapes as in ``ops.spectral.fft_tiles``; sequences in memory are [B, T, C]. A job takes whole
samples. The loops of a tile are functions of their own, or LLVM would not vectorise them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from snn_delays.ops.neurons import BLOCK_LIF, Cell
from snn_delays.ops.scan.numba import functions
from snn_delays.ops.spectral.fft_tiles import clear, lanes, new_tile, read_spectrum, write_spectrum
from snn_delays.ops.surrogates import ATAN
from snn_delays.runtime.numba_jit import inner, kernel, prange
from snn_delays.runtime.specialise import specialise

charge, reset, back = BLOCK_LIF.charge, BLOCK_LIF.reset, BLOCK_LIF.back  # see ``kernels``
surrogate = ATAN.back


@inner
def _take(plane, L, scale, pivot_C, b, first, last, y_BTC, sums_B2C):
    pivot = pivot_C[first:last]
    total, squares = sums_B2C[b, 0, first:last], sums_B2C[b, 1, first:last]
    total[:] = 0
    squares[:] = 0
    for t in range(y_BTC.shape[1]):
        row, z = y_BTC[b, t, first:last], plane[t * L : (t + 1) * L]
        for q in range(row.size):
            y = scale * z[q]
            row[q] = y
            u = y - pivot[q]
            total[q] += u
            squares[q] += u * u


@kernel
def to_time_with_sums(jobs, Y, radices, cos, sin, pivot_C, y_BTC, sums_B2C):
    """y <- the first T steps of spectrum Y; per sample, sum and sum of squares of ``y - pivot``."""
    B, _, C = y_BTC.shape
    N = cos.size
    L = lanes(C, N)
    scale = cos.dtype.type(1.0 / N)
    for job in prange(jobs):
        tile = new_tile(L, cos)
        for b in range(job * B // jobs, (job + 1) * B // jobs):
            for first in range(0, C, 2 * L):
                last, middle = min(first + 2 * L, C), min(first + L, C)
                one, two = read_spectrum(tile, L, radices, cos, sin, Y, b, first, last)
                _take(one, L, scale, pivot_C, b, first, middle, y_BTC, sums_B2C)
                _take(two, L, scale, pivot_C, b, middle, last, y_BTC, sums_B2C)


def _fire(y_BTC, scale_C, shift_C, mask_BC, keep, v_threshold, b, first, last, plane, L, v_BC):
    scale, shift = scale_C[first:last], shift_C[first:last]
    mask, v = mask_BC[b, first:last], v_BC[b, first:last]
    v[:] = 0.0
    for t in range(y_BTC.shape[1]):
        y, s = y_BTC[b, t, first:last], plane[t * L : (t + 1) * L]
        for q in range(y.size):
            before = v[q]  # read first: the order of reading decides how LLVM orders the sum
            u = charge(scale[q] * y[q] + shift[q], before, keep)
            fired = 1.0 if u >= v_threshold else 0.0
            s[q] = mask[q] * fired
            (v[q],) = reset(u, fired, v_threshold, before, keep)


def _norm_lif(
    jobs, y_BTC, scale_C, shift_C, mask_BC, keep, v_threshold, radices, cos, sin, S, v_BC
):  # fmt: skip
    """S <- the spectrum of ``mask * LIF(scale y + shift)``, with v = keep v + input.

    The membrane after the last step goes to v_BC.
    """
    B, T, C = y_BTC.shape
    N = cos.size
    L = lanes(C, N)
    for job in prange(jobs):
        tile = new_tile(L, cos)
        for b in range(job * B // jobs, (job + 1) * B // jobs):
            for first in range(0, C, 2 * L):
                last, middle = min(first + 2 * L, C), min(first + L, C)
                clear(tile, L, N, T, last - first)
                _fire(
                    y_BTC, scale_C, shift_C, mask_BC, keep, v_threshold, b, first, middle,
                    tile[0], L, v_BC,
                )  # fmt: skip
                _fire(
                    y_BTC, scale_C, shift_C, mask_BC, keep, v_threshold, b, middle, last,
                    tile[1], L, v_BC,
                )  # fmt: skip
                write_spectrum(tile, L, radices, cos, sin, S, b, first, last)


def _slopes(
    y_BTC, scale_C, shift_C, mask_BC, keep, v_threshold, height, steepness, b, first, last, v,
    slope_TC,
):  # fmt: skip
    """What the gradient of a spike is multiplied by, negative where the neuron fired.

    The membrane is computed again instead of being kept.
    """
    scale, shift, mask = scale_C[first:last], shift_C[first:last], mask_BC[b, first:last]
    v[:] = 0.0
    for t in range(y_BTC.shape[1]):
        y, slope = y_BTC[b, t, first:last], slope_TC[t]
        for q in range(y.size):
            before = v[q]  # read first: the order of reading decides how LLVM orders the sum
            u = charge(scale[q] * y[q] + shift[q], before, keep)
            fired = 1.0 if u >= v_threshold else 0.0
            size = surrogate(mask[q], u - v_threshold, height, steepness)
            slope[q] = -size if fired > 0.0 else size
            (v[q],) = reset(u, fired, v_threshold, before, keep)


def _through(g, slope):
    return abs(slope) * g


def _step_back(g_s, slope, keep, g_v):
    """The gradient of the spikes, in place, becomes that of the neuron's input."""
    for q in range(g_v.size):
        fired = 1.0 if slope[q] < 0.0 else 0.0
        unknown = 0.0  # input and membranes
        g_s[q], (g_v[q],), _ = back(
            g_s[q], slope[q], unknown, unknown, fired, unknown, unknown, keep, g_v[q]
        )


def _back(plane, L, slope_TC, y_BTC, mean_C, rstd_C, keep, b, first, last, g_v, g_BTC, sums_B2C):
    """Back in time; sums of the gradient and of it times the normalised y."""
    T = y_BTC.shape[1]
    g_v[:] = 0.0
    for t in range(T - 1, -1, -1):
        _step_back(plane[t * L : (t + 1) * L], slope_TC[t], keep, g_v)
    mean, rstd = mean_C[first:last], rstd_C[first:last]
    total, moment = sums_B2C[b, 0, first:last], sums_B2C[b, 1, first:last]
    total[:] = 0
    moment[:] = 0
    for t in range(T):
        w, y, g = plane[t * L : (t + 1) * L], y_BTC[b, t, first:last], g_BTC[b, t, first:last]
        for q in range(g.size):
            g[q] = w[q]
            total[q] += w[q]
            moment[q] += w[q] * (y[q] - mean[q])
    for q in range(moment.size):
        moment[q] *= rstd[q]


def _norm_lif_gradient(
    jobs, G_S, radices, cos, sin, y_BTC, scale_C, shift_C, mean_C, rstd_C, mask_BC, keep,
    v_threshold, height, steepness, g_BTC, sums_B2C,
):  # fmt: skip
    """From the gradient of the masked spikes, a spectrum, to that of the LIF's input.

    Also per sample its sum over time, and that of it times the normalised y.
    """
    B, T, C = y_BTC.shape
    N = cos.size
    L = lanes(C, N)
    per_step = height * cos.dtype.type(1.0 / N)
    for job in prange(jobs):
        tile, slope, v = new_tile(L, cos), np.empty((T, L), cos.dtype), np.empty(L, cos.dtype)
        for b in range(job * B // jobs, (job + 1) * B // jobs):
            for start in range(0, C, 2 * L):
                end = min(start + 2 * L, C)
                planes = read_spectrum(tile, L, radices, cos, sin, G_S, b, start, end)
                for half in range(2):
                    first, last = min(start + half * L, end), min(start + (half + 1) * L, end)
                    _slopes(
                        y_BTC, scale_C, shift_C, mask_BC, keep, v_threshold, per_step, steepness,
                        b, first, last, v, slope,
                    )  # fmt: skip
                    _back(
                        planes[half], L, slope, y_BTC, mean_C, rstd_C, keep, b, first, last, v,
                        g_BTC, sums_B2C,
                    )  # fmt: skip


@inner
def _mix(g_BTC, y_BTC, a_C, b_C, c_C, b, first, last, plane, L):
    of_g, shift, of_y = a_C[first:last], b_C[first:last], c_C[first:last]
    for t in range(y_BTC.shape[1]):
        g, y, z = g_BTC[b, t, first:last], y_BTC[b, t, first:last], plane[t * L : (t + 1) * L]
        for q in range(g.size):
            z[q] = of_g[q] * g[q] + shift[q] + of_y[q] * y[q]


@kernel
def norm_gradient(jobs, g_BTC, y_BTC, a_C, b_C, c_C, radices, cos, sin, G):
    """G <- the spectrum of BatchNorm's gradient ``a g + b + c y``."""
    B, T, C = y_BTC.shape
    N = cos.size
    L = lanes(C, N)
    for job in prange(jobs):
        tile = new_tile(L, cos)
        for b in range(job * B // jobs, (job + 1) * B // jobs):
            for first in range(0, C, 2 * L):
                last, middle = min(first + 2 * L, C), min(first + L, C)
                clear(tile, L, N, T, last - first)
                _mix(g_BTC, y_BTC, a_C, b_C, c_C, b, first, middle, tile[0], L)
                _mix(g_BTC, y_BTC, a_C, b_C, c_C, b, middle, last, tile[1], L)
                write_spectrum(tile, L, radices, cos, sin, G, b, first, last)


@dataclass(frozen=True)
class Kernels:
    """The neuron's loops for one precision.

    Attributes:
        norm_lif: see ``_norm_lif``.
        gradient: see ``_norm_lif_gradient``.
    """

    norm_lif: Callable[..., None]
    gradient: Callable[..., None]


@functools.cache
def kernels(number: type) -> Kernels:
    """The neuron's loops for np.float32 or np.float64."""

    def compiled(function, compile=inner, **names):
        return compile(specialise(function, __name__, f"_{number.__name__}", number, **names))

    names = functions(Cell(BLOCK_LIF).kind, compiled, number, _through)
    names["surrogate"] = compiled(surrogate)
    for function in (_fire, _slopes, _step_back, _back):
        names[function.__name__] = compiled(function, **names)
    norm_lif = compiled(_norm_lif, kernel, **names)
    return Kernels(norm_lif, compiled(_norm_lif_gradient, kernel, **names))
