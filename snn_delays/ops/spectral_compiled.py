# mypy: allow-untyped-defs
"""Sequences to spectra and back, and products of spectra, compiled.

Shapes as in ``ops.tiles``; T time, B batch, C channels. A job takes whole samples, or frequencies.
"""

from __future__ import annotations

import numpy as np

from snn_delays.ops.blas import add_product, new_room
from snn_delays.ops.compiled import inner, kernel, prange
from snn_delays.ops.tiles import clear, lanes, new_tile, read_spectrum, write_spectrum


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


@inner
def _sums(a, b, plus, minus):
    a, b, plus, minus = a.reshape(-1), b.reshape(-1), plus.reshape(-1), minus.reshape(-1)
    for q in range(a.size):
        plus[q] = a[q] + b[q]
        minus[q] = a[q] - b[q]


@inner
def _sum(a, b, plus):
    a, b, plus = a.reshape(-1), b.reshape(-1), plus.reshape(-1)
    for q in range(a.size):
        plus[q] = a[q] + b[q]


@inner
def _scale(a, factor, out):
    a, out, factor = a.reshape(-1), out.reshape(-1), out.dtype.type(factor)
    for q in range(a.size):
        out[q] = factor * a[q]


@inner
def _complex_product(a, a_turned, b, b_turned, conjugate, sums, total, out, room):
    """``out <- a b``, [2, m, n], the factors transposed and b conjugated where so said.

    Three real products (Gauss): with P = a_re (b_re + b_im), the real part is
    P - (a_re + a_im) b_im and the imaginary part P - (a_re - a_im) b_re; with b conjugated,
    P - (a_re - a_im) b_im and (a_re + a_im) b_re - P. ``sums`` holds a_re + a_im and a_re - a_im.
    """
    sign, first = (-1, 1) if conjugate else (1, 0)
    _sum(b[0], b[1], total)
    add_product(1, a[0], a_turned, total, b_turned, 0, out[0], *room)
    _scale(out[0], sign, out[1])
    add_product(-1, sums[first], a_turned, b[1], b_turned, 1, out[0], *room)
    add_product(-sign, sums[1 - first], a_turned, b[0], b_turned, 1, out[1], *room)


@inner
def _real_product(a, a_turned, b, b_turned, out, room):
    """Where a real sequence's spectrum is real: at frequency 0 and N / 2."""
    add_product(1, a[0], a_turned, b[0], b_turned, 0, out[0], *room)
    out[1] = 0


@kernel
def products(jobs, X, K, N, Y):
    """``Y[f] <- X[f] K[f]^T``: [F, 2, B, I], [F, 2, O, I] -> [F, 2, B, O]."""
    F = Y.shape[0]
    for job in prange(jobs):
        room = new_room(Y)
        sums, total = np.empty(X.shape[1:], Y.dtype), np.empty(K.shape[2:], Y.dtype)
        for f in range(job * F // jobs, (job + 1) * F // jobs):
            if f == 0 or 2 * f == N:
                _real_product(X[f], False, K[f], True, Y[f], room)
                continue
            _sums(X[f, 0], X[f, 1], sums[0], sums[1])
            _complex_product(X[f], False, K[f], True, False, sums, total, Y[f], room)


@kernel
def products_gradient(jobs, G, X, K, N, of_input, g_X):
    """``g_X[f] <- G[f] conj(K[f])`` where wanted, then ``K[f] <- G[f]^T conj(X[f])``."""
    F = G.shape[0]
    for job in prange(jobs):
        room = new_room(G)
        sums = np.empty(G.shape[1:], G.dtype)
        of_X, of_K = np.empty(X.shape[2:], G.dtype), np.empty(K.shape[2:], G.dtype)
        for f in range(job * F // jobs, (job + 1) * F // jobs):
            if f == 0 or 2 * f == N:
                if of_input:
                    _real_product(G[f], False, K[f], False, g_X[f], room)
                _real_product(G[f], True, X[f], False, K[f], room)
                continue
            _sums(G[f, 0], G[f, 1], sums[0], sums[1])
            if of_input:
                _complex_product(G[f], False, K[f], False, True, sums, of_K, g_X[f], room)
            _complex_product(G[f], True, X[f], False, True, sums, of_X, K[f], room)
