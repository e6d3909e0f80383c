# mypy: allow-untyped-defs, allow-incomplete-defs
"""BatchNorm, LIF and dropout on the GPU; ``ops.norm_lif`` says what they compute.

Shapes: T time, B batch, C channels, N = B C lanes, P parts of time. Scans are as in
``ops.lif_triton``; sums and products over all steps share the time among programs. No sum is made
by atomic additions, whose order varies from call to call: each lane of a program keeps its own.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from snn_delays.ops.lif_triton import charge
from snn_delays.runtime import triton_jit
from snn_delays.runtime.triton_jit import jit, tl

PART = 64  # steps of a program where steps do not depend on each other


@jit
def _sums(y_TN, pivot_C, sums_P2N, T, N, C, PART: tl.constexpr, LANES: tl.constexpr):
    n = tl.program_id(0) * LANES + tl.arange(0, LANES)
    inside = n < N
    pivot = tl.load(pivot_C + n % C, inside, other=0.0)
    total = tl.zeros_like(pivot)
    squares = tl.zeros_like(pivot)
    part = tl.program_id(1).to(tl.int64)
    first = tl.program_id(1) * PART
    at = part * PART * N + n
    for _ in tl.range(first, tl.minimum(first + PART, T), num_stages=8):
        u = tl.load(y_TN + at, inside, other=0.0).to(pivot.dtype) - pivot
        total += u
        squares += u * u
        at += N
    out = sums_P2N + part * 2 * N + n
    tl.store(out, total, inside)
    tl.store(out + N, squares, inside)


@jit
def _fire(
    y_TN, norm_3C, mask_N, s_TN, v_N, T, N, C,
    TAU: tl.constexpr, V_THRESHOLD: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0) * LANES + tl.arange(0, LANES)
    inside = n < N
    mean = tl.load(norm_3C + n % C, inside, other=0.0)
    scale = tl.load(norm_3C + C + n % C, inside, other=0.0)
    shift = tl.load(norm_3C + 2 * C + n % C, inside, other=0.0)
    mask = tl.load(mask_N + n, inside, other=0.0).to(mean.dtype)
    v = tl.zeros_like(mean)
    at = n.to(tl.int64)
    for _ in tl.range(0, T, num_stages=8):
        y = tl.load(y_TN + at, inside, other=0.0).to(mean.dtype)
        h = charge(v, (y - mean) * scale + shift, 1.0, TAU)
        fired = h >= V_THRESHOLD
        tl.store(s_TN + at, tl.where(fired, mask, 0.0).to(s_TN.dtype.element_ty), inside)
        v = tl.where(fired, 0.0, h)
        at += N
    tl.store(v_N + n, v, inside)


@jit
def _fire_gradient(
    g_s_TN, y_TN, norm_3C, mask_N, g_TN, sums_2N, T, N, C,
    TAU: tl.constexpr, V_THRESHOLD: tl.constexpr, HALF_ALPHA: tl.constexpr, SLOPE: tl.constexpr,
    LANES: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0) * LANES + tl.arange(0, LANES)
    inside = n < N
    mean = tl.load(norm_3C + n % C, inside, other=0.0)
    scale = tl.load(norm_3C + C + n % C, inside, other=0.0)
    shift = tl.load(norm_3C + 2 * C + n % C, inside, other=0.0)
    mask = tl.load(mask_N + n, inside, other=0.0).to(mean.dtype)
    v = tl.zeros_like(mean)
    at = n.to(tl.int64)
    for _ in tl.range(0, T, num_stages=8):
        tl.store(g_TN + at, v, inside)  # before the step; the way back puts the gradient there
        y = tl.load(y_TN + at, inside, other=0.0).to(mean.dtype)
        h = charge(v, (y - mean) * scale + shift, 1.0, TAU)
        v = tl.where(h >= V_THRESHOLD, 0.0, h)
        at += N
    tl.debug_barrier()
    at = n.to(tl.int64) + tl.cast(T, tl.int64) * N  # anew: the first loop's has its own layout
    later = tl.zeros_like(mean)  # gradient of the membrane after the step
    total = tl.zeros_like(mean)
    moment = tl.zeros_like(mean)
    for _ in tl.range(0, T, num_stages=8):
        at -= N
        u = tl.load(y_TN + at, inside, other=0.0).to(mean.dtype) - mean
        v = tl.load(g_TN + at, inside, other=0.0)
        h = charge(v, u * scale + shift, 1.0, TAU)
        d = SLOPE * (h - V_THRESHOLD)
        pull = tl.load(g_s_TN + at, inside, other=0.0).to(mean.dtype) * mask
        g = pull * HALF_ALPHA / (1.0 + d * d) + tl.where(h >= V_THRESHOLD, 0.0, later)
        tl.store(g_TN + at, g, inside)
        later = g - g / TAU
        total += g
        moment += g * u
    tl.store(sums_2N + n, total, inside)
    tl.store(sums_2N + N + n, moment, inside)


@jit
def _norm_gradient(
    g_TN, y_TN, factors_4C, out_TN, T, N, C, PART: tl.constexpr, LANES: tl.constexpr
):
    n = tl.program_id(0) * LANES + tl.arange(0, LANES)
    inside = n < N
    mean = tl.load(factors_4C + n % C, inside, other=0.0)
    a = tl.load(factors_4C + C + n % C, inside, other=0.0)
    b = tl.load(factors_4C + 2 * C + n % C, inside, other=0.0)
    c = tl.load(factors_4C + 3 * C + n % C, inside, other=0.0)
    first = tl.program_id(1) * PART
    at = tl.program_id(1).to(tl.int64) * PART * N + n
    for _ in tl.range(first, tl.minimum(first + PART, T), num_stages=8):
        u = tl.load(y_TN + at, inside, other=0.0).to(mean.dtype) - mean
        g = a * tl.load(g_TN + at, inside, other=0.0) + b + c * u
        tl.store(out_TN + at, g.to(out_TN.dtype.element_ty), inside)
        at += N


def sums(y_TBC: Tensor, pivot_C: Tensor) -> Tensor:
    """Over a part of time each, sums of ``y - pivot`` and of its square, [P, 2, B, C]."""
    T, B, C = y_TBC.shape
    parts = -(-T // PART)
    out = pivot_C.new_empty(parts, 2, B, C)
    triton_jit.launch(_sums, B * C, y_TBC, pivot_C, out, T, B * C, C, parts=parts, PART=PART)
    return out


def fire(
    y_TBC: Tensor, norm_3C: Tensor, mask_BC: Tensor, tau: float, v_threshold: float,
    s_TBC: Tensor, v_BC: Tensor,
) -> None:  # fmt: skip
    """s <- ``mask * LIF((y - mean) * scale + shift)``, and the last membrane; norm is the three."""
    T, B, C = y_TBC.shape
    tensors = y_TBC, norm_3C, mask_BC, s_TBC, v_BC
    constants: dict[str, Any] = {"TAU": float(tau), "V_THRESHOLD": float(v_threshold)}
    triton_jit.launch(_fire, B * C, *tensors, T, B * C, C, **constants)


def fire_gradient(
    g_s_TBC: Tensor, y_TBC: Tensor, norm_3C: Tensor, mask_BC: Tensor, tau: float,
    v_threshold: float, half_alpha: float, slope: float, g_TBC: Tensor,
) -> Tensor:  # fmt: skip
    """g <- the gradient of the LIF's input from that of ``fire``'s masked spikes.

    Returns:
        its sums over time, and those of it times ``y - mean``, [2, B, C].
    """
    T, B, C = y_TBC.shape
    out = g_TBC.new_empty(2, B, C)
    tensors = g_s_TBC, y_TBC, norm_3C, mask_BC, g_TBC, out
    constants: dict[str, Any] = {"TAU": float(tau), "V_THRESHOLD": float(v_threshold)}
    constants |= {"HALF_ALPHA": float(half_alpha), "SLOPE": float(slope)}
    triton_jit.launch(_fire_gradient, B * C, *tensors, T, B * C, C, **constants)
    return out


def norm_gradient(g_TBC: Tensor, y_TBC: Tensor, factors_4C: Tensor, out_TBC: Tensor) -> None:
    """Out, which may be g, <- ``a g + b + c (y - mean)``; factors are mean, a, b, c."""
    T, B, C = y_TBC.shape
    tensors = g_TBC, y_TBC, factors_4C, out_TBC
    triton_jit.launch(_norm_gradient, B * C, *tensors, T, B * C, C, parts=-(-T // PART), PART=PART)
