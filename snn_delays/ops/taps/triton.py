# mypy: allow-untyped-defs, allow-incomplete-defs
"""Weighted taps and their gradients on the GPU; ``Synapses.kernel`` is their definition.

The kernels are written once, and ``kernels`` makes those of a shape: it replaces ``value`` and
``slope``. Taps are computed twice, once for what normalises them, instead of being kept.

Shapes: n = O I synapses, one per thread, C kernel count, D taps, R of them wanted.
"""

from __future__ import annotations

import functools
from typing import Any

from torch import Tensor

from snn_delays.ops.primitives_triton import absolute, exp, where
from snn_delays.ops.taps.gaussian import slope, value
from snn_delays.ops.taps.synapses import Shape
from snn_delays.runtime import triton_jit
from snn_delays.runtime.specialise import specialise
from snn_delays.runtime.triton_jit import jit, tl


def _weighted(
    w_NC, d_NC, width, out_RN, N, D, R,
    C: tl.constexpr, COLUMNS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0) * LANES + tl.arange(0, LANES)
    c = tl.arange(0, COLUMNS)
    used = (n < N)[:, None] & (c < C)[None, :]
    at_NC = n.to(tl.int64)[:, None] * C + c[None, :]
    d = tl.load(d_NC + at_NC, used, other=0.0)
    w = tl.load(w_NC + at_NC, used, other=0.0)
    per_step = 1.0 / tl.load(width)
    total = tl.zeros_like(d) + 1e-7
    for j in tl.range(0, D):
        total += value((j - d) * per_step)
    w = w / total
    at = n.to(tl.int64)
    for j in tl.range(0, R):
        g = w * value((j - d) * per_step)
        tl.store(out_RN + at, tl.sum(g, 1), n < N)
        at += N


def _gradient(
    w_NC, d_NC, width, g_RN, g_w_NC, g_d_NC, N, D, R,
    C: tl.constexpr, COLUMNS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0) * LANES + tl.arange(0, LANES)
    c = tl.arange(0, COLUMNS)
    used = (n < N)[:, None] & (c < C)[None, :]
    at_NC = n.to(tl.int64)[:, None] * C + c[None, :]
    d = tl.load(d_NC + at_NC, used, other=0.0)
    w = tl.load(w_NC + at_NC, used, other=0.0)
    per_step = 1.0 / tl.load(width)
    total = tl.zeros_like(d) + 1e-7
    moment = tl.zeros_like(d)
    for j in tl.range(0, D):
        u = (j - d) * per_step
        g = value(u)
        total += g
        moment += slope(u, g)
    of_w = tl.zeros_like(d)
    of_d = tl.zeros_like(d)
    at = n.to(tl.int64)
    for j in tl.range(0, R):
        u = (j - d) * per_step
        g = value(u)
        grad = tl.load(g_RN + at, n < N, other=0.0)[:, None]
        of_w += g * grad
        of_d += slope(u, g) * grad
        at += N
    of_w = of_w / total
    of_d = (moment * of_w - of_d) / total * w * per_step
    tl.store(g_w_NC + at_NC, of_w, used)
    tl.store(g_d_NC + at_NC, of_d, used)


@functools.cache
def kernels(shape: Shape) -> tuple[Any, Any]:
    """The two kernels above, for a shape."""

    def compiled(function, **names):
        return jit(specialise(function, __name__, **names))

    names = {"tl": tl, "exp": exp, "abs": absolute, "where": where}
    names = {"value": compiled(shape.value, **names), "slope": compiled(shape.slope, **names)}
    return compiled(_weighted, **names), compiled(_gradient, **names)


def weighted(
    shape: Shape, weight_OIC: Tensor, delay_OIC: Tensor, width: Tensor, taps: int, out_ROI: Tensor
) -> None:
    """Out <- ``sum_c w g_j(d)`` for its first taps; all tensors contiguous."""
    N = weight_OIC[..., 0].numel()
    tensors = weight_OIC, delay_OIC, width, out_ROI
    triton_jit.launch(kernels(shape)[0], N, *tensors, N, taps, len(out_ROI), **_columns(weight_OIC))


def gradient(
    shape: Shape, weight_OIC: Tensor, delay_OIC: Tensor, width: Tensor, taps: int, g_ROI: Tensor,
    g_weight_OIC: Tensor, g_delay_OIC: Tensor,
) -> None:  # fmt: skip
    """Gradients of weight and delay, from that of the first taps; all tensors contiguous."""
    N = weight_OIC[..., 0].numel()
    tensors = weight_OIC, delay_OIC, width, g_ROI, g_weight_OIC, g_delay_OIC
    triton_jit.launch(kernels(shape)[1], N, *tensors, N, taps, len(g_ROI), **_columns(weight_OIC))


def _columns(weight_OIC: Tensor) -> dict[str, int]:
    """The kernel count and what follows from it; Triton's blocks have powers of two."""
    count = weight_OIC.shape[-1]
    columns = 1 << (count - 1).bit_length()
    return {"C": count, "COLUMNS": columns, "width": columns * weight_OIC.element_size()}
