# mypy: allow-untyped-defs, allow-incomplete-defs
"""Weighted taps and their gradients on the GPU; ``Synapses.kernel`` is their definition.

The kernels are written once, and ``kernels`` makes those of a shape: it replaces ``value`` and
``slope``. Taps are computed twice, once for what normalises them, instead of being kept.

Shapes: n = O I synapses, one per thread, C kernel count, D taps, R of them wanted. Parameters may
lie in memory in any order, so that a layer's own tensors serve where inputs and outputs are
exchanged: each comes with its three strides.
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


@jit
def _at(n, c, inputs, of_o, of_i, of_c):
    """Where the synapses of each lane lie, [lanes, C]."""
    first = (n // inputs).to(tl.int64) * of_o + (n % inputs) * of_i
    return first[:, None] + c[None, :] * of_c


def _weighted(
    w_OIC, w_o, w_i, w_c, d_OIC, d_o, d_i, d_c, width, out_RN, N, inputs, D, R,
    C: tl.constexpr, COLUMNS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0) * LANES + tl.arange(0, LANES)
    c = tl.arange(0, COLUMNS)
    used = (n < N)[:, None] & (c < C)[None, :]
    d = tl.load(d_OIC + _at(n, c, inputs, d_o, d_i, d_c), used, other=0.0)
    w = tl.load(w_OIC + _at(n, c, inputs, w_o, w_i, w_c), used, other=0.0)
    per_step = 1.0 / tl.load(width)
    total = tl.zeros_like(d) + 1e-7
    for j in tl.range(0, D):
        total += value((j - d) * per_step)
    w = w / total
    here = n.to(tl.int64)
    for j in tl.range(0, R):
        g = w * value((j - d) * per_step)
        tl.store(out_RN + here, tl.sum(g, 1), n < N)
        here += N


def _gradient(
    w_OIC, w_o, w_i, w_c, d_OIC, d_o, d_i, d_c, width, g_RN,
    g_w_OIC, g_w_o, g_w_i, g_w_c, g_d_OIC, g_d_o, g_d_i, g_d_c, N, inputs, D, R,
    C: tl.constexpr, COLUMNS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0) * LANES + tl.arange(0, LANES)
    c = tl.arange(0, COLUMNS)
    used = (n < N)[:, None] & (c < C)[None, :]
    d = tl.load(d_OIC + _at(n, c, inputs, d_o, d_i, d_c), used, other=0.0)
    w = tl.load(w_OIC + _at(n, c, inputs, w_o, w_i, w_c), used, other=0.0)
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
    here = n.to(tl.int64)
    for j in tl.range(0, R):
        u = (j - d) * per_step
        g = value(u)
        grad = tl.load(g_RN + here, n < N, other=0.0)[:, None]
        of_w += g * grad
        of_d += slope(u, g) * grad
        here += N
    of_w = of_w / total
    of_d = (moment * of_w - of_d) / total * w * per_step
    tl.store(g_w_OIC + _at(n, c, inputs, g_w_o, g_w_i, g_w_c), of_w, used)
    tl.store(g_d_OIC + _at(n, c, inputs, g_d_o, g_d_i, g_d_c), of_d, used)


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
    """Out <- ``sum_c w g_j(d)`` for its first taps; ``out_ROI`` contiguous."""
    parameters = *_strided(weight_OIC), *_strided(delay_OIC)
    _launch(kernels(shape)[0], weight_OIC, *parameters, width, out_ROI, sizes=(taps, len(out_ROI)))


def gradient(
    shape: Shape, weight_OIC: Tensor, delay_OIC: Tensor, width: Tensor, taps: int, g_ROI: Tensor,
    g_weight_OIC: Tensor, g_delay_OIC: Tensor,
) -> None:  # fmt: skip
    """Gradients of weight and delay, from that of the first taps, which is contiguous."""
    parameters = *_strided(weight_OIC), *_strided(delay_OIC)
    found = *_strided(g_weight_OIC), *_strided(g_delay_OIC)
    sizes = taps, len(g_ROI)
    _launch(kernels(shape)[1], weight_OIC, *parameters, width, g_ROI, *found, sizes=sizes)


def _strided(tensor: Tensor) -> tuple[Any, ...]:
    return tensor, *tensor.stride()


def _launch(kernel: Any, weight_OIC: Tensor, *arguments: Any, sizes: tuple[int, int]) -> None:
    """With the kernel count and what follows from it; Triton's blocks have powers of two."""
    outputs, inputs, count = weight_OIC.shape
    columns = 1 << (count - 1).bit_length()
    width = columns * weight_OIC.element_size()
    constants = {"C": count, "COLUMNS": columns, "width": width}
    triton_jit.launch(
        kernel, outputs * inputs, *arguments, outputs * inputs, inputs, *sizes, **constants
    )
