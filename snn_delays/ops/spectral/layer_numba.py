# mypy: allow-untyped-defs
"""Sequences to spectra and back, and products of spectra, compiled.

Shapes as in ``ops.spectral.fft_tiles``; T time, B batch, C channels. A job takes
whole samples, or frequencies.
"""

from __future__ import annotations

import numpy as np

from snn_delays.ops.spectral.complex_gemm import complex_product, new_room
from snn_delays.ops.spectral.fft_tiles import clear, lanes, new_tile, read_spectrum, write_spectrum
from snn_delays.runtime.numba_jit import inner, kernel, prange


@inner
def _copy(x_TBC, b, first, last, plane, L):
    for t in range(x_TBC.shape[0]):
        x, z = x_TBC[t, b, first:last], plane[t * L : (t + 1) * L]
        for q in range(x.size):
            z[q] = x[q]


@inner
def _copy_back(plane, L, scale, b, first, last, x_TBC):
    for t in range(x_TBC.shape[0]):
        x, z = x_TBC[t, b, first:last], plane[t * L : (t + 1) * L]
        for q in range(x.size):
            x[q] = scale * z[q]


@kernel
def to_spectrum(jobs, x_TBC, radices, cos, sin, X):
    """X <- the spectrum of x, which zeros follow."""
    T, B, C = x_TBC.shape
    N = cos.size
    L = lanes(C, N)
    for job in prange(jobs):
        tile = new_tile(L, cos)
        for b in range(job * B // jobs, (job + 1) * B // jobs):
            for first in range(0, C, 2 * L):
                last, middle = min(first + 2 * L, C), min(first + L, C)
                clear(tile, L, N, T, last - first)
                _copy(x_TBC, b, first, middle, tile[0], L)
                _copy(x_TBC, b, middle, last, tile[1], L)
                write_spectrum(tile, L, radices, cos, sin, X, b, first, last)


@kernel
def to_time(jobs, X, radices, cos, sin, x_TBC):
    """x <- the first T of the N steps whose spectrum X is."""
    _, B, C = x_TBC.shape
    N = cos.size
    L = lanes(C, N)
    scale = cos.dtype.type(1.0 / N)
    for job in prange(jobs):
        tile = new_tile(L, cos)
        for b in range(job * B // jobs, (job + 1) * B // jobs):
            for first in range(0, C, 2 * L):
                last, middle = min(first + 2 * L, C), min(first + L, C)
                one, two = read_spectrum(tile, L, radices, cos, sin, X, b, first, last)
                _copy_back(one, L, scale, b, first, middle, x_TBC)
                _copy_back(two, L, scale, b, middle, last, x_TBC)


# ---- products ----------------------------------------------------------------------------------


@kernel
def products(jobs, X, K, N, Y):
    """``Y[f] <- X[f] K[f]^T``: [F, 2, B, I], [F, 2, O, I] -> [F, 2, B, O]."""
    F = Y.shape[0]
    for job in prange(jobs):
        room = new_room(Y)
        for f in range(job * F // jobs, (job + 1) * F // jobs):
            real = f == 0 or 2 * f == N  # as a real sequence's spectrum is there
            complex_product(X[f], False, K[f], True, False, real, Y[f], room)


@inner
def _move(source, target):
    for part in range(source.shape[0]):
        for row in range(source.shape[1]):
            x, y = source[part, row], target[part, row]
            for q in range(x.size):
                y[q] = x[q]


@kernel
def products_gradient(jobs, G, X, K, N, of_input, g_X):
    """``K[f] <- G[f]^T conj(X[f])``, and ``g_X[f] <- G[f] conj(K[f])`` where wanted.

    g_X may be X.
    """
    F = G.shape[0]
    for job in prange(jobs):
        room, held = new_room(G), np.empty(g_X.shape[1:], G.dtype)
        for f in range(job * F // jobs, (job + 1) * F // jobs):
            real = f == 0 or 2 * f == N
            if of_input:
                complex_product(G[f], False, K[f], False, True, real, held, room)
            complex_product(G[f], True, X[f], False, True, real, K[f], room)
            if of_input:
                _move(held, g_X[f])
