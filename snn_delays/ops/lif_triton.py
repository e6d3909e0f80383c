# mypy: allow-untyped-defs, allow-incomplete-defs
"""Scans of LIF neurons and their gradients on the GPU; ``ops.lif`` says what they compute.

Shapes: T time, N lanes: all neurons of all samples. A program takes its lanes through all of time.
What is read does not depend on the membrane, so that copies can run ahead of the recurrence
(``num_stages`` steps): to keep an H100's memory busy, by 700 ns of latency and 3.35 TB/s, each of
its processors must have 17 KB on the way, and four programs of 128 lanes in float32 have 14 KB.
That is reckoned, not measured.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from snn_delays.runtime import triton_jit
from snn_delays.runtime.triton_jit import jit, tl


@jit
def charge(v, x, share, TAU: tl.constexpr):
    """``v - v * share / tau + x``, each operation rounded as IEEE says, as torch's on the CPU.

    A plain division in float32 would be off by up to two units in the last place on the GPU. An
    exact one is slow for a zero, which every spike leaves; but a zero is its own quotient.
    """
    pull = v * share
    zero = pull == 0.0
    some = tl.where(zero, 1.0, pull)
    leaked = tl.div_rn(some, TAU) if pull.dtype == tl.float32 else some / TAU
    return v - tl.where(zero, pull, leaked) + x


@jit
def _fire(
    x_TN, v_N, share, s_TN, T, N, TAU: tl.constexpr, V_THRESHOLD: tl.constexpr, LANES: tl.constexpr
):
    n = tl.program_id(0) * LANES + tl.arange(0, LANES)
    inside = n < N
    at = n.to(tl.int64)
    v = tl.load(v_N + at, inside, other=0.0)
    leak = tl.load(share)
    for _ in tl.range(0, T, num_stages=8):
        h = charge(v, tl.load(x_TN + at, inside, other=0.0), leak, TAU)
        fired = h >= V_THRESHOLD
        tl.store(s_TN + at, fired.to(h.dtype), inside)
        v = tl.where(fired, 0.0, h)
        at += N
    tl.store(v_N + n, v, inside)


@jit
def _fire_gradient(
    x_TN, v_N, g_v_N, share, g_s_TN, g_x_TN, T, N,
    TAU: tl.constexpr, V_THRESHOLD: tl.constexpr, HALF_ALPHA: tl.constexpr, SLOPE: tl.constexpr,
    LANES: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0) * LANES + tl.arange(0, LANES)
    inside = n < N
    at = n.to(tl.int64)
    v = tl.load(v_N + at, inside, other=0.0)
    leak = tl.load(share)
    for _ in tl.range(0, T, num_stages=8):
        tl.store(g_x_TN + at, v, inside)  # before the step; the way back puts the gradient there
        h = charge(v, tl.load(x_TN + at, inside, other=0.0), leak, TAU)
        v = tl.where(h >= V_THRESHOLD, 0.0, h)
        at += N
    tl.debug_barrier()
    at = n.to(tl.int64) + tl.cast(T, tl.int64) * N  # anew: the first loop's has its own layout
    keep = 1.0 - leak / TAU
    g_v = tl.load(g_v_N + n, inside, other=0.0)
    of_share = tl.zeros_like(g_v)
    for _ in tl.range(0, T, num_stages=8):
        at -= N
        v = tl.load(g_x_TN + at, inside, other=0.0)
        h = charge(v, tl.load(x_TN + at, inside, other=0.0), leak, TAU)
        d = SLOPE * (h - V_THRESHOLD)
        g = tl.load(g_s_TN + at, inside, other=0.0) * HALF_ALPHA / (1.0 + d * d)
        g += tl.where(h >= V_THRESHOLD, 0.0, g_v)
        tl.store(g_x_TN + at, g, inside)
        g_v = g * keep
        of_share += g * v
    tl.store(g_v_N + n, g_v, inside)
    tl.store(v_N + n, of_share, inside)


@jit
def _integrate(x_TN, v_N, share, v_TN, T, N, TAU: tl.constexpr, LANES: tl.constexpr):
    n = tl.program_id(0) * LANES + tl.arange(0, LANES)
    inside = n < N
    at = n.to(tl.int64)
    v = tl.load(v_N + at, inside, other=0.0)
    leak = tl.load(share)
    for _ in tl.range(0, T, num_stages=8):
        v = charge(v, tl.load(x_TN + at, inside, other=0.0), leak, TAU)
        tl.store(v_TN + at, v, inside)
        at += N


@jit
def _integrate_gradient(
    v_TN, v_N, share, g_TN, g_x_TN, g_v_N, g_share_N, T, N, TAU: tl.constexpr, LANES: tl.constexpr
):
    n = tl.program_id(0) * LANES + tl.arange(0, LANES)
    inside = n < N
    first = tl.load(v_N + n, inside, other=0.0)
    keep = 1.0 - tl.load(share) / TAU
    g_v = tl.zeros_like(first)
    of_share = tl.zeros_like(first)
    at = n.to(tl.int64) + tl.cast(T, tl.int64) * N
    for _ in tl.range(0, T, num_stages=8):
        at -= N
        later = at >= N  # than the first step
        v = tl.where(later, tl.load(v_TN + at - N, inside & later, other=0.0), first)
        g = tl.load(g_TN + at, inside, other=0.0) + g_v
        tl.store(g_x_TN + at, g, inside)
        g_v = g * keep
        of_share += g * v
    tl.store(g_v_N + n, g_v, inside)
    tl.store(g_share_N + n, of_share, inside)


def fire(
    x_TN: Tensor, v_N: Tensor, share: Tensor, tau: float, v_threshold: float, s_TN: Tensor
) -> None:
    """In place: the membrane v_N before the first step becomes that after the last."""
    T, N = x_TN.shape
    constants: dict[str, Any] = {"TAU": float(tau), "V_THRESHOLD": float(v_threshold)}
    triton_jit.launch(_fire, N, x_TN, v_N, share, s_TN, T, N, **constants)


def fire_gradient(
    x_TN: Tensor, v_N: Tensor, g_v_N: Tensor, share: Tensor, tau: float, v_threshold: float,
    half_alpha: float, slope: float, g_s_TN: Tensor, g_x_TN: Tensor,
) -> None:  # fmt: skip
    """In place: v_N, the first membrane, becomes the sum over time of gradient times membrane.

    g_v_N turns from the gradient of the last membrane to that of the first.
    """
    T, N = x_TN.shape
    constants: dict[str, Any] = {"TAU": float(tau), "V_THRESHOLD": float(v_threshold)}
    constants |= {"HALF_ALPHA": float(half_alpha), "SLOPE": float(slope)}
    triton_jit.launch(_fire_gradient, N, x_TN, v_N, g_v_N, share, g_s_TN, g_x_TN, T, N, **constants)


def integrate(x_TN: Tensor, v_N: Tensor, share: Tensor, tau: float, v_TN: Tensor) -> None:
    """The membrane after every step, from v_N on."""
    T, N = x_TN.shape
    triton_jit.launch(_integrate, N, x_TN, v_N, share, v_TN, T, N, TAU=float(tau))


def integrate_gradient(
    v_TN: Tensor, v_N: Tensor, share: Tensor, tau: float, g_TN: Tensor, g_x_TN: Tensor,
    g_v_N: Tensor, g_share_N: Tensor,
) -> None:  # fmt: skip
    """Gradients of input and first membrane, sums over time of gradient times membrane."""
    T, N = v_TN.shape
    tensors = v_TN, v_N, share, g_TN, g_x_TN, g_v_N, g_share_N
    triton_jit.launch(_integrate_gradient, N, *tensors, T, N, TAU=float(tau))
