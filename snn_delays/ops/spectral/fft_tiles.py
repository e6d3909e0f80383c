# mypy: allow-untyped-defs
"""Fourier transforms over time, compiled: a tile of sequences at a time, in the innermost caches.

A tile holds up to 2 L real sequences as L complex ones. It is [4, N L]: real and imaginary part,
and as much again to work in; step t of lane q lies at t L + q. A spectrum is [F, 2, B, C]:
frequency (F = N // 2 + 1), real and imaginary part, batch, channels. N has no prime factor above 7.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from snn_delays.runtime.numba_jit import inner

TILE = 1 << 16  # numbers in a plane of a tile, about
LANES = 256  # at most: long rows of a spectrum spare page walks
PAD = 272  # numbers between the planes of a tile


class Transform:
    """What a transform of N steps needs, for numbers of one precision.

    Attributes:
        radices: factors of N, in the order in which they are taken out.
        cos: of 2 pi k / N, [N].
        sin: of -2 pi k / N, [N].
    """

    def __init__(self, length: int, dtype: Any) -> None:
        rest, radices = length, []
        for radix in (7, 5, 3, 4, 2):
            while rest % radix == 0:
                radices.append(radix)
                rest //= radix
        assert rest == 1, length
        angle = -2 * math.pi / length * np.arange(length)
        self.radices = np.array(radices, np.int64)
        self.cos, self.sin = np.cos(angle).astype(dtype), np.sin(angle).astype(dtype)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """As the kernels take it."""
        return self.radices, self.cos, self.sin


@functools.lru_cache(maxsize=64)
def make_transform(length: int, dtype: Any) -> Transform:
    """The transform of ``length`` steps."""
    return Transform(length, dtype)


def good_length(least: int) -> int:
    """The shortest length from ``least`` on that has no prime factor above 7."""
    length = least
    while True:
        rest = length
        for factor in (2, 3, 5, 7):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 1


@inner
def lanes(channels, N):
    """L: tiles are equally full, and small where the transform is long."""
    most = min(max(TILE // N // 8 * 8, 8), LANES)
    pairs = (channels + 1) // 2
    tiles = (pairs + most - 1) // most
    return ((pairs + tiles - 1) // tiles + 7) // 8 * 8


@inner
def new_tile(L, like):
    """Room for a tile; its planes lie apart by no power of two, which caches could not hold."""
    return np.empty((4, like.size * L + PAD), like.dtype)


@inner
def clear(tile, L, N, T, channels):
    """Zeros behind T steps, and everywhere if some lanes will hold no channel."""
    start = T * L if channels == 2 * L else 0
    for plane in range(2):
        for q in range(start, N * L):
            tile[plane, q] = 0


# ---- butterflies (Stockham): a is [r, m, s L], b is [m, r, s L], n = r m s ---------------------


@inner
def _radix2(a, ai, b, bi, cos, sin, stride):
    for p in range(a.shape[1]):
        wr, wi = cos[p * stride], sin[p * stride]
        x0, y0, x1, y1 = a[0, p], ai[0, p], a[1, p], ai[1, p]
        u0, v0, u1, v1 = b[p, 0], bi[p, 0], b[p, 1], bi[p, 1]
        for q in range(x0.size):
            dr, di = x0[q] - x1[q], y0[q] - y1[q]
            u0[q], v0[q] = x0[q] + x1[q], y0[q] + y1[q]
            u1[q], v1[q] = dr * wr - di * wi, dr * wi + di * wr


@inner
def _radix3(a, ai, b, bi, cos, sin, stride):
    half, c = cos.dtype.type(0.5), cos.dtype.type(-0.8660254037844386)
    for p in range(a.shape[1]):
        w1r, w1i = cos[p * stride], sin[p * stride]
        w2r, w2i = cos[2 * p * stride], sin[2 * p * stride]
        x0, y0, x1, y1, x2, y2 = a[0, p], ai[0, p], a[1, p], ai[1, p], a[2, p], ai[2, p]
        u0, v0, u1, v1, u2, v2 = b[p, 0], bi[p, 0], b[p, 1], bi[p, 1], b[p, 2], bi[p, 2]
        for q in range(x0.size):
            sr, si = x1[q] + x2[q], y1[q] + y2[q]
            dr, di = (x1[q] - x2[q]) * c, (y1[q] - y2[q]) * c
            zr, zi = x0[q], y0[q]
            u0[q], v0[q] = zr + sr, zi + si
            mr, mi = zr - half * sr, zi - half * si
            er, ei = mr - di, mi + dr
            u1[q], v1[q] = er * w1r - ei * w1i, er * w1i + ei * w1r
            er, ei = mr + di, mi - dr
            u2[q], v2[q] = er * w2r - ei * w2i, er * w2i + ei * w2r


@inner
def _radix4(a, ai, b, bi, cos, sin, stride):
    for p in range(a.shape[1]):
        w1r, w1i = cos[p * stride], sin[p * stride]
        w2r, w2i = cos[2 * p * stride], sin[2 * p * stride]
        w3r, w3i = cos[3 * p * stride], sin[3 * p * stride]
        x0, y0, x1, y1 = a[0, p], ai[0, p], a[1, p], ai[1, p]
        x2, y2, x3, y3 = a[2, p], ai[2, p], a[3, p], ai[3, p]
        u0, v0, u1, v1 = b[p, 0], bi[p, 0], b[p, 1], bi[p, 1]
        u2, v2, u3, v3 = b[p, 2], bi[p, 2], b[p, 3], bi[p, 3]
        for q in range(x0.size):
            ar, ai_ = x0[q] + x2[q], y0[q] + y2[q]
            br, bi_ = x0[q] - x2[q], y0[q] - y2[q]
            cr, ci = x1[q] + x3[q], y1[q] + y3[q]
            dr, di = x1[q] - x3[q], y1[q] - y3[q]
            u0[q], v0[q] = ar + cr, ai_ + ci
            er, ei = ar - cr, ai_ - ci
            u2[q], v2[q] = er * w2r - ei * w2i, er * w2i + ei * w2r
            er, ei = br + di, bi_ - dr
            u1[q], v1[q] = er * w1r - ei * w1i, er * w1i + ei * w1r
            er, ei = br - di, bi_ + dr
            u3[q], v3[q] = er * w3r - ei * w3i, er * w3i + ei * w3r


@inner
def _radix5(a, ai, b, bi, cos, sin, stride):
    c1, c2 = cos.dtype.type(0.30901699437494745), cos.dtype.type(-0.8090169943749475)
    s1, s2 = cos.dtype.type(-0.9510565162951535), cos.dtype.type(-0.5877852522924731)
    for p in range(a.shape[1]):
        w1r, w1i = cos[p * stride], sin[p * stride]
        w2r, w2i = cos[2 * p * stride], sin[2 * p * stride]
        w3r, w3i = cos[3 * p * stride], sin[3 * p * stride]
        w4r, w4i = cos[4 * p * stride], sin[4 * p * stride]
        x0, y0, x1, y1 = a[0, p], ai[0, p], a[1, p], ai[1, p]
        x2, y2, x3, y3, x4, y4 = a[2, p], ai[2, p], a[3, p], ai[3, p], a[4, p], ai[4, p]
        u0, v0, u1, v1 = b[p, 0], bi[p, 0], b[p, 1], bi[p, 1]
        u2, v2, u3, v3, u4, v4 = b[p, 2], bi[p, 2], b[p, 3], bi[p, 3], b[p, 4], bi[p, 4]
        for q in range(x0.size):
            ar, aj, br, bj = x1[q] + x4[q], y1[q] + y4[q], x1[q] - x4[q], y1[q] - y4[q]
            cr, cj, dr, dj = x2[q] + x3[q], y2[q] + y3[q], x2[q] - x3[q], y2[q] - y3[q]
            zr, zj = x0[q], y0[q]
            u0[q], v0[q] = zr + ar + cr, zj + aj + cj
            er, ej = zr + c1 * ar + c2 * cr, zj + c1 * aj + c2 * cj
            fr, fj = s1 * br + s2 * dr, s1 * bj + s2 * dj
            gr, gj = er - fj, ej + fr
            u1[q], v1[q] = gr * w1r - gj * w1i, gr * w1i + gj * w1r
            gr, gj = er + fj, ej - fr
            u4[q], v4[q] = gr * w4r - gj * w4i, gr * w4i + gj * w4r
            er, ej = zr + c2 * ar + c1 * cr, zj + c2 * aj + c1 * cj
            fr, fj = s2 * br - s1 * dr, s2 * bj - s1 * dj
            gr, gj = er - fj, ej + fr
            u2[q], v2[q] = gr * w2r - gj * w2i, gr * w2i + gj * w2r
            gr, gj = er + fj, ej - fr
            u3[q], v3[q] = gr * w3r - gj * w3i, gr * w3i + gj * w3r


@inner
def _radix7(a, ai, b, bi, cos, sin, stride):
    c1, c2 = cos.dtype.type(0.6234898018587335), cos.dtype.type(-0.2225209339563144)
    c3, s1 = cos.dtype.type(-0.9009688679024191), cos.dtype.type(-0.7818314824680298)
    s2, s3 = cos.dtype.type(-0.9749279121818236), cos.dtype.type(-0.4338837391175581)
    for p in range(a.shape[1]):
        w1r, w1i = cos[p * stride], sin[p * stride]
        w2r, w2i = cos[2 * p * stride], sin[2 * p * stride]
        w3r, w3i = cos[3 * p * stride], sin[3 * p * stride]
        w4r, w4i = cos[4 * p * stride], sin[4 * p * stride]
        w5r, w5i = cos[5 * p * stride], sin[5 * p * stride]
        w6r, w6i = cos[6 * p * stride], sin[6 * p * stride]
        x0, y0, x1, y1, x2, y2 = a[0, p], ai[0, p], a[1, p], ai[1, p], a[2, p], ai[2, p]
        x3, y3, x4, y4, x5, y5 = a[3, p], ai[3, p], a[4, p], ai[4, p], a[5, p], ai[5, p]
        x6, y6 = a[6, p], ai[6, p]
        u0, v0, u1, v1, u2, v2 = b[p, 0], bi[p, 0], b[p, 1], bi[p, 1], b[p, 2], bi[p, 2]
        u3, v3, u4, v4, u5, v5 = b[p, 3], bi[p, 3], b[p, 4], bi[p, 4], b[p, 5], bi[p, 5]
        u6, v6 = b[p, 6], bi[p, 6]
        for q in range(x0.size):
            ar, aj, br, bj = x1[q] + x6[q], y1[q] + y6[q], x1[q] - x6[q], y1[q] - y6[q]
            cr, cj, dr, dj = x2[q] + x5[q], y2[q] + y5[q], x2[q] - x5[q], y2[q] - y5[q]
            tr, tj, hr, hj = x3[q] + x4[q], y3[q] + y4[q], x3[q] - x4[q], y3[q] - y4[q]
            zr, zj = x0[q], y0[q]
            u0[q], v0[q] = zr + ar + cr + tr, zj + aj + cj + tj
            er, ej = zr + c1 * ar + c2 * cr + c3 * tr, zj + c1 * aj + c2 * cj + c3 * tj
            fr, fj = s1 * br + s2 * dr + s3 * hr, s1 * bj + s2 * dj + s3 * hj
            gr, gj = er - fj, ej + fr
            u1[q], v1[q] = gr * w1r - gj * w1i, gr * w1i + gj * w1r
            gr, gj = er + fj, ej - fr
            u6[q], v6[q] = gr * w6r - gj * w6i, gr * w6i + gj * w6r
            er, ej = zr + c2 * ar + c3 * cr + c1 * tr, zj + c2 * aj + c3 * cj + c1 * tj
            fr, fj = s2 * br - s3 * dr - s1 * hr, s2 * bj - s3 * dj - s1 * hj
            gr, gj = er - fj, ej + fr
            u2[q], v2[q] = gr * w2r - gj * w2i, gr * w2i + gj * w2r
            gr, gj = er + fj, ej - fr
            u5[q], v5[q] = gr * w5r - gj * w5i, gr * w5i + gj * w5r
            er, ej = zr + c3 * ar + c1 * cr + c2 * tr, zj + c3 * aj + c1 * cj + c2 * tj
            fr, fj = s3 * br - s1 * dr + s2 * hr, s3 * bj - s1 * dj + s2 * hj
            gr, gj = er - fj, ej + fr
            u3[q], v3[q] = gr * w3r - gj * w3i, gr * w3i + gj * w3r
            gr, gj = er + fj, ej - fr
            u4[q], v4[q] = gr * w4r - gj * w4i, gr * w4i + gj * w4r


@inner
def _transform(tile, L, radices, cos, sin):
    """In the tile; returns the plane in which the real part of the result lies, 0 or 2."""
    N = cos.size
    size = N * L
    n, s, at = N, 1, 0
    for r in radices:
        m, to = n // r, 2 - at
        a, ai = tile[at, :size].reshape(r, m, s * L), tile[at + 1, :size].reshape(r, m, s * L)
        b, bi = tile[to, :size].reshape(m, r, s * L), tile[to + 1, :size].reshape(m, r, s * L)
        if r == 7:
            _radix7(a, ai, b, bi, cos, sin, N // n)
        elif r == 5:
            _radix5(a, ai, b, bi, cos, sin, N // n)
        elif r == 4:
            _radix4(a, ai, b, bi, cos, sin, N // n)
        elif r == 3:
            _radix3(a, ai, b, bi, cos, sin, N // n)
        else:
            _radix2(a, ai, b, bi, cos, sin, N // n)
        n, s, at = m, s * r, to
    return at


# ---- between tiles and spectra -----------------------------------------------------------------


@inner
def _separate(p, q, N, L, half, sign, X, b, first, last):
    """Of two sequences that shared a transform, one's spectrum."""
    for f in range(N // 2 + 1):
        g = N - f if f else 0
        pf, pg, qf, qg = p[f * L :], p[g * L :], q[f * L :], q[g * L :]
        real, imaginary = X[f, 0, b, first:last], X[f, 1, b, first:last]
        for c in range(real.size):
            real[c] = half * (pf[c] + pg[c])
            imaginary[c] = sign * (qf[c] - qg[c])


@inner
def write_spectrum(tile, L, radices, cos, sin, X, b, first, last):
    """Sequences first .. first + L - 1 in plane 0, the others in plane 1 -> their spectra in X."""
    at = _transform(tile, L, radices, cos, sin)
    half = cos.dtype.type(0.5)
    middle = min(first + L, last)
    _separate(tile[at], tile[at + 1], cos.size, L, half, half, X, b, first, middle)
    _separate(tile[at + 1], tile[at], cos.size, L, half, -half, X, b, middle, last)


@inner
def _combine(u_real, u_imaginary, v_real, v_imaginary, pf, pg, qf, qg):
    """The spectrum p + iq of u + iv, at f and N - f."""
    both = v_real.size
    for c in range(both):
        pf[c], pg[c] = u_real[c] - v_imaginary[c], u_real[c] + v_imaginary[c]
        qf[c], qg[c] = v_real[c] + u_imaginary[c], v_real[c] - u_imaginary[c]
    for c in range(both, u_real.size):
        pf[c], pg[c] = u_real[c], u_real[c]
        qf[c], qg[c] = u_imaginary[c], -u_imaginary[c]


@inner
def read_spectrum(tile, L, radices, cos, sin, X, b, first, last):
    """The other way round; returns the planes of the first L sequences and of the rest, N-fold.

    Imaginary parts at frequency 0 and N / 2 are ignored.
    """
    N, middle = cos.size, min(first + L, last)
    if last - first < 2 * L:
        clear(tile, L, N, 0, last - first)
    p, q = tile[1], tile[0]  # parts exchanged, so that a forward transform goes back
    for f in range(1, (N + 1) // 2):
        g = N - f
        _combine(
            X[f, 0, b, first:middle], X[f, 1, b, first:middle],
            X[f, 0, b, middle:last], X[f, 1, b, middle:last],
            p[f * L :], p[g * L :], q[f * L :], q[g * L :],
        )  # fmt: skip
    for f in (0, N // 2) if N % 2 == 0 else (0, 0):
        p[f * L : f * L + middle - first] = X[f, 0, b, first:middle]
        q[f * L : f * L + last - middle] = X[f, 0, b, middle:last]
    at = _transform(tile, L, radices, cos, sin)
    return tile[at + 1], tile[at]
