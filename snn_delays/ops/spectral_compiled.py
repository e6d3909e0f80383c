# mypy: allow-untyped-defs
"""Sequences to spectra and back, and products of spectra, compiled.

Shapes as in ``ops.tiles``; T time, B batch, C channels. A job takes whole samples, or frequencies.
"""

from __future__ import annotations

import numpy as np

from snn_delays.ops.blas import add_product
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


@kernel
def products(jobs, A, a_turned, B, b_turned, conjugate, out):
    """``out[f] <- A[f] B[f]``, complex, the factors transposed and B conjugated where so said.

    Three real products (Gauss): with P = A_re (B_re + B_im), the real part is
    P - (A_re + A_im) B_im and the imaginary part P - (A_re - A_im) B_re; with B conjugated,
    P - (A_re - A_im) B_im and (A_re + A_im) B_re - P.
    """
    sign = -1 if conjugate else 1
    for job in prange(jobs):
        letters, sizes = np.empty(2, np.int8), np.empty(6, np.int32)
        factors = np.empty(2, out.dtype)
        plus, minus = np.empty(A.shape[2:], out.dtype), np.empty(A.shape[2:], out.dtype)
        total = np.empty(B.shape[2:], out.dtype)
        F = out.shape[0]
        for f in range(job * F // jobs, (job + 1) * F // jobs):
            a, ai, b, bi, c, ci = A[f, 0], A[f, 1], B[f, 0], B[f, 1], out[f, 0], out[f, 1]
            _sums(a, ai, plus, minus)
            _sum(b, bi, total)
            of_real, of_imaginary = (minus, plus) if conjugate else (plus, minus)
            add_product(1, a, a_turned, total, b_turned, 0, c, letters, sizes, factors)
            _scale(c, sign, ci)
            add_product(-1, of_real, a_turned, bi, b_turned, 1, c, letters, sizes, factors)
            add_product(-sign, of_imaginary, a_turned, b, b_turned, 1, ci, letters, sizes, factors)
