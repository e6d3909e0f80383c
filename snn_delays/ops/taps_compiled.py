# mypy: allow-untyped-defs
"""Gaussian taps and their gradients, compiled for float32; ``ops.taps`` is their plain version.

Shapes: C kernel count, n = O I synapses, D taps. A block of synapses stays in the innermost cache.
"""

from __future__ import annotations

import functools

import numpy as np

from snn_delays.ops.compiled import inner, kernel, prange

WIDTH = 512  # synapses in a block
# sums in their order: the logarithm of two comes in two parts, which must stay apart
exact_inner = functools.partial(inner, fastmath={"contract", "nsz", "arcp"})


@exact_inner
def _exp_of_square(d_n, j, inverse, g_n, power_n):
    """``exp(-((j - d) inverse)^2 / 2) = g 2^power``, power as the bits of that float32.

    Cephes' polynomial after taking out the power of two; at most 2 units in the last place off.
    """
    for q in range(d_n.size):
        u = (j - d_n[q]) * inverse
        x = max(u * u * np.float32(-0.5), np.float32(-87))
        n = np.floor(x * np.float32(1.4426950408889634) + np.float32(0.5))
        r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
        p = np.float32(1.9875691500e-4)
        p = p * r + np.float32(1.3981999507e-3)
        p = p * r + np.float32(8.3334519073e-3)
        p = p * r + np.float32(4.1665795894e-2)
        p = p * r + np.float32(1.6666665459e-1)
        p = p * r + np.float32(5.0000001201e-1)
        g_n[q] = p * r * r + r + np.float32(1)
        power_n[q] = (np.int32(n) + np.int32(127)) << np.int32(23)


@inner
def _add_scaled(g_n, power_n, total_n):
    for q in range(g_n.size):
        g_n[q] *= power_n[q]
        total_n[q] += g_n[q]


@inner
def _gaussians(d_n, sigma, g_Dn, power_n, total_n):
    """Taps that are not normalised yet, and one over what normalises them."""
    one, m = np.float32(1), d_n.size
    bits = power_n.view(np.int32)
    total_n[:] = np.float32(1e-7)
    for j in range(g_Dn.shape[0]):
        _exp_of_square(d_n, np.float32(j), one / sigma, g_Dn[j, :m], bits)
        _add_scaled(g_Dn[j, :m], power_n, total_n)
    for q in range(d_n.size):
        total_n[q] = one / total_n[q]


@inner
def _multiply(a_n, b_n, out_n):
    for q in range(out_n.size):
        out_n[q] = a_n[q] * b_n[q]


@inner
def _multiply_add(a_n, b_n, out_n):
    for q in range(out_n.size):
        out_n[q] += a_n[q] * b_n[q]


@kernel
def weighted_gaussians(jobs, w_Cn, d_Cn, sigma, taps, out_Dn):
    """``sum_c w g_j(d)`` for the first ``len(out_Dn)`` taps."""
    C, n = w_Cn.shape
    blocks = (n + WIDTH - 1) // WIDTH
    for job in prange(jobs):
        g = np.empty((taps, WIDTH), np.float32)
        row = np.empty((2, WIDTH), np.float32)
        for block in range(job * blocks // jobs, (job + 1) * blocks // jobs):
            lo, hi = block * WIDTH, min((block + 1) * WIDTH, n)
            m = hi - lo
            for c in range(C):
                _gaussians(d_Cn[c, lo:hi], sigma, g, row[0, :m], row[1, :m])
                _multiply(row[1, :m], w_Cn[c, lo:hi], row[0, :m])
                for j in range(out_Dn.shape[0]):
                    if c == 0:
                        _multiply(row[0, :m], g[j, :m], out_Dn[j, lo:hi])
                    else:
                        _multiply_add(row[0, :m], g[j, :m], out_Dn[j, lo:hi])


@inner
def _add_moment(g_n, d_n, j, scale, moment_n):
    for q in range(g_n.size):
        moment_n[q] += g_n[q] * ((j - d_n[q]) * scale)


@inner
def _add_pulls(g_n, grad_n, d_n, j, scale, of_weight_n, of_delay_n):
    for q in range(g_n.size):
        v = g_n[q] * grad_n[q]
        of_weight_n[q] += v
        of_delay_n[q] += v * ((j - d_n[q]) * scale)


@inner
def _finish(w_n, norm_n, moment_n, of_weight_n, of_delay_n):
    for q in range(w_n.size):
        of_weight_n[q] *= norm_n[q]
        of_delay_n[q] = w_n[q] * (of_delay_n[q] - moment_n[q] * of_weight_n[q]) * norm_n[q]


@kernel
def weighted_gaussians_gradient(jobs, w_Cn, d_Cn, sigma, taps, grad_Dn, g_w_Cn, g_d_Cn):
    """``dg_j/dd = g_j (a_j - sum_j' g_j' a_j')`` with ``a_j = (j - d) / sigma^2``."""
    C, n = w_Cn.shape
    blocks = (n + WIDTH - 1) // WIDTH
    scale = np.float32(1) / (sigma * sigma)
    for job in prange(jobs):
        g = np.empty((taps, WIDTH), np.float32)
        row = np.empty((3, WIDTH), np.float32)
        for block in range(job * blocks // jobs, (job + 1) * blocks // jobs):
            lo, hi = block * WIDTH, min((block + 1) * WIDTH, n)
            m = hi - lo
            norm, moment = row[0, :m], row[1, :m]
            for c in range(C):
                d, g_w, g_d = d_Cn[c, lo:hi], g_w_Cn[c, lo:hi], g_d_Cn[c, lo:hi]
                _gaussians(d, sigma, g, row[2, :m], norm)
                moment[:] = np.float32(0)
                g_w[:] = np.float32(0)
                g_d[:] = np.float32(0)
                for j in range(taps):
                    _add_moment(g[j, :m], d, np.float32(j), scale, moment)
                for j in range(grad_Dn.shape[0]):
                    _add_pulls(g[j, :m], grad_Dn[j, lo:hi], d, np.float32(j), scale, g_w, g_d)
                _finish(w_Cn[c, lo:hi], norm, moment, g_w, g_d)
