# mypy: allow-untyped-defs
"""A filter over time of each channel's own, and the gradient of its taps, compiled.

``ops.maps.depthwise`` says what they compute. Steps and taps are taken four by four: a number that
was loaded from the innermost cache serves up to four products. Rows of zeros fill the last four up,
and stand before and after the sequence, so that no step is a special case.

Shapes: T time, B batch, N channels, R taps, a multiple of four. A block is WIDTH channels; its rows
lie behind each other in one array, at distances that the compiler knows.
"""

from __future__ import annotations

import numpy as np

from snn_delays.runtime.numba_jit import inner, kernel, prange

WIDTH = 128  # channels of a block: its rows stay in the innermost caches
W1, W2, W3, W4, W5, W6 = (row * WIDTH for row in range(1, 7))
GROUPS = 8  # groups of samples, each with sums of its own, so that no sum depends on threads


@inner
def _add_products(width, g, x, y):
    """``y[a] += sum_b g[b] x[3 + a - b]``, rows of 4, 7 and 4."""
    for q in range(width):
        a, b, c, d = g[q], g[W1 + q], g[W2 + q], g[W3 + q]
        x0, x1, x2, x3 = x[q], x[W1 + q], x[W2 + q], x[W3 + q]
        x4, x5, x6 = x[W4 + q], x[W5 + q], x[W6 + q]
        y[q] += a * x3 + b * x2 + c * x1 + d * x0
        y[W1 + q] += a * x4 + b * x3 + c * x2 + d * x1
        y[W2 + q] += a * x5 + b * x4 + c * x3 + d * x2
        y[W3 + q] += a * x6 + b * x5 + c * x4 + d * x3


@inner
def _add_correlations(width, g, x, y):
    """``y[a] += sum_b g[b] x[3 + b - a]``."""
    for q in range(width):
        a, b, c, d = g[q], g[W1 + q], g[W2 + q], g[W3 + q]
        x0, x1, x2, x3 = x[q], x[W1 + q], x[W2 + q], x[W3 + q]
        x4, x5, x6 = x[W4 + q], x[W5 + q], x[W6 + q]
        y[q] += a * x3 + b * x4 + c * x5 + d * x6
        y[W1 + q] += a * x2 + b * x3 + c * x4 + d * x5
        y[W2 + q] += a * x1 + b * x2 + c * x3 + d * x4
        y[W3 + q] += a * x0 + b * x1 + c * x2 + d * x3


@inner
def _copy(x_W, out_W):
    for q in range(x_W.size):
        out_W[q] = x_W[q]


@inner
def _load(x_TBN, b, first_n, first_t, out):
    """Rows <- the steps from ``first_t`` on; zeros where there is no such step."""
    T, _, N = x_TBN.shape
    last_n = min(first_n + WIDTH, N)
    for k in range(out.size // WIDTH):
        t, row = first_t + k, out[k * WIDTH : (k + 1) * WIDTH]
        if 0 <= t < T:
            _copy(x_TBN[t, b, first_n:last_n], row)
        else:
            row[:] = 0


@kernel
def convolve(jobs, x_TBN, taps_RBN, lead, out_TBN):
    """``out[t] <- sum_j taps[j] x[t + lead - j]``, taps being [R, 1, N]."""
    R = taps_RBN.shape[0]
    T, B, N = out_TBN.shape
    blocks = -(-N // WIDTH)
    for job in prange(jobs):
        x = np.empty((-(-T // 4) * 4 + R - 1) * WIDTH, x_TBN.dtype)
        taps, y = np.empty(R * WIDTH, x_TBN.dtype), np.empty(4 * WIDTH, x_TBN.dtype)
        for item in range(job * blocks * B // jobs, (job + 1) * blocks * B // jobs):
            b, first = item // blocks, item % blocks * WIDTH
            width = min(WIDTH, N - first)
            _load(taps_RBN, 0, first, 0, taps)
            _load(x_TBN, b, first, lead - (R - 1), x)
            for t in range(0, T, 4):
                y[:] = 0
                for j in range(0, R, 4):
                    _add_products(width, taps[j * WIDTH :], x[(t + R - 4 - j) * WIDTH :], y)
                for a in range(min(4, T - t)):
                    row = y[a * WIDTH : (a + 1) * WIDTH]
                    _copy(row[:width], out_TBN[t + a, b, first : first + width])


@kernel
def correlate(jobs, x_TBN, g_TBN, out_RGN):
    """``out[j] <- sum_t,b g[t] x[t - j]``, over groups G of the samples apart."""
    R, groups, N = out_RGN.shape
    T, B, _ = g_TBN.shape
    T4, blocks = -(-T // 4) * 4, -(-N // WIDTH)
    for job in prange(jobs):
        x, g = np.empty((T4 + R - 1) * WIDTH, x_TBN.dtype), np.empty(T4 * WIDTH, x_TBN.dtype)
        out = np.empty(R * WIDTH, x_TBN.dtype)
        for item in range(job * blocks * groups // jobs, (job + 1) * blocks * groups // jobs):
            group, first = item % groups, item // groups * WIDTH
            width = min(WIDTH, N - first)
            out[:] = 0
            for b in range(group * B // groups, (group + 1) * B // groups):
                _load(x_TBN, b, first, 1 - R, x)
                _load(g_TBN, b, first, 0, g)
                for t in range(0, T, 4):
                    for j in range(0, R, 4):
                        at = (t + R - 4 - j) * WIDTH
                        _add_correlations(width, g[t * WIDTH :], x[at:], out[j * WIDTH :])
            for j in range(R):
                row = out[j * WIDTH : (j + 1) * WIDTH]
                _copy(row[:width], out_RGN[j, group, first : first + width])
