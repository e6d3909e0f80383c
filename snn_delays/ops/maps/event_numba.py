# mypy: allow-untyped-defs
"""Loops over the events of a sparse input, compiled; ``ops.maps.event`` says what they compute.

Shapes: T time, B batch, I inputs, O outputs, K = O C delayed synapses of an input, S = T + D - 1
steps at least. Unsigned offsets spare numba's test for negative indices.
"""

from __future__ import annotations

import functools

import numpy as np

from snn_delays.runtime.numba_jit import inner, kernel, prange

# products are rounded before they are added, on every processor: a deployed network repeats sums
exact_inner = functools.partial(inner, fastmath=False)


@inner
def _events(x_I, events_I):
    """The inputs that are not zero; returns how many."""
    n = 0
    for i in range(x_I.size):
        events_I[n] = i
        n += 1 if x_I[i] != 0 else 0
    return n


@exact_inner
def scatter(x_I, events_I, weight_IK, offset_IK, first, last, y):
    """One step's events add their weights to the outputs ``first`` to ``last``."""
    for n in range(_events(x_I, events_I)):
        i = events_I[n]
        x, weight_K, offset_K = x_I[i], weight_IK[i], offset_IK[i]
        for k in range(first, last):
            y[offset_K[k]] += x * weight_K[k]


@kernel
def forward(jobs, x_TBI, weight_IK, offset_IK, count, late, y_TBO):
    """Every event adds its weights to all outputs at their delays of up to ``late`` steps.

    A job takes B O / jobs outputs, and adds in memory of its own: cores that write by turns to
    neighbouring parts of one array wait for each other. The order of a sum does not depend on
    batch or jobs.
    """
    T, B, inputs = x_TBI.shape
    steps, _, outputs = y_TBO.shape
    zero = y_TBO.dtype.type(0)
    for job in prange(jobs):
        events = np.empty(inputs + 1, np.uint32)
        y_SO = np.empty((max(T + late, steps), outputs), y_TBO.dtype)
        y = y_SO.reshape(-1)
        start, stop = job * B * outputs // jobs, (job + 1) * B * outputs // jobs
        for b in range(start // outputs, -(-stop // outputs)):
            o = slice(max(start - b * outputs, 0), min(stop - b * outputs, outputs))
            first, last = np.uint64(o.start * count), np.uint64(o.stop * count)
            y_SO[:, o] = zero
            for t in range(T):
                x = x_TBI[t, b]
                scatter(x, events, weight_IK, offset_IK, first, last, y[t * outputs :])
            y_TBO[:, b, o] = y_SO[:steps, o]


@inner
def _gather(x_I, events_I, g, offset_IK, g_weight_IK):
    """One step's events add the gradients that they reached."""
    for n in range(_events(x_I, events_I)):
        i = events_I[n]
        for k in range(offset_IK.shape[1]):
            g_weight_IK[i, k] += x_I[i] * g[offset_IK[i, k]]


@kernel
def weight_gradient(jobs, x_TBI, g_BSO, offset_IK, g_weight_IK):
    """Sums over all events of input times the gradient it reached. A job takes I / jobs inputs."""
    T, B, inputs = x_TBI.shape
    outputs = g_BSO.shape[2]
    for job in prange(jobs):
        events = np.empty(inputs + 1, np.uint32)
        i = slice(job * inputs // jobs, (job + 1) * inputs // jobs)
        for b in range(B):
            g = g_BSO[b].reshape(-1)
            for t in range(T):
                x = x_TBI[t, b, i]
                _gather(x, events, g[t * outputs :], offset_IK[i], g_weight_IK[i])


@inner
def _add_scaled(value, g_T, total_T):
    for t in range(total_T.size):
        total_T[t] += value * g_T[t]


@kernel
def input_gradient(jobs, g_BOS, weight_IK, offset_IK, g_x_BIT):
    """Every synapse adds the gradient of its output, as much earlier as it delays."""
    B, inputs, _ = g_x_BIT.shape
    zero = g_BOS.dtype.type(0)
    for job in prange(jobs):
        for row in range(job * B * inputs // jobs, (job + 1) * B * inputs // jobs):
            b, i = row // inputs, row % inputs
            g = g_BOS[b].reshape(-1)
            total = g_x_BIT[b, i]
            total[:] = zero
            for k in range(offset_IK.shape[1]):
                _add_scaled(weight_IK[i, k], g[offset_IK[i, k] :], total)
