# mypy: allow-untyped-defs, allow-incomplete-defs
"""Gaussian taps and their gradients on the GPU; ``ops.taps`` says what they compute.

Shapes: n = O I synapses, one per thread, C kernel count, D taps, R of them wanted. The Gaussians
are computed twice, once for what normalises them, instead of being kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snn_delays.ops import gpu
from snn_delays.ops.gpu import jit, tl


@jit
def _gaussian(u):
    return tl.exp(-0.5 * u * u)


@jit
def _weighted(
    w_NC, d_NC, inverse, out_RN, N, D, R,
    C: tl.constexpr, COLUMNS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0) * LANES + tl.arange(0, LANES)
    c = tl.arange(0, COLUMNS)
    used = (n < N)[:, None] & (c < C)[None, :]
    at_NC = n.to(tl.int64)[:, None] * C + c[None, :]
    d = tl.load(d_NC + at_NC, used, other=0.0)
    w = tl.load(w_NC + at_NC, used, other=0.0)
    per_step = tl.load(inverse)
    total = tl.zeros_like(d) + 1e-7
    for j in tl.range(0, D):
        total += _gaussian((j - d) * per_step)
    w = w / total
    at = n.to(tl.int64)
    for j in tl.range(0, R):
        g = w * _gaussian((j - d) * per_step)
        tl.store(out_RN + at, tl.sum(g, 1), n < N)
        at += N


@jit
def _weighted_gradient(
    w_NC, d_NC, inverse, g_RN, g_w_NC, g_d_NC, N, D, R,
    C: tl.constexpr, COLUMNS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0) * LANES + tl.arange(0, LANES)
    c = tl.arange(0, COLUMNS)
    used = (n < N)[:, None] & (c < C)[None, :]
    at_NC = n.to(tl.int64)[:, None] * C + c[None, :]
    d = tl.load(d_NC + at_NC, used, other=0.0)
    w = tl.load(w_NC + at_NC, used, other=0.0)
    per_step = tl.load(inverse)
    total = tl.zeros_like(d) + 1e-7
    moment = tl.zeros_like(d)
    for j in tl.range(0, D):
        u = (j - d) * per_step
        e = _gaussian(u)
        total += e
        moment += e * u
    of_w = tl.zeros_like(d)
    of_d = tl.zeros_like(d)
    at = n.to(tl.int64)
    for j in tl.range(0, R):
        u = (j - d) * per_step
        pull = _gaussian(u) * tl.load(g_RN + at, n < N, other=0.0)[:, None]
        of_w += pull
        of_d += pull * u
        at += N
    of_w = of_w / total
    of_d = (of_d / total - moment / total * of_w) * w * per_step
    tl.store(g_w_NC + at_NC, of_w, used)
    tl.store(g_d_NC + at_NC, of_d, used)


def weighted_gaussians(
    weight_OIC: Tensor, delay_OIC: Tensor, sigma: float | Tensor, taps: int, out_ROI: Tensor
) -> None:
    """Out <- ``sum_c w g_j(d)`` for its first taps; all tensors contiguous."""
    N = weight_OIC[..., 0].numel()
    tensors = weight_OIC, delay_OIC, _inverse(sigma, weight_OIC), out_ROI
    gpu.launch(_weighted, N, *tensors, N, taps, out_ROI.shape[0], **_columns(weight_OIC))


def weighted_gaussians_gradient(
    weight_OIC: Tensor, delay_OIC: Tensor, sigma: float | Tensor, taps: int, g_ROI: Tensor,
    g_weight_OIC: Tensor, g_delay_OIC: Tensor,
) -> None:  # fmt: skip
    """Gradients of weight and delay, from that of the first taps; all tensors contiguous."""
    N = weight_OIC[..., 0].numel()
    tensors = weight_OIC, delay_OIC, _inverse(sigma, weight_OIC), g_ROI, g_weight_OIC, g_delay_OIC
    gpu.launch(_weighted_gradient, N, *tensors, N, taps, g_ROI.shape[0], **_columns(weight_OIC))


def _inverse(sigma: float | Tensor, like: Tensor) -> Tensor:
    """A tensor: a number would come in float32, and sigma changes too often for a constant."""
    if isinstance(sigma, Tensor):
        return sigma.reciprocal()
    return torch.full((), 1 / sigma, dtype=like.dtype, device=like.device)


def _columns(weight_OIC: Tensor) -> dict[str, int]:
    """The kernel count and what follows from it; Triton's blocks have powers of two."""
    count = weight_OIC.shape[-1]
    columns = 1 << (count - 1).bit_length()
    return {"C": count, "COLUMNS": columns, "width": columns * weight_OIC.element_size()}
