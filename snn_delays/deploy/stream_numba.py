# mypy: allow-untyped-defs
"""Steps of a whole deployed network in one compiled loop; ``plain`` says what it computes.

All layers lie in flat arrays, and a table says where; ``stream`` packs them.

Shapes: L layers, I inputs and O outputs of a layer, C kernel count, K = O C, A outputs of all
layers, N steps, M classes.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from snn_delays.ops.maps.event_numba import exact_inner, scatter
from snn_delays.runtime.numba_jit import kernel
from snn_delays.runtime.specialise import specialise

# A row of the table: sizes, where the layer's part of each flat array begins, and its options.
# Depth is the number of rows of spikes that will come back; 0: the layer is not recurrent.
TABLE = np.dtype(
    [
        (name, np.int64)
        for name in (
            "inputs", "outputs", "count", "taps", "weights", "output", "window", "returning",
            "recurrent", "depth", "bias", "norm", "filter", "kind", "fires", "soft",
        )
    ]
)  # fmt: skip
# Kinds, by their places in ``network.PARAMETERS``.
LIF, PLIF, ADAPTIVE, ADAPTIVE_AFTER, LOIHI = 0, 1, 2, 3, 6
SUM, MEAN, MAX, LAST = range(4)
# Rows of numbers, [A] each; the first four are the neurons' parameters in their order.
BIAS, ALPHA, BETA, THRESHOLD, LEAK = range(4, 9)
# Rows of the states, [A] each.
REST, ADAPTATION, FILTERED = range(3)
# What the loop counts: steps so far, the leading class, and the step since which it leads.
STEP, LEADER, SINCE = range(3)


@exact_inner
def _gather(x_I, layer, weight, offset, window, rows, number, events, y_O):
    """Add the events' weights to the window of steps to come; y <- the sum of this step.

    The window has two rows for each tap. Its first row in use moves down by one a step; after D
    steps the lower half is copied to the upper.
    """
    inputs, outputs, taps = layer.inputs, layer.outputs, layer.taps
    row, per_input = rows[number], outputs * layer.count
    here = slice(layer.weights, layer.weights + inputs * per_input)
    w_IK = weight[here].reshape(inputs, per_input)
    offset_IK = offset[here].reshape(inputs, per_input)
    first, last = np.uint64(0), np.uint64(per_input)
    scatter(x_I, events, w_IK, offset_IK, first, last, window[row * outputs :])
    y_O[:] = window[row * outputs : (row + 1) * outputs]
    rows[number] = row + 1
    if row + 1 == taps:
        half = taps * outputs
        window[:half] = window[half : 2 * half]
        window[half : 2 * half] = window.dtype.type(0)
        rows[number] = 0


@exact_inner
def _dress(layer, numbers_RO, y_O):
    """Add the bias, and normalise."""
    if layer.bias:
        for o in range(y_O.size):
            y_O[o] += numbers_RO[BIAS, o]
    if layer.norm:
        for o in range(y_O.size):
            y_O[o] = y_O[o] * numbers_RO[ALPHA, o] + numbers_RO[BETA, o]


@exact_inner
def _receive(recurrent_NN, returning_DN, row, current_N, y_N):
    """Add the weights of the spikes that come back in this step."""
    arriving, zero = returning_DN[row], y_N.dtype.type(0)
    current_N[:] = zero
    for i in range(y_N.size):
        if arriving[i] != zero:
            for o in range(y_N.size):
                current_N[o] += recurrent_NN[i, o]
    for o in range(y_N.size):
        y_N[o] += current_N[o]
    arriving[:] = zero


@exact_inner
def _send(s_N, lag_N, returning_DN, step):
    """Let spikes come back after their delays."""
    for i in range(s_N.size):
        returning_DN[(step + 1 + lag_N[i]) % returning_DN.shape[0], i] = s_N[i]


def _charge(kind, numbers_RO, states_RO, y_O):
    """The membrane u from the input y, in its place."""
    r, w, one = states_RO[REST], states_RO[ADAPTATION], y_O.dtype.type(1)
    first = numbers_RO[0]
    if kind == LIF:
        for o in range(y_O.size):
            y_O[o] = r[o] - r[o] / first[o] + y_O[o]
    elif kind == PLIF:
        for o in range(y_O.size):
            y_O[o] = r[o] - r[o] * first[o] + y_O[o]
    else:
        for o in range(y_O.size):
            y_O[o] = first[o] * r[o] + (one - first[o]) * (y_O[o] - w[o])


def _charge_integer(kind, numbers_RO, states_RO, y_O):
    r, keep = states_RO[REST], numbers_RO[0]
    toward_zero = kind == LOIHI
    for o in range(y_O.size):
        product = np.int64(r[o]) * keep[o]
        rest = -(-product >> 16) if toward_zero and product < 0 else product >> 16
        y_O[o] += np.int32(rest)


@exact_inner
def _fire(layer, numbers_RO, states_RO, u_O, s_O):
    """Spikes and reset; of neurons that never fire, the membranes."""
    r, theta = states_RO[REST], numbers_RO[THRESHOLD]
    zero, one = u_O.dtype.type(0), u_O.dtype.type(1)
    if not layer.fires:
        for o in range(u_O.size):
            s_O[o] = u_O[o]
            r[o] = u_O[o]
    elif layer.soft:
        for o in range(u_O.size):
            s_O[o] = one if u_O[o] >= theta[o] else zero
            r[o] = u_O[o] - theta[o] * s_O[o]
    else:
        for o in range(u_O.size):
            s_O[o] = one if u_O[o] >= theta[o] else zero
            r[o] = zero if u_O[o] >= theta[o] else u_O[o]


@exact_inner
def _adapt(kind, numbers_RO, states_RO, u_O, s_O):
    """The second state of adaptive neurons."""
    w = states_RO[ADAPTATION]
    be, a, b = numbers_RO[1], numbers_RO[2], numbers_RO[3]
    m = u_O if kind == ADAPTIVE else states_RO[REST]
    for o in range(u_O.size):
        w[o] = be[o] * w[o] + (a[o] * m[o] + b[o] * s_O[o])


@exact_inner
def _filter(leak_O, filtered_O, s_O):
    """The synaptic filter's output in the place of the spikes."""
    one = s_O.dtype.type(1)
    for o in range(s_O.size):
        s = s_O[o]
        filtered_O[o] = filtered_O[o] - (one - s) * filtered_O[o] * leak_O[o] + s
        s_O[o] = filtered_O[o]


@exact_inner
def _count_score(readout, v_M, unit_M, step, score_M):
    """Move the scores by a step's outputs of the readout."""
    if readout == SUM:
        most = -np.inf
        for k in range(v_M.size):
            most = max(most, v_M[k] * unit_M[k])
        total = 0.0
        for k in range(v_M.size):
            total += math.exp(v_M[k] * unit_M[k] - most)
        for k in range(v_M.size):
            score_M[k] += math.exp(v_M[k] * unit_M[k] - most) / total
    else:
        for k in range(v_M.size):
            v = v_M[k] * unit_M[k]
            if readout == MEAN:
                score_M[k] += v
            elif readout == LAST or step == 0 or v > score_M[k]:
                score_M[k] = v


@exact_inner
def _leader(score_M):
    """The class of the greatest score, the first of equals."""
    best = 0
    for k in range(score_M.size):
        if score_M[k] > score_M[best]:
            best = k
    return best


def _step(x_I, layer, number, step, network, state, scratch, s_O):
    weight, offset, numbers, recurrent, lags = network
    window, states, returning, rows = state
    events, y, current = scratch
    outputs, first = layer.outputs, layer.output
    y_O, numbers_RO = y[:outputs], numbers[:, first : first + outputs]
    states_RO = states[:, first : first + outputs]
    size = 2 * layer.taps * outputs
    place = window[layer.window : layer.window + size]
    _gather(x_I, layer, weight, offset, place, rows, number, events, y_O)
    _dress(layer, numbers_RO, y_O)
    depth = layer.depth
    ring = returning[layer.returning : layer.returning + depth * outputs].reshape(depth, outputs)
    if depth:
        here = slice(layer.recurrent, layer.recurrent + outputs * outputs)
        R = recurrent[here].reshape(outputs, outputs)
        _receive(R, ring, step % depth, current[:outputs], y_O)
    _charge(layer.kind, numbers_RO, states_RO, y_O)
    _fire(layer, numbers_RO, states_RO, y_O, s_O)
    if layer.kind == ADAPTIVE or layer.kind == ADAPTIVE_AFTER:
        _adapt(layer.kind, numbers_RO, states_RO, y_O, s_O)
    if depth:
        _send(s_O, lags[first : first + outputs], ring, step)
    if layer.filter:
        _filter(numbers_RO[LEAK], states_RO[FILTERED], s_O)


def _advance(
    jobs, frames_NI, ends_L, table_L, network, state, scratch, readout, unit_M, count, score_M,
    out_NA,
):  # fmt: skip
    """Advance by N steps; every layer is silent from its end on."""
    for n in range(frames_NI.shape[0]):
        step, x, out_A = count[STEP], frames_NI[n], out_NA[n]
        for number in range(table_L.size):
            layer = table_L[number]
            s = out_A[layer.output : layer.output + layer.outputs]
            if step < ends_L[number]:
                _step(x, layer, number, step, network, state, scratch, s)
            else:
                s[:] = s.dtype.type(0)
            x = s
        _count_score(readout, x, unit_M, step, score_M)
        count[STEP] = step + 1
        leader = _leader(score_M)
        if leader != count[LEADER]:
            count[LEADER], count[SINCE] = leader, step + 1


@functools.cache
def advance(arithmetic: str) -> Any:
    """``_advance`` for "float32", "float64" or "int32".

    Its arguments: 1, the number of jobs; frames [N, I] of the type; ends [L] int64; table [L];
    (weights, their offsets in the window, numbers [9, A], recurrent weights, lags [A]); (window,
    states [3, A], returning spikes, first row of each layer's window [L]), which move; scratch
    (events, two of the widest layer); the readout; unit [M], counts [3] and scores [M] float64,
    which move; out [N, A], what every layer gives in every step.
    """
    of_type = _charge_integer if arithmetic == "int32" else _charge
    charge = exact_inner(specialise(of_type, __name__, f"_{arithmetic}"))
    step = exact_inner(specialise(_step, __name__, f"_{arithmetic}", _charge=charge))
    whole = specialise(_advance, __name__, f"_{arithmetic}", _step=step)
    return kernel(whole, fastmath=False).serial
