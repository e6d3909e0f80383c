"""Gaussian taps and their gradients in closed form, a few synapses at a time so that they stay in
the cache.

Shapes: O outputs, I inputs, C kernel count, D taps, n synapses at a time. Taps come first, as the
transforms over them want it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from snn_delays.ops import compiled, gpu, taps_triton
from snn_delays.ops.memory import empty
from snn_delays.ops.taps_compiled import weighted_gaussians, weighted_gaussians_gradient
from snn_delays.ops.watched import watcher

BLOCK = 1 << 19  # taps at a time

# Width of the Gaussian in steps, or None: one tap at the rounded delay. A scalar tensor on a GPU,
# for CUDA graphs, which would keep a number as it was when they were recorded.
Sigma: TypeAlias = float | Tensor | None


def whole_delay(delay: Tensor, taps: int) -> Tensor:
    """Delays rounded to the nearest step, half to even.

    Raises:
        ValueError: a delay outside [0, taps - 1], or NaN, where looking at it costs no wait.
    """
    steps = delay.detach().round()
    looked_at = steps.device.type == "cpu" and steps.numel() and not watcher()
    if looked_at and not 0 <= steps.min() <= steps.max() < taps:
        raise ValueError(f"delays must lie in [0, {taps - 1}], the taps.")
    return steps


def weighted_taps(
    weight_OIC: Tensor, delay_OIC: Tensor, sigma: Sigma, taps: int, reach: int
) -> Tensor:
    """``sum_c w g_j(d)`` for the first ``reach`` taps; the Gaussian is normalised over all.

    Args:
        weight_OIC: weights.
        delay_OIC: delays in steps.
        sigma: width.
        taps: D.
        reach: number of taps wanted, at most D.

    Returns:
        [reach, O, I].
    """
    if sigma is not None and _on_gpu(weight_OIC):
        weight_OIC, delay_OIC = _plainly(weight_OIC, delay_OIC)
        out_DOI = weight_OIC.new_empty(reach, *weight_OIC.shape[:2])
        taps_triton.weighted_gaussians(weight_OIC, delay_OIC, sigma, taps, out_DOI)
        return out_DOI
    weight_CN, delay_CN = _by_count(weight_OIC), _by_count(delay_OIC)
    out_DN = empty((reach, weight_CN.shape[1]), weight_CN)
    if sigma is None:
        whole = weight_CN.new_zeros(taps, weight_CN.shape[1])
        out_DN.copy_(whole.scatter_add_(0, whole_delay(delay_CN, taps).long(), weight_CN)[:reach])
    elif _compiled(weight_OIC):
        weighted_gaussians(
            weight_CN.numpy(), delay_CN.numpy(), np.float32(sigma), taps, out_DN.numpy()
        )
    else:
        for part in _blocks(weight_CN.shape[1], taps):
            out = out_DN[:, part]
            for c, (w, d) in enumerate(zip(weight_CN[:, part], delay_CN[:, part], strict=True)):
                g, _ = _gaussians(d, sigma, taps)
                torch.mul(g[:reach], w, out=out) if c == 0 else out.addcmul_(g[:reach], w)
    return out_DN.view(reach, *weight_OIC.shape[:2])


def weighted_taps_gradient(
    weight_OIC: Tensor, delay_OIC: Tensor, sigma: Sigma, taps: int, g_taps_DOI: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Gradients of weight and delay from that of ``weighted_taps``; rounded delays have none.

    ``dg_j/dd = g_j (a_j - sum_j' g_j' a_j')`` with ``a_j = (j - d) / s^2``.
    """
    if sigma is not None and _on_gpu(weight_OIC):
        return _gradient_on_gpu(weight_OIC, delay_OIC, sigma, taps, g_taps_DOI)
    weight_CN, delay_CN = _by_count(weight_OIC), _by_count(delay_OIC)
    reach, g_DN = g_taps_DOI.shape[0], g_taps_DOI.flatten(1)
    g_weight_CN = torch.empty_like(weight_CN)
    if sigma is None:
        index = whole_delay(delay_CN, taps).long()
        torch.mul(g_DN.gather(0, index.clamp(max=reach - 1)), index < reach, out=g_weight_CN)
        return _as_parameter(g_weight_CN, weight_OIC), None
    g_delay_CN = torch.empty_like(weight_CN)
    if _compiled(weight_OIC):
        weighted_gaussians_gradient(
            weight_CN.numpy(), delay_CN.numpy(), np.float32(sigma), taps, g_DN.numpy(),
            g_weight_CN.numpy(), g_delay_CN.numpy(),
        )  # fmt: skip
        return _as_parameter(g_weight_CN, weight_OIC), _as_parameter(g_delay_CN, weight_OIC)
    for part in _blocks(weight_CN.shape[1], taps):
        for c, (w, d) in enumerate(zip(weight_CN[:, part], delay_CN[:, part], strict=True)):
            g, a = _gaussians(d, sigma, taps)
            mean_a = torch.linalg.vecdot(g, a, dim=0)
            pull = g[:reach].mul_(g_DN[:, part])
            g_weight = torch.sum(pull, 0, out=g_weight_CN[c, part])
            moved = torch.linalg.vecdot(pull, a[:reach], dim=0)
            g_delay_CN[c, part] = moved.addcmul_(mean_a, g_weight, value=-1).mul_(w)
    return _as_parameter(g_weight_CN, weight_OIC), _as_parameter(g_delay_CN, weight_OIC)


def delay_taps(
    weight_OIC: Tensor, delay_OIC: Tensor, sigma: Sigma, taps: int, reach: int
) -> Tensor:
    """``weighted_taps``, differentiable in weight and delay, on any device, [reach, O, I].

    It keeps its arguments for the way back and no more: where ``delay_kernel_OID`` holds arrays of
    D numbers per synapse and kernel, this one has its result alone.
    """
    taps_DOI: Tensor = _DelayTaps.apply(weight_OIC, delay_OIC, sigma, taps, reach)
    return taps_DOI


class _DelayTaps(Function):
    """Weight, delay -> taps. Rounded delays have no gradient."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, delay: Tensor, sigma: Sigma, taps: int, reach: int
    ) -> Tensor:
        ctx.save_for_backward(weight, delay)
        ctx.sigma, ctx.taps = sigma, taps
        return weighted_taps(weight, delay, sigma, taps, reach)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_taps: Tensor) -> Any:
        weight, delay = ctx.saved_tensors
        g_taps = g_taps.contiguous()
        gradients = weighted_taps_gradient(weight, delay, ctx.sigma, ctx.taps, g_taps)
        return *gradients, None, None, None


def _on_gpu(tensor: Tensor) -> bool:
    return gpu.serves(tensor) and tensor.dtype in (torch.float32, torch.float64)


def _gradient_on_gpu(
    weight_OIC: Tensor, delay_OIC: Tensor, sigma: float | Tensor, taps: int, g_taps_DOI: Tensor
) -> tuple[Tensor, Tensor]:
    weight_OIC, delay_OIC, g_taps_DOI = _plainly(weight_OIC, delay_OIC, g_taps_DOI)
    g_weight, g_delay = torch.empty_like(weight_OIC), torch.empty_like(weight_OIC)
    taps_triton.weighted_gaussians_gradient(
        weight_OIC, delay_OIC, sigma, taps, g_taps_DOI, g_weight, g_delay
    )
    return g_weight, g_delay


def _plainly(*tensors: Tensor) -> list[Tensor]:
    return [tensor.detach().contiguous() for tensor in tensors]


def _compiled(tensor: Tensor) -> bool:
    return compiled.available() and tensor.device.type == "cpu" and tensor.dtype == torch.float32


def _gaussians(delay_n: Tensor, sigma: float | Tensor, taps: int) -> tuple[Tensor, Tensor]:
    """Normalised taps and ``(j - d) / s^2``, [D, n] each."""
    j = torch.arange(taps, dtype=delay_n.dtype, device=delay_n.device).unsqueeze(1)
    a = (j - delay_n).mul_(1 / sigma**2)
    g = (a * a).mul_(-(sigma**2) / 2).exp_()
    return g.div_(g.sum(0).add_(1e-7)), a


def _blocks(synapses: int, taps: int) -> Iterator[slice]:
    width = max(BLOCK // taps, 1)
    for start in range(0, synapses, width):
        yield slice(start, start + width)


def _by_count(tensor_OIC: Tensor) -> Tensor:
    """[O, I, C] -> [C, O I], the synapses of each kernel side by side."""
    return tensor_OIC.detach().flatten(0, 1).T.contiguous()


def _as_parameter(tensor_CN: Tensor, like_OIC: Tensor) -> Tensor:
    return tensor_CN.T.contiguous().view_as(like_OIC)
