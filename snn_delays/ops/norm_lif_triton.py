# mypy: allow-untyped-defs, allow-incomplete-defs
"""A norm's affine map, LIF and dropout on the GPU; ``ops.norm_lif`` says what they compute.

Shapes: T time, B batch, C channels, N = B C lanes. Scans are as in ``ops.lif_triton``.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from snn_delays.ops.lif_triton import charge
from snn_delays.runtime import triton_jit
from snn_delays.runtime.triton_jit import jit, tl


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
