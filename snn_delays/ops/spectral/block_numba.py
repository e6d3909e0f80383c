# mypy: allow-untyped-defs
"""BatchNorm, LIF and dropout between two spectra, compiled: four passes over memory, two a way.

Shapes as in ``ops.spectral.fft_tiles``; sequences in memory are [B, T, C]. A job takes whole
samples. The loops of a tile are functions of their own, or LLVM would not vectorise them.
"""

from __future__ import annotations

import numpy as np

from snn_delays.ops.spectral.fft_tiles import clear, lanes, new_tile, read_spectrum, write_spectrum
from snn_delays.runtime.numba_jit import inner, kernel, prange


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


@inner
def _fire(y_BTC, scale_C, shift_C, mask_BC, keep, v_threshold, b, first, last, plane, L, v_BC):
    zero = plane.dtype.type(0)  # a literal 0 would make numba compute in float64
    scale, shift = scale_C[first:last], shift_C[first:last]
    mask, v = mask_BC[b, first:last], v_BC[b, first:last]
    v[:] = zero
    for t in range(y_BTC.shape[1]):
        y, s = y_BTC[b, t, first:last], plane[t * L : (t + 1) * L]
        for q in range(y.size):
            h = v[q] * keep + (scale[q] * y[q] + shift[q])
            fired = h >= v_threshold
            s[q] = mask[q] if fired else zero
            v[q] = zero if fired else h


@kernel
def norm_lif(
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


@inner
def _surrogate(
    y_BTC, scale_C, shift_C, mask_BC, keep, v_threshold, factor, slope, b, first, last, v, pull_TC
):  # fmt: skip
    """What the gradient of a spike is multiplied by, negative where the neuron fired.

    The membrane is computed again instead of being kept.
    """
    zero, one = v.dtype.type(0), v.dtype.type(1)
    scale, shift, mask = scale_C[first:last], shift_C[first:last], mask_BC[b, first:last]
    v[:] = zero
    for t in range(y_BTC.shape[1]):
        y, pull = y_BTC[b, t, first:last], pull_TC[t]
        for q in range(y.size):
            h = v[q] * keep + (scale[q] * y[q] + shift[q])
            u = h - v_threshold
            d = slope * u
            fired = u >= zero
            pull[q] = (-factor if fired else factor) * mask[q] / (one + d * d)
            v[q] = zero if fired else h


@inner
def _step_back(g_s, pull, keep, v):
    zero = v.dtype.type(0)
    for q in range(v.size):
        w = abs(pull[q]) * g_s[q] + (zero if pull[q] < zero else v[q])
        g_s[q] = w
        v[q] = keep * w


@inner
def _back(plane, L, pull_TC, y_BTC, mean_C, rstd_C, keep, b, first, last, v, g_BTC, sums_B2C):
    """Back in time, the reset detached; sums of the gradient and of it times the normalised y."""
    T = y_BTC.shape[1]
    v[:] = 0
    for t in range(T - 1, -1, -1):
        _step_back(plane[t * L : (t + 1) * L], pull_TC[t], keep, v)
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


@kernel
def norm_lif_gradient(
    jobs, G_S, radices, cos, sin, y_BTC, scale_C, shift_C, mean_C, rstd_C, mask_BC, keep,
    v_threshold, half_alpha, slope, g_BTC, sums_B2C,
):  # fmt: skip
    """From the gradient of the masked spikes, a spectrum, to that of the LIF's input.

    Also per sample its sum over time, and that of it times the normalised y. Surrogate:
    ``half_alpha / (1 + (slope (h - v_threshold))^2)``.
    """
    B, T, C = y_BTC.shape
    N = cos.size
    L = lanes(C, N)
    factor = half_alpha * cos.dtype.type(1.0 / N)
    for job in prange(jobs):
        tile, pull, v = new_tile(L, cos), np.empty((T, L), cos.dtype), np.empty(L, cos.dtype)
        for b in range(job * B // jobs, (job + 1) * B // jobs):
            for start in range(0, C, 2 * L):
                end = min(start + 2 * L, C)
                planes = read_spectrum(tile, L, radices, cos, sin, G_S, b, start, end)
                for half in range(2):
                    first, last = min(start + half * L, end), min(start + (half + 1) * L, end)
                    _surrogate(
                        y_BTC, scale_C, shift_C, mask_BC, keep, v_threshold, factor, slope, b,
                        first, last, v, pull,
                    )  # fmt: skip
                    _back(
                        planes[half], L, pull, y_BTC, mean_C, rstd_C, keep, b, first, last, v,
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
