# mypy: allow-untyped-defs
"""Scans of LIF neurons and their gradients, compiled; ``ops.lif`` says what they compute.

Shapes: T time, N columns: all neurons of all samples.
"""

from __future__ import annotations

import functools

import numpy as np

from snn_delays.runtime.numba_jit import inner, kernel, prange

# Columns that a job takes at a time: their membranes over all steps stay in cache on the way back,
# and no two cores write to neighbouring columns by turns.
BLOCK = 512

# A product fused with a sum, or a product by 1 / tau, would round otherwise and move spikes.
exact_inner = functools.partial(inner, fastmath=False)
exact_kernel = functools.partial(kernel, fastmath=False)


@exact_inner
def _charge(v, x, share, tau):
    return v - v * share / tau + x


@exact_inner
def _fire_step(x_N, v_N, share, tau, v_threshold, zero, one, s_N):
    for n in range(v_N.size):
        h = _charge(v_N[n], x_N[n], share, tau)
        fired = h >= v_threshold
        s_N[n] = one if fired else zero
        v_N[n] = zero if fired else h


@exact_kernel
def fire(jobs, x_TN, v_N, share, tau, v_threshold, s_TN):
    """In place: the membrane v_N before the first step becomes that after the last."""
    T, N = x_TN.shape
    zero, one = x_TN.dtype.type(0), x_TN.dtype.type(1)  # literals would be float64
    blocks = -(-N // BLOCK)
    for job in prange(jobs):
        for block in range(job * blocks // jobs, (job + 1) * blocks // jobs):
            n = slice(block * BLOCK, min((block + 1) * BLOCK, N))
            for t in range(T):
                _fire_step(x_TN[t, n], v_N[n], share, tau, v_threshold, zero, one, s_TN[t, n])


@exact_inner
def _membrane_step(x_N, v_N, share, tau, v_threshold, zero, next_N):
    for n in range(x_N.size):
        h = _charge(v_N[n], x_N[n], share, tau)
        next_N[n] = zero if h >= v_threshold else h


@exact_inner
def _fire_step_gradient(
    x_N, v_N, share, tau, v_threshold, zero, one, half_alpha, slope, g_s_N, g_x_N, g_v_N, g_share_N
):
    """One step back; v_N is the membrane before the step, g_v_N turns from after to before it."""
    keep = one - share / tau
    for n in range(x_N.size):
        above = _charge(v_N[n], x_N[n], share, tau) - v_threshold
        d = slope * above
        g_v = g_v_N[n]
        g = g_s_N[n] * half_alpha / (one + d * d) + (zero if above >= zero else g_v)
        g_x_N[n] = g
        g_v_N[n] = g * keep
        g_share_N[n] += g * v_N[n]


@exact_kernel
def fire_gradient(
    jobs, x_TN, v_N, g_v_N, share, tau, v_threshold, half_alpha, slope, g_s_TN, g_x_TN
):
    """In place: v_N, the first membrane, becomes the sum over time of gradient times membrane.

    g_v_N turns from the gradient of the last membrane to that of the first.
    """
    T, N = x_TN.shape
    zero, one = x_TN.dtype.type(0), x_TN.dtype.type(1)
    blocks = -(-N // BLOCK)
    for job in prange(jobs):
        v_seq = np.empty((T, BLOCK), x_TN.dtype)
        for block in range(job * blocks // jobs, (job + 1) * blocks // jobs):
            n = slice(block * BLOCK, min((block + 1) * BLOCK, N))
            k = slice(0, n.stop - n.start)
            v_seq[0, k] = v_N[n]
            for t in range(T - 1):
                _membrane_step(
                    x_TN[t, n], v_seq[t, k], share, tau, v_threshold, zero, v_seq[t + 1, k]
                )
            v_N[n] = zero
            for back in range(T):
                t = T - 1 - back
                _fire_step_gradient(
                    x_TN[t, n], v_seq[t, k], share, tau, v_threshold, zero, one, half_alpha,
                    slope, g_s_TN[t, n], g_x_TN[t, n], g_v_N[n], v_N[n],
                )  # fmt: skip


@exact_inner
def _integrate_step(x_N, v_N, share, tau, next_N):
    for n in range(x_N.size):
        next_N[n] = _charge(v_N[n], x_N[n], share, tau)


@exact_kernel
def integrate(jobs, x_TN, v_N, share, tau, v_TN):
    """The membrane after every step, from v_N on."""
    T, N = x_TN.shape
    blocks = -(-N // BLOCK)
    for job in prange(jobs):
        for block in range(job * blocks // jobs, (job + 1) * blocks // jobs):
            n = slice(block * BLOCK, min((block + 1) * BLOCK, N))
            for t in range(T):
                v = v_TN[t - 1, n] if t else v_N[n]
                _integrate_step(x_TN[t, n], v, share, tau, v_TN[t, n])


@exact_inner
def _integrate_step_gradient(v_N, share, tau, g_N, g_x_N, g_v_N, g_share_N):
    for n in range(v_N.size):
        g = g_N[n] + g_v_N[n]
        g_x_N[n] = g
        g_v_N[n] = g - g * share / tau
        g_share_N[n] += g * v_N[n]


@exact_kernel
def integrate_gradient(jobs, v_TN, v_N, share, tau, g_TN, g_x_TN, g_v_N, g_share_N):
    """Gradients of input and first membrane, sums over time of gradient times membrane."""
    T, N = v_TN.shape
    zero = v_TN.dtype.type(0)
    blocks = -(-N // BLOCK)
    for job in prange(jobs):
        for block in range(job * blocks // jobs, (job + 1) * blocks // jobs):
            n = slice(block * BLOCK, min((block + 1) * BLOCK, N))
            g_v_N[n] = zero
            g_share_N[n] = zero
            for back in range(T):
                t = T - 1 - back
                v = v_TN[t - 1, n] if t else v_N[n]
                _integrate_step_gradient(
                    v, share, tau, g_TN[t, n], g_x_TN[t, n], g_v_N[n], g_share_N[n]
                )
