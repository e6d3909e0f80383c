# mypy: allow-untyped-defs
"""BatchNorm, neuron and dropout between two spectra, compiled: four passes over memory, two a way.

The step and the way back are the neuron's own (``ops.neurons``), as in ``ops.scan``; the loops are
of tiles, and ``kernels`` compiles them for a kind of cell and a precision. On the way back the
states are computed again. Of a step a tile keeps its states, or, where the way back wants no more
of it than the spike, the slope of the spike.

Shapes as in ``ops.spectral.fft_tiles``; sequences in memory are [B, T, C]; S states, P parameters.
A job takes whole samples. The loops of a tile are functions of their own, or LLVM would not
vectorise them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from snn_delays.ops.neurons import BLOCK_LIF, Kind
from snn_delays.ops.resets import HARD
from snn_delays.ops.scan.numba import (
    PARAMETERS,
    STATES,
    _add,
    _fire,
    _load,
    _put,
    _store,
    _take,
    functions,
    names_of,
)
from snn_delays.ops.spectral.fft_tiles import clear, lanes, new_tile, read_spectrum, write_spectrum
from snn_delays.ops.surrogates import ATAN
from snn_delays.runtime.numba_jit import inner, kernel, prange
from snn_delays.runtime.specialise import specialise

charge, reset, back = BLOCK_LIF.charge, BLOCK_LIF.reset, BLOCK_LIF.back  # see ``kernels``
surrogate, _take_own, _add_own = ATAN.back, _take, _add


@inner
def _receive(plane, L, scale, pivot_C, b, first, last, y_BTC, sums_B2C):
    pivot = pivot_C[first:last]
    total, squares = sums_B2C[b, 0, first:last], sums_B2C[b, 1, first:last]
    total[:] = 0
    squares[:] = 0
    for t in range(y_BTC.shape[1]):
        row, z = y_BTC[b, t, first:last], plane[t * L : (t + 1) * L]
        for q in range(row.size):
            y = scale * z[q]
            row[q] = y
            u = y - pivot[q]
            total[q] += u
            squares[q] += u * u


@kernel
def to_time_with_sums(jobs, Y, radices, cos, sin, pivot_C, y_BTC, sums_B2C):
    """y <- the first T steps of spectrum Y; per sample, sum and sum of squares of ``y - pivot``."""
    B, _, C = y_BTC.shape
    N = cos.size
    L = lanes(C, N)
    scale = cos.dtype.type(1.0 / N)
    for job in prange(jobs):
        tile = new_tile(L, cos)
        for b in range(job * B // jobs, (job + 1) * B // jobs):
            for first in range(0, C, 2 * L):
                last, middle = min(first + 2 * L, C), min(first + L, C)
                one, two = read_spectrum(tile, L, radices, cos, sin, Y, b, first, last)
                _receive(one, L, scale, pivot_C, b, first, middle, y_BTC, sums_B2C)
                _receive(two, L, scale, pivot_C, b, middle, last, y_BTC, sums_B2C)


def _spikes(
    y_BTC, scale_C, shift_C, mask_BC, numbers, v_threshold, b, first, last, state_SL, own_PL, plane,
    L,
):  # fmt: skip
    """The masked spikes of a tile; state turns from 0 to after the last step."""
    scale, shift, mask = scale_C[first:last], shift_C[first:last], mask_BC[b, first:last]
    state_SL[:] = 0.0
    for t in range(y_BTC.shape[1]):
        y, s = y_BTC[b, t, first:last], plane[t * L : (t + 1) * L]
        for q in range(y.size):
            # read first: the order of reading decides how LLVM orders the sum
            own = _take(state_SL, q, STATES) + _take_own(own_PL, q, PARAMETERS) + numbers
            u = charge(scale[q] * y[q] + shift[q], *own)
            fired = _fire(u, v_threshold)
            s[q] = mask[q] * fired
            _put(state_SL, q, reset(u, fired, v_threshold, *own))


def _norm_fire(
    jobs, y_BTC, scale_C, shift_C, mask_BC, own_PC, numbers, v_threshold, radices, cos, sin, out,
    state_SBC,
):  # fmt: skip
    """Out <- the spectrum of ``mask * neuron(scale y + shift)``.

    The states after the last step go to state_SBC.
    """
    B, T, C = y_BTC.shape
    N = cos.size
    L = lanes(C, N)
    S, P = state_SBC.shape[0], own_PC.shape[0]
    for job in prange(jobs):
        tile, state, own = (
            new_tile(L, cos),
            np.empty((S, L), cos.dtype),
            np.empty((P, L), cos.dtype),
        )
        for b in range(job * B // jobs, (job + 1) * B // jobs):
            for start in range(0, C, 2 * L):
                end = min(start + 2 * L, C)
                clear(tile, L, N, T, end - start)
                for half in range(2):
                    first, last = min(start + half * L, end), min(start + (half + 1) * L, end)
                    _load(own_PC, slice(first, last), own)
                    _spikes(
                        y_BTC, scale_C, shift_C, mask_BC, numbers, v_threshold, b, first, last,
                        state, own, tile[half], L,
                    )  # fmt: skip
                    _store(state, slice(first, last), state_SBC[:, b])
                write_spectrum(tile, L, radices, cos, sin, out, b, start, end)


def _keep_slopes(
    y_BTC, scale_C, shift_C, mask_BC, numbers, v_threshold, slope, size, b, first, last, state_SL,
    own_PL, kept_TSL,
):  # fmt: skip
    """What the gradient of a spike is multiplied by, negative where the neuron fired."""
    scale, shift, mask = scale_C[first:last], shift_C[first:last], mask_BC[b, first:last]
    height = (slope[0] * size,) + slope[1:]  # noqa: RUF005 - numba knows no starred tuples here
    v = state_SL[0]
    v[:] = 0.0
    for t in range(y_BTC.shape[1]):
        y, kept = y_BTC[b, t, first:last], kept_TSL[t, 0]
        for q in range(y.size):
            before = v[q]  # read first: the order of reading decides how LLVM orders the sum
            u = charge(scale[q] * y[q] + shift[q], before, *numbers)
            fired = _fire(u, v_threshold)
            of_spike = surrogate(mask[q], u - v_threshold, *height)
            kept[q] = -of_spike if fired > 0.0 else of_spike
            (v[q],) = reset(u, fired, v_threshold, before, *numbers)


def _through_slope(g, slope):
    return abs(slope) * g


def _back_by_slopes(
    g_s, y, scale, shift, mask, numbers, v_threshold, slope, size, kept_SL, own_PL, g_state_SL,
    g_own_PL,
):  # fmt: skip
    """One step back: the gradient of the spikes, in place, becomes that of the neuron's input."""
    kept, g_v = kept_SL[0], g_state_SL[0]
    for q in range(y.size):
        fired = 1.0 if kept[q] < 0.0 else 0.0
        unknown = 0.0  # input, membranes and threshold
        g_s[q], (g_v[q],), _ = back(
            g_s[q], kept[q], unknown, unknown, fired, unknown, unknown, *numbers, g_v[q]
        )


def _keep_states(
    y_BTC, scale_C, shift_C, mask_BC, numbers, v_threshold, slope, size, b, first, last, state_SL,
    own_PL, kept_TSL,
):  # fmt: skip
    """The states before each step."""
    scale, shift = scale_C[first:last], shift_C[first:last]
    kept_TSL[0] = 0.0
    for t in range(y_BTC.shape[1] - 1):
        y, before, after = y_BTC[b, t, first:last], kept_TSL[t], kept_TSL[t + 1]
        for q in range(y.size):
            own = _take(before, q, STATES) + _take_own(own_PL, q, PARAMETERS) + numbers
            u = charge(scale[q] * y[q] + shift[q], *own)
            _put(after, q, reset(u, _fire(u, v_threshold), v_threshold, *own))


def _back_by_states(
    g_s, y, scale, shift, mask, numbers, v_threshold, slope, size, kept_SL, own_PL, g_state_SL,
    g_own_PL,
):  # fmt: skip
    """As ``_back_by_slopes``."""
    for q in range(y.size):
        own = _take(kept_SL, q, STATES) + _take_own(own_PL, q, PARAMETERS) + numbers
        x = scale[q] * y[q] + shift[q]
        u = charge(x, *own)
        fired = _fire(u, v_threshold)
        spike = (u - v_threshold,) + slope  # noqa: RUF005 - numba knows no starred tuples here
        later = _take(g_state_SL, q, STATES)
        g_s[q], before, of_own = back(
            g_s[q] * (mask[q] * size), spike, x, u, fired, v_threshold, *(own + later)
        )
        _put(g_state_SL, q, before)
        _add_own(g_own_PL, q, of_own)


_step_back = _back_by_slopes


def _back(
    plane, L, kept_TSL, y_BTC, scale_C, shift_C, mean_C, rstd_C, mask_BC, numbers, v_threshold,
    slope, size, b, first, last, own_PL, g_state_SL, g_own_PL, g_TBC, sums_B2C,
):  # fmt: skip
    """Back in time; sums of the gradient and of it times the normalised y."""
    T = y_BTC.shape[1]
    scale, shift, mask = scale_C[first:last], shift_C[first:last], mask_BC[b, first:last]
    g_state_SL[:] = 0.0
    g_own_PL[:] = 0.0
    for t in range(T - 1, -1, -1):
        _step_back(
            plane[t * L : (t + 1) * L], y_BTC[b, t, first:last], scale, shift, mask, numbers,
            v_threshold, slope, size, kept_TSL[t], own_PL, g_state_SL, g_own_PL,
        )  # fmt: skip
    mean, rstd = mean_C[first:last], rstd_C[first:last]
    total, moment = sums_B2C[b, 0, first:last], sums_B2C[b, 1, first:last]
    total[:] = 0
    moment[:] = 0
    for t in range(T):
        w, y, g = plane[t * L : (t + 1) * L], y_BTC[b, t, first:last], g_TBC[t, b, first:last]
        for q in range(g.size):
            g[q] = w[q]
            total[q] += w[q]
            moment[q] += w[q] * (y[q] - mean[q])
    for q in range(moment.size):
        moment[q] *= rstd[q]


def _norm_fire_gradient(
    jobs, G_S, radices, cos, sin, y_BTC, scale_C, shift_C, mean_C, rstd_C, mask_BC, own_PC,
    numbers, v_threshold, slope, g_TBC, sums_B2C, g_own_BPC,
):  # fmt: skip
    """From the gradient of the masked spikes, a spectrum, to that of the neuron's input.

    Both may share memory: a tile is read before it is written. Also per sample
    its sum over time, that of it times the normalised y, and the parameters'.
    """
    B, T, C = y_BTC.shape
    N = cos.size
    L = lanes(C, N)
    S, P = len(STATES), own_PC.shape[0]
    size = cos.dtype.type(1.0 / N)
    for job in prange(jobs):
        tile, kept = new_tile(L, cos), np.empty((T, S, L), cos.dtype)
        state, own = np.empty((S, L), cos.dtype), np.empty((P, L), cos.dtype)
        g_own = np.empty((P, L), cos.dtype)
        for b in range(job * B // jobs, (job + 1) * B // jobs):
            for start in range(0, C, 2 * L):
                end = min(start + 2 * L, C)
                planes = read_spectrum(tile, L, radices, cos, sin, G_S, b, start, end)
                for half in range(2):
                    first, last = min(start + half * L, end), min(start + (half + 1) * L, end)
                    _load(own_PC, slice(first, last), own)
                    _keep(
                        y_BTC, scale_C, shift_C, mask_BC, numbers, v_threshold, slope, size, b,
                        first, last, state, own, kept,
                    )  # fmt: skip
                    _back(
                        planes[half], L, kept, y_BTC, scale_C, shift_C, mean_C, rstd_C, mask_BC,
                        numbers, v_threshold, slope, size, b, first, last, own, state, g_own,
                        g_TBC, sums_B2C,
                    )  # fmt: skip
                    _store(g_own, slice(first, last), g_own_BPC[b])


_keep = _keep_slopes


@inner
def _mix(g_TBC, y_BTC, a_C, b_C, c_C, b, first, last, plane, L):
    of_g, shift, of_y = a_C[first:last], b_C[first:last], c_C[first:last]
    for t in range(y_BTC.shape[1]):
        g, y, z = g_TBC[t, b, first:last], y_BTC[b, t, first:last], plane[t * L : (t + 1) * L]
        for q in range(g.size):
            z[q] = of_g[q] * g[q] + shift[q] + of_y[q] * y[q]


@kernel
def norm_gradient(jobs, g_TBC, y_BTC, a_C, b_C, c_C, radices, cos, sin, G):
    """G <- the spectrum of BatchNorm's gradient ``a g + b + c y``; it may share the memory of g."""
    B, T, C = y_BTC.shape
    N = cos.size
    L = lanes(C, N)
    for job in prange(jobs):
        tile = new_tile(L, cos)
        for b in range(job * B // jobs, (job + 1) * B // jobs):
            for first in range(0, C, 2 * L):
                last, middle = min(first + 2 * L, C), min(first + L, C)
                clear(tile, L, N, T, last - first)
                _mix(g_TBC, y_BTC, a_C, b_C, c_C, b, first, middle, tile[0], L)
                _mix(g_TBC, y_BTC, a_C, b_C, c_C, b, middle, last, tile[1], L)
                write_spectrum(tile, L, radices, cos, sin, G, b, first, last)


@dataclass(frozen=True)
class Kernels:
    """The neuron's loops for one kind of cell and precision.

    Attributes:
        norm_fire: see ``_norm_fire``.
        gradient: see ``_norm_fire_gradient``.
    """

    norm_fire: Callable[..., None]
    gradient: Callable[..., None]


@functools.cache
def kernels(kind: Kind, number: Any) -> Kernels:
    """The neuron's loops for np.float32 or np.float64."""
    suffix = f"_{names_of(kind)}_{number.__name__}"

    def compiled(function, compile=inner, **names):
        return compile(specialise(function, __name__, suffix, number, **names))

    by_slopes = kind[:2] == (BLOCK_LIF, HARD)
    names = functions(kind, compiled, number, **({"through": _through_slope} if by_slopes else {}))
    keep, step_back = (
        (_keep_slopes, _back_by_slopes) if by_slopes else (_keep_states, _back_by_states)
    )
    names |= {"_keep": compiled(keep, **names), "_step_back": compiled(step_back, **names)}
    for function in (_load, _store, _spikes, _back):
        names[function.__name__] = compiled(function, **names)
    norm_fire = compiled(_norm_fire, kernel, **names)
    return Kernels(norm_fire, compiled(_norm_fire_gradient, kernel, **names))
