# mypy: allow-untyped-defs, allow-incomplete-defs
"""A filter over time of each channel's own, and the gradient of its taps, on the GPU.

``ops.maps.depthwise`` says what they compute. A lane is a channel of a sample. A program computes
STEPS steps of its lanes, or TAPS taps, so that a number that it loads serves several products.

Shapes: T time, B batch, N channels, M = B N lanes, R taps.
"""

from __future__ import annotations

from torch import Tensor

from snn_delays.runtime import triton_jit
from snn_delays.runtime.triton_jit import jit, tl

STEPS = 16
TAPS = 8


@jit
def _convolve(
    x_TM, taps_RN, out_TM, T_in, T, M, N, R, LEAD: tl.constexpr, STEPS: tl.constexpr,
    LANES: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(0) * LANES + tl.arange(0, LANES)
    inside = m < M
    t = tl.program_id(1) * STEPS + tl.arange(0, STEPS)
    total = tl.zeros([STEPS, LANES], taps_RN.dtype.element_ty)
    for j in tl.range(0, R):
        tap = tl.load(taps_RN + j * N + m % N, inside, other=0.0)
        from_t = t + j if LEAD else t - j
        used = ((from_t >= 0) & (from_t < T_in))[:, None] & inside[None, :]
        x = tl.load(x_TM + from_t.to(tl.int64)[:, None] * M + m[None, :], used, other=0.0)
        total += tap[None, :] * x
    used = (t < T)[:, None] & inside[None, :]
    tl.store(out_TM + t.to(tl.int64)[:, None] * M + m[None, :], total, used)


@jit
def _correlate(x_TM, g_TM, out_RM, T_in, T, M, R, TAPS: tl.constexpr, LANES: tl.constexpr):
    m = tl.program_id(0) * LANES + tl.arange(0, LANES)
    inside = m < M
    j = tl.program_id(1) * TAPS + tl.arange(0, TAPS)
    total = tl.zeros([TAPS, LANES], out_RM.dtype.element_ty)
    for t in tl.range(0, T):
        g = tl.load(g_TM + tl.cast(t, tl.int64) * M + m, inside, other=0.0)
        from_t = t - j
        used = ((from_t >= 0) & (from_t < T_in))[:, None] & inside[None, :]
        x = tl.load(x_TM + from_t.to(tl.int64)[:, None] * M + m[None, :], used, other=0.0)
        total += g[None, :] * x
    used = (j < R)[:, None] & inside[None, :]
    tl.store(out_RM + j.to(tl.int64)[:, None] * M + m[None, :], total, used)


def convolve(x_TBN: Tensor, taps_RN: Tensor, transposed: bool, out_TBN: Tensor) -> None:
    """``out[t] <- sum_j taps[j] x[t - j]``, or of ``x[t + j]`` where transposed."""
    T, N = len(out_TBN), taps_RN.shape[1]
    lanes = out_TBN[0].numel()
    triton_jit.launch(
        _convolve, lanes, x_TBN, taps_RN, out_TBN, len(x_TBN), T, lanes, N, len(taps_RN),
        parts=-(-T // STEPS), LEAD=transposed, STEPS=STEPS,
    )  # fmt: skip


def correlate(x_TBN: Tensor, g_TBN: Tensor, out_RBN: Tensor) -> None:
    """``out[j] <- sum_t g[t] x[t - j]``, of every sample apart."""
    taps, lanes = len(out_RBN), out_RBN[0].numel()
    triton_jit.launch(
        _correlate, lanes, x_TBN, g_TBN, out_RBN, len(x_TBN), len(g_TBN), lanes, taps,
        parts=-(-taps // TAPS), TAPS=TAPS,
    )  # fmt: skip
