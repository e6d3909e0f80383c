# mypy: allow-untyped-defs
"""The scan of any neuron and its gradient, compiled; ``ops.scan.plain`` says what they compute.

The loops are written once, and ``kernels`` compiles them for a neuron and a precision: it replaces
the neuron's functions, and the functions here that call them.

Shapes: T time, N lanes: all neurons of all samples; S states, P parameters, W lanes of a block.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snn_delays.ops import surrogates
from snn_delays.ops.neurons import LIF, Cell, Kind
from snn_delays.ops.primitives import absolute, exp_float32, exp_float64, quotient, where
from snn_delays.runtime.numba_jit import inner, kernel, prange, set_item
from snn_delays.runtime.specialise import specialise

# Lanes that a job takes at a time: their states over all steps stay in cache on the way back, and
# no two cores write to neighbouring lanes by turns.
WIDTH = 512

# What the compiled copies find in place of these: see ``kernels``.
charge, reset, back = LIF.charge, LIF.reset, LIF.back
STATES, PARAMETERS = (0.0,), ()


def _take(rows_RW, q, like):
    """The numbers of a lane as a tuple, of the length of ``like``."""
    out = like
    for i in range(len(like)):
        out = set_item(out, i, rows_RW[i, q])
    return out


def _put(rows_RW, q, values):
    for i in range(len(values)):
        rows_RW[i, q] = values[i]


def _add(rows_RW, q, values):
    for i in range(len(values)):
        rows_RW[i, q] += values[i]


def _take_nothing(rows_RW, q, like):
    return ()


def _add_nothing(rows_RW, q, values):
    pass


_take_own, _add_own, _add_dress = _take, _add, _add


def _fire(u, v_threshold):
    return 1.0 if u >= v_threshold else 0.0


def _no_fire(u, v_threshold):
    return u


def _drive(x, dress_4W, q):
    """The neuron's input: BatchNorm's affine map of x."""
    return (x - dress_4W[0, q]) * dress_4W[1, q] + dress_4W[2, q]


def _mask(value, dress_4W, q):
    return value * dress_4W[3, q]


def _undressed(value, dress_4W, q):
    return value


def _step(x_W, dress_4W, state_SW, own_PW, numbers, v_threshold, out_W):
    """One step; state turns from before to after it."""
    for q in range(x_W.size):
        own = _take(state_SW, q, STATES) + _take_own(own_PW, q, PARAMETERS) + numbers
        u = charge(_drive(x_W[q], dress_4W, q), *own)
        s = _fire(u, v_threshold)
        out_W[q] = _mask(s, dress_4W, q)
        _put(state_SW, q, reset(u, s, v_threshold, *own))


def _advance(x_W, dress_4W, state_SW, own_PW, numbers, v_threshold, next_SW):
    for q in range(x_W.size):
        own = _take(state_SW, q, STATES) + _take_own(own_PW, q, PARAMETERS) + numbers
        u = charge(_drive(x_W[q], dress_4W, q), *own)
        _put(next_SW, q, reset(u, _fire(u, v_threshold), v_threshold, *own))


def _step_back(
    x_W, dress_4W, state_SW, own_PW, numbers, v_threshold, slope, g_out_W, g_x_W,
    g_state_SW, g_own_PW, g_dress_2W,
):  # fmt: skip
    """One step back; g_state turns from after to before it."""
    for q in range(x_W.size):
        own = _take(state_SW, q, STATES) + _take_own(own_PW, q, PARAMETERS) + numbers
        x = _drive(x_W[q], dress_4W, q)
        u = charge(x, *own)
        s = _fire(u, v_threshold)
        spike = (u - v_threshold,) + slope  # noqa: RUF005 - numba knows no starred tuples here
        later = _take(g_state_SW, q, STATES)
        g_s = _mask(g_out_W[q], dress_4W, q)
        g_x, g_states, g_own = back(g_s, spike, x, u, s, v_threshold, *(own + later))
        g_x_W[q] = g_x
        _put(g_state_SW, q, g_states)
        _add_own(g_own_PW, q, g_own)
        _add_dress(g_dress_2W, q, (g_x, g_x * (x_W[q] - dress_4W[0, q])))


def _load(rows_RN, n, out_RW):
    for i in range(rows_RN.shape[0]):
        row = rows_RN[i, n]
        for q in range(row.size):
            out_RW[i, q] = row[q]


def _store(rows_RW, n, out_RN):
    for i in range(out_RN.shape[0]):
        row = out_RN[i, n]
        for q in range(row.size):
            row[q] = rows_RW[i, q]


def _scan(jobs, x_TN, dress_4N, state_SN, own_PN, numbers, v_threshold, out_TN):
    T, N = x_TN.shape
    blocks = -(-N // WIDTH)
    for job in prange(jobs):
        dress = np.empty((4, WIDTH), x_TN.dtype)
        state = np.empty((state_SN.shape[0], WIDTH), x_TN.dtype)
        own = np.empty((own_PN.shape[0], WIDTH), x_TN.dtype)
        for block in range(job * blocks // jobs, (job + 1) * blocks // jobs):
            n = slice(block * WIDTH, min((block + 1) * WIDTH, N))
            _load(dress_4N, n, dress)
            _load(state_SN, n, state)
            _load(own_PN, n, own)
            for t in range(T):
                _step(x_TN[t, n], dress, state, own, numbers, v_threshold, out_TN[t, n])
            _store(state, n, state_SN)


def _scan_gradient(
    jobs, x_TN, dress_4N, state_SN, own_PN, numbers, v_threshold, slope, g_out_TN,
    g_x_TN, g_state_SN, g_own_PN, g_dress_2N,
):  # fmt: skip
    T, N = x_TN.shape
    S, P = state_SN.shape[0], own_PN.shape[0]
    blocks = -(-N // WIDTH)
    for job in prange(jobs):
        dress, g_dress = np.empty((4, WIDTH), x_TN.dtype), np.empty((2, WIDTH), x_TN.dtype)
        states, g_state = np.empty((T, S, WIDTH), x_TN.dtype), np.empty((S, WIDTH), x_TN.dtype)
        own, g_own = np.empty((P, WIDTH), x_TN.dtype), np.empty((P, WIDTH), x_TN.dtype)
        for block in range(job * blocks // jobs, (job + 1) * blocks // jobs):
            n = slice(block * WIDTH, min((block + 1) * WIDTH, N))
            _load(dress_4N, n, dress)
            _load(state_SN, n, states[0])
            _load(own_PN, n, own)
            for t in range(T - 1):
                _advance(x_TN[t, n], dress, states[t], own, numbers, v_threshold, states[t + 1])
            _load(g_state_SN, n, g_state)
            g_own[:] = 0
            g_dress[:] = 0
            for before in range(T):
                t = T - 1 - before
                _step_back(
                    x_TN[t, n], dress, states[t], own, numbers, v_threshold, slope,
                    g_out_TN[t, n], g_x_TN[t, n], g_state, g_own, g_dress,
                )  # fmt: skip
            _store(g_state, n, g_state_SN)
            _store(g_own, n, g_own_PN)
            _store(g_dress, n, g_dress_2N)


@dataclass(frozen=True)
class Kernels:
    """The loops for one neuron and precision; they take arrays, and numbers of that precision.

    Where the input is not dressed (no affine map, no mask) ``dress`` has no rows.

    Attributes:
        scan: (x [T, N], dress [4, N]: mean, scale, shift, mask; states [S, N], parameters [P, N],
            the neuron's numbers, v_threshold, out [T, N]). The states turn from before the first
            step to after the last.
        gradient: (x, dress, states before the first step, parameters, numbers, v_threshold, the
            surrogate's numbers, g_out [T, N], g_x [T, N], g_states [S, N], from after
            the last step to before the first; g_parameters [P, N], g_dress [2, N]). g_x is that of
            the dressed input, g_dress its sums over time alone and times ``x - mean``.
    """

    scan: Callable[..., None]
    gradient: Callable[..., None]


@functools.cache
def kernels(kind: Kind, number: Any, dressed: bool) -> Kernels:
    """The loops compiled for a kind of cell, for np.float32 or np.float64.

    A product fused with a sum, or a product by 1 / tau, would round otherwise and move spikes.
    """
    compiled = compiler(__name__, kind, number, "_dressed" * dressed)
    names = steps(kind, number, dressed)
    return Kernels(compiled(_scan, kernel, **names), compiled(_scan_gradient, kernel, **names))


def compiler(module: str, kind: Kind, number: type, suffix: str = "") -> Callable[..., Any]:
    """What compiles a module's functions for a kind of cell and a precision."""
    suffix = f"_{names_of(kind)}_{number.__name__}{suffix}"

    def compiled(function, compile=inner, **names):
        return compile(specialise(function, module, suffix, number, **names), fastmath=False)

    return compiled


@functools.cache
def steps(kind: Kind, number: type, dressed: bool) -> dict[str, Any]:
    """The functions that loops over steps call, compiled, under their names."""
    compiled = compiler(__name__, kind, number, "_dressed" * dressed)
    names = functions(kind, compiled, number)
    names["_add_dress"] = compiled(_add if dressed else _add_nothing)
    names["_drive"] = compiled(_drive if dressed else _undressed)
    names["_mask"] = compiled(_mask if dressed else _undressed)
    for function in (_load, _store, _step, _advance, _step_back):
        names[function.__name__] = compiled(function, **names)
    return names


def names_of(kind: Kind) -> str:
    """What tells the kernels of a kind apart from others'."""
    return "_".join(part.name for part in kind)


def functions(
    kind: Kind,
    compiled: Callable[..., Any],
    number: Any,
    through: Callable[..., Any] = surrogates.through,
) -> dict[str, Any]:
    """The neuron's functions and those that take and put its numbers, compiled, by name."""
    neuron, reset, surrogate = kind
    exp = exp_float32 if number is np.float32 else exp_float64
    plain = {"where": where, "quotient": quotient, "exp": exp, "abs": absolute}
    of_spike = compiled(surrogate.back, **plain)
    plain["through"] = compiled(through, back=of_spike)
    plain |= {f: compiled(getattr(reset, f), where=where) for f in ("rest", "rest_back")}
    names = {f: compiled(getattr(neuron, f), **plain) for f in ("charge", "reset", "back")}
    names |= {
        "surrogate": of_spike,
        "STATES": (number(0),) * neuron.states,
        "PARAMETERS": (number(0),) * neuron.parameters,
    }
    names["_take"] = compiled(_take, set_item=set_item)
    names["_take_own"] = compiled(_take if neuron.parameters else _take_nothing, set_item=set_item)
    names["_add_own"] = compiled(_add if neuron.parameters else _add_nothing)
    names["_put"] = compiled(_put)
    names["_fire"] = compiled(_fire if neuron.fires else _no_fire)
    return names


def scan(
    cell: Cell, x: Tensor, states: Tensor, own: Sequence[Tensor], dress: Sequence[Tensor],
    out: Tensor, *, at_rest: bool,
) -> None:  # fmt: skip
    """See ``ops.scan.Loops``."""
    if at_rest:
        states.zero_()
    arrays = _rows(x), _dress(dress, x), _rows(states), _own(own, x), *_numbers(cell, x)
    _kernels(cell, x, dress).scan(*arrays, _rows(out))


def gradient(
    cell: Cell, x: Tensor, states: Tensor | None, own: Sequence[Tensor], dress: Sequence[Tensor],
    g_out: Tensor, g_x: Tensor, g_states: Tensor | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """See ``ops.scan.Loops``."""
    lanes = g_x.shape[1:]
    states, g_states = (
        x.new_zeros(cell.neuron.states, *lanes) if a is None else a for a in (states, g_states)
    )
    g_own, g_dress = (g_x.new_empty(n, *lanes) for n in (len(own), 2 * bool(dress)))
    arrays = _rows(x), _dress(dress, x), _rows(states), _own(own, x), *_numbers(cell, x)
    slope = tuple(map(_number(x), cell.slope))
    grads = map(_rows, (g_out, g_x, g_states, g_own, g_dress))
    _kernels(cell, x, dress).gradient(*arrays, slope, *grads)
    return g_own, g_dress


def _kernels(cell: Cell, x: Tensor, dress: Sequence[Tensor]) -> Kernels:
    return kernels(cell.kind, _number(x), bool(dress))


def _number(x: Tensor) -> Any:
    return x.numpy().dtype.type


def _rows(tensor: Tensor) -> Any:
    return tensor.flatten(1).numpy()


def _own(own: Sequence[Tensor], x: Tensor) -> Any:
    """Every lane's parameters."""
    lanes = x.shape[1:]
    return _rows(torch.stack([p.expand(lanes) for p in own]) if own else x.new_empty(0, *lanes))


def _dress(dress: Sequence[Tensor], x: Tensor) -> Any:
    """Every lane's mean, scale, shift and mask."""
    if not dress:
        return _rows(x.new_empty(0, *x.shape[1:]))
    affine_3C, mask_BC = dress
    return _rows(torch.cat((affine_3C[:, None].expand(3, *mask_BC.shape), mask_BC[None])))


def _numbers(cell: Cell, x: Tensor) -> tuple[Any, Any]:
    """The neuron's numbers and its threshold in x's precision: others would change numba's."""
    number = _number(x)
    return tuple(map(number, cell.numbers)), number(cell.v_threshold)
