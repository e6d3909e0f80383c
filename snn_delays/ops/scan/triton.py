# mypy: allow-untyped-defs, allow-incomplete-defs, disable-error-code=assignment
"""The scan of any neuron and its gradient on the GPU; ``ops.scan.plain`` says what they compute.

The kernels are written once, and ``kernels`` makes those of a neuron: it replaces the neuron's
functions. A program takes its lanes through all of time. What is read does not depend on the
states, so that copies can run ahead of the recurrence (``num_stages`` steps): to keep an H100's
memory busy, by 700 ns of latency and 3.35 TB/s, each of its processors must have 17 KB on the way,
and four programs of 128 lanes in float32 have 14 KB. That is reckoned, not measured.

Shapes: T time, N lanes: all neurons of all samples; C channels, the last dimension of the lanes;
S states, P parameters, M the numbers of each; K constants; L of the surrogate.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from snn_delays.ops import surrogates
from snn_delays.ops.neurons import LIF, Cell, Kind
from snn_delays.ops.primitives_triton import absolute, exp, quotient, where
from snn_delays.runtime import triton_jit
from snn_delays.runtime.specialise import specialise
from snn_delays.runtime.triton_jit import jit, tl

# What the kernels find in place of these: see ``kernels``.
charge, reset, back = LIF.charge, LIF.reset, LIF.back


@jit
def _take(rows, at, stride, inside, COUNT: tl.constexpr):
    """A number of each of some rows, as a tuple."""
    out = ()
    for i in tl.static_range(COUNT):
        out += (tl.load(rows + i * stride + at, inside, other=0.0),)
    return out


@jit
def _put(rows, at, stride, inside, values, COUNT: tl.constexpr):
    for i in tl.static_range(COUNT):
        tl.store(rows + i * stride + at, values[i], inside)


@jit
def _zeros(like, COUNT: tl.constexpr):
    out = ()
    for _ in tl.static_range(COUNT):
        out += (tl.zeros_like(like),)
    return out


@jit
def _sum(a, b, COUNT: tl.constexpr):
    out = ()
    for i in tl.static_range(COUNT):
        out += (a[i] + b[i],)
    return out


@jit
def _constants_of(NUMBERS: tl.constexpr, dtype: tl.constexpr, COUNT: tl.constexpr):
    """Numbers in the states' precision; by itself Triton rounds those of a tuple to float32."""
    out = ()
    for i in tl.static_range(COUNT):
        out += (tl.full([], NUMBERS[i], dtype),)
    return out


@jit
def _fire(u, theta):
    return tl.where(u >= theta, 1.0, 0.0).to(u.dtype)


@jit
def _no_fire(u, theta):
    return u


def _scan(
    x_TN, affine_3C, mask_N, state_SN, own_PM, out_TN, T, N, C, M,
    S: tl.constexpr, P: tl.constexpr, K: tl.constexpr, NUMBERS: tl.constexpr,
    V_THRESHOLD: tl.constexpr,
    DRESSED: tl.constexpr, AT_REST: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0) * LANES + tl.arange(0, LANES)
    inside = n < N
    dtype = state_SN.dtype.element_ty
    own = _take(own_PM, n % M, M, inside, P) + _constants_of(NUMBERS, dtype, K)
    theta = tl.full([], V_THRESHOLD, dtype)
    zero = tl.zeros([LANES], dtype)
    states = _zeros(zero, S) if AT_REST else _take(state_SN, n, N, inside, S)
    if DRESSED:
        mean, scale, shift = _take(affine_3C, n % C, C, inside, 3)
        mask = tl.load(mask_N + n, inside, other=0.0).to(dtype)
    at = n.to(tl.int64)
    for _ in tl.range(0, T, num_stages=8):
        x = tl.load(x_TN + at, inside, other=0.0).to(dtype)
        if DRESSED:
            x = (x - mean) * scale + shift
        u = charge(x, *states, *own)
        s = _fire(u, theta)
        states = reset(u, s, theta, *states, *own)
        if DRESSED:
            s = s * mask
        tl.store(out_TN + at, s.to(out_TN.dtype.element_ty), inside)
        at += N
    _put(state_SN, n, N, inside, states, S)


def _scan_gradient(
    x_TN, affine_3C, mask_N, state_SN, own_PM, g_out_TN, before_STN, g_x_TN, g_state_SN, g_own_PN,
    g_dress_2N, T, N, C, M,
    S: tl.constexpr, P: tl.constexpr, K: tl.constexpr, NUMBERS: tl.constexpr,
    V_THRESHOLD: tl.constexpr, L: tl.constexpr, SLOPE: tl.constexpr,
    DRESSED: tl.constexpr, AT_REST: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0) * LANES + tl.arange(0, LANES)
    inside = n < N
    dtype = g_x_TN.dtype.element_ty
    zero = tl.zeros([LANES], dtype)
    own = _take(own_PM, n % M, M, inside, P) + _constants_of(NUMBERS, dtype, K)
    theta = tl.full([], V_THRESHOLD, dtype)
    states = _zeros(zero, S) if AT_REST else _take(state_SN, n, N, inside, S)
    if DRESSED:
        mean, scale, shift = _take(affine_3C, n % C, C, inside, 3)
        mask = tl.load(mask_N + n, inside, other=0.0).to(dtype)
    end = tl.cast(T, tl.int64) * N
    at = n.to(tl.int64)
    for _ in tl.range(0, T, num_stages=8):
        _put(before_STN, at, end, inside, states, S)
        x = tl.load(x_TN + at, inside, other=0.0).to(dtype)
        if DRESSED:
            x = (x - mean) * scale + shift
        u = charge(x, *states, *own)
        states = reset(u, _fire(u, theta), theta, *states, *own)
        at += N
    tl.debug_barrier()
    at = n.to(tl.int64) + end  # anew: the first loop's has its own layout
    g_states = _zeros(zero, S) if AT_REST else _take(g_state_SN, n, N, inside, S)
    slope = _constants_of(SLOPE, dtype, L)
    g_own = _zeros(zero, P)
    total, moment = zero, zero
    for _ in tl.range(0, T, num_stages=8):
        at -= N
        x = tl.load(x_TN + at, inside, other=0.0).to(dtype)
        g_s = tl.load(g_out_TN + at, inside, other=0.0).to(dtype)
        states = _take(before_STN, at, end, inside, S)
        if DRESSED:
            above = x - mean
            x = above * scale + shift
            g_s = g_s * mask
        u = charge(x, *states, *own)
        spike = (u - theta,) + slope  # noqa: RUF005 - Triton knows no starred tuples
        s = _fire(u, theta)
        g_x, g_states, of_own = back(g_s, spike, x, u, s, theta, *states, *own, *g_states)
        tl.store(g_x_TN + at, g_x, inside)
        g_own = _sum(g_own, of_own, P)
        if DRESSED:
            total += g_x
            moment += g_x * above
    if not AT_REST:
        _put(g_state_SN, n, N, inside, g_states, S)
    _put(g_own_PN, n, N, inside, g_own, P)
    if DRESSED:
        _put(g_dress_2N, n, N, inside, (total, moment), 2)


@functools.cache
def kernels(kind: Kind) -> tuple[Any, Any]:
    """The two kernels above, for a kind of cell."""
    neuron, reset, surrogate = kind

    def compiled(function, **names):
        return jit(specialise(function, __name__, tl=tl, **names))

    names = {"where": where, "quotient": quotient, "exp": exp, "abs": absolute}
    names["through"] = compiled(surrogates.through, back=compiled(surrogate.back, **names))
    names |= {f: compiled(getattr(reset, f), where=where) for f in ("rest", "rest_back")}
    names = {f: compiled(getattr(neuron, f), **names) for f in ("charge", "reset", "back")}
    names["_fire"] = _fire if neuron.fires else _no_fire
    return compiled(_scan, **names), compiled(_scan_gradient, **names)


def scan(
    cell: Cell, x: Tensor, states: Tensor, own: Sequence[Tensor], dress: Sequence[Tensor],
    out: Tensor, *, at_rest: bool,
) -> None:  # fmt: skip
    """See ``ops.scan.Loops``."""
    tensors = x, *_pair(dress), states, _stacked(own), out
    constants = _constants(cell, dress, at_rest)
    triton_jit.launch(kernels(cell.kind)[0], out[0].numel(), *tensors, *_sizes(x, own), **constants)


def gradient(
    cell: Cell, x: Tensor, states: Tensor | None, own: Sequence[Tensor], dress: Sequence[Tensor],
    g_out: Tensor, g_x: Tensor, g_states: Tensor | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """See ``ops.scan.Loops``."""
    neuron = cell.neuron
    g_own, g_dress = (g_x.new_empty(n, *g_x.shape[1:]) for n in (len(own), 2 * bool(dress)))
    before = g_x if neuron.states == 1 else g_x.new_empty(neuron.states, *g_x.shape)
    tensors = x, *_pair(dress), states, _stacked(own), g_out, before, g_x, g_states, g_own, g_dress
    constants = _constants(cell, dress, states is None)
    constants |= {"L": len(cell.slope), "SLOPE": tuple(map(float, cell.slope))}
    triton_jit.launch(kernels(cell.kind)[1], g_x[0].numel(), *tensors, *_sizes(x, own), **constants)
    return g_own, g_dress


def _pair(dress: Sequence[Tensor]) -> Sequence[Tensor | None]:
    return dress or (None, None)


def _stacked(own: Sequence[Tensor]) -> Tensor | None:
    return torch.stack(torch.broadcast_tensors(*own)) if own else None


def _sizes(x: Tensor, own: Sequence[Tensor]) -> tuple[int, int, int, int]:
    """T, N, C, M."""
    return len(x), x[0].numel(), x.shape[-1], max((p.numel() for p in own), default=1)


def _constants(cell: Cell, dress: Sequence[Tensor], at_rest: bool) -> dict[str, Any]:
    return {
        "S": cell.neuron.states,
        "P": cell.neuron.parameters,
        "K": len(cell.numbers),
        "NUMBERS": tuple(map(float, cell.numbers)),
        "V_THRESHOLD": float(cell.v_threshold),
        "DRESSED": bool(dress),
        "AT_REST": at_rest,
    }
