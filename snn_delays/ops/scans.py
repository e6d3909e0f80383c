# mypy: allow-untyped-defs
"""BatchNorm and LIF over time, in as few passes over memory as they need, compiled.

Shapes: T time, B batch, C channels. A job takes whole samples; inner loops run over channels.
"""

from __future__ import annotations

import numpy as np

from snn_delays.ops.compiled import inner, kernel, prange


@kernel
def channel_sums(jobs, y_TBC, first, M, pivot_C, sums_B2C):
    """Per sample, of M from ``first`` on: sum and sum of squares of ``y - pivot`` over time."""
    T, _, C = y_TBC.shape
    for job in prange(jobs):
        for b in range(first + job * M // jobs, first + (job + 1) * M // jobs):
            total, squares = sums_B2C[b, 0], sums_B2C[b, 1]
            total[:] = 0
            squares[:] = 0
            for t in range(T):
                row = y_TBC[t, b]
                for c in range(C):
                    u = row[c] - pivot_C[c]
                    total[c] += u
                    squares[c] += u * u


@kernel
def norm_lif(jobs, y_TBC, scale_C, shift_C, mask_BC, keep, v_threshold, first, s_TMC, v_BC):
    """``s = mask * LIF(scale y + shift)`` of M samples from ``first`` on, v = keep v + input.

    The membrane after the last step goes to v_BC.
    """
    T, M, C = s_TMC.shape
    zero = y_TBC.dtype.type(0)  # a literal 0 would make numba compute in float64
    for job in prange(jobs):
        for m in range(job * M // jobs, (job + 1) * M // jobs):
            b = first + m
            v, mask = v_BC[b], mask_BC[b]
            v[:] = 0
            for t in range(T):
                y, s = y_TBC[t, b], s_TMC[t, m]
                for c in range(C):
                    h = v[c] * keep + (scale_C[c] * y[c] + shift_C[c])
                    fired = h >= v_threshold
                    s[c] = mask[c] if fired else zero
                    v[c] = zero if fired else h


@inner  # a function of its own: LLVM vectorises its loop, and not the same loop inside three others
def _charge(y_C, scale_C, shift_C, mean_C, rstd_C, v_C, keep, v_threshold, zero, above_C, xhat_C):
    """One step: membrane above threshold, normalised y, and v after the reset."""
    for c in range(v_C.size):
        h = v_C[c] * keep + (scale_C[c] * y_C[c] + shift_C[c])
        above_C[c] = h - v_threshold
        xhat_C[c] = (y_C[c] - mean_C[c]) * rstd_C[c]
        v_C[c] = zero if h >= v_threshold else h


@inner
def _copy(a_C, out_C):
    for c in range(a_C.size):
        out_C[c] = a_C[c]


@inner
def _charge_gradient(
    g_C, mask_C, above_C, xhat_C, g_v_C, keep, half_alpha, slope, zero, one, sum_C, sumx_C
):
    """One step back, in place, the reset detached; sums of the gradient and of it times xhat."""
    for c in range(g_C.size):
        u = above_C[c]
        d = slope * u
        w = g_C[c] * mask_C[c] * half_alpha / (one + d * d) + (zero if u >= zero else g_v_C[c])
        g_C[c] = w
        g_v_C[c] = keep * w
        sum_C[c] += w
        sumx_C[c] += w * xhat_C[c]


@kernel
def norm_lif_gradient(
    jobs, g_TMC, y_TBC, first, scale_C, shift_C, mean_C, rstd_C, mask_BC, keep, v_threshold,
    half_alpha, slope, out_TBC, sums_B2C,
):  # fmt: skip
    """From the gradient of the spikes of M samples from ``first`` on to that of the LIF's input.

    Also per sample its sum over time, and that of it times the normalised y. The membrane is
    computed again instead of being kept. Surrogate: ``half_alpha / (1 + (slope (h - v_th))^2)``.
    Overwrites g.
    """
    T, M, C = g_TMC.shape
    zero, one = y_TBC.dtype.type(0), y_TBC.dtype.type(1)
    for job in prange(jobs):
        above = np.empty((T, C), y_TBC.dtype)
        xhat = np.empty((T, C), y_TBC.dtype)
        v = np.empty(C, y_TBC.dtype)
        for m in range(job * M // jobs, (job + 1) * M // jobs):
            b = first + m
            v[:] = zero
            for t in range(T):
                _charge(
                    y_TBC[t, b], scale_C, shift_C, mean_C, rstd_C, v, keep, v_threshold, zero,
                    above[t], xhat[t],
                )  # fmt: skip
            v[:] = zero
            sums_B2C[b] = zero
            for back in range(T):
                t = T - 1 - back
                g = g_TMC[t, m]
                _charge_gradient(
                    g, mask_BC[b], above[t], xhat[t], v, keep, half_alpha, slope, zero, one,
                    sums_B2C[b, 0], sums_B2C[b, 1],
                )  # fmt: skip
                _copy(g, out_TBC[t, b])


@kernel
def norm_gradient(jobs, g_TBC, y_TBC, first, a_C, b_C, c_C, out_TMC):
    """BatchNorm's gradient ``a g + b + c y`` of M samples from ``first`` on."""
    T, M, C = out_TMC.shape
    for job in prange(jobs):
        for t in range(job * T // jobs, (job + 1) * T // jobs):
            for m in range(M):
                g, y, out = g_TBC[t, first + m], y_TBC[t, first + m], out_TMC[t, m]
                for c in range(C):
                    out[c] = a_C[c] * g[c] + b_C[c] + c_C[c] * y[c]
