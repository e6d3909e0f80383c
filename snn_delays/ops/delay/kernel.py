"""From weights and delays to the taps of a temporal convolution.

Shapes: O outputs, I inputs, C kernel count, D taps.
"""

import torch
from torch import Tensor

from snn_delays.ops.taps import Sigma, whole_delay


def gaussian_taps_OICD(delay: Tensor, sigma: float | Tensor, taps: int) -> Tensor:
    """Gaussian of width ``sigma`` around each delay, normalised over the taps.

    Equation: ``g_j = exp(-((j - d) / s)^2 / 2) / (1e-7 + sum_j')`` (DCLS, version "gauss").

    Args:
        delay: [O, I, C], in steps.
        sigma: effective width s, in steps.
        taps: D.

    Returns:
        [O, I, C, D].
    """
    j = torch.arange(taps, dtype=delay.dtype, device=delay.device)
    g = torch.exp(-0.5 * ((j - delay.unsqueeze(-1)) / sigma) ** 2)
    return g / (1e-7 + g.sum(-1, keepdim=True))


def delay_kernel_OID(weight: Tensor, delay: Tensor, sigma: Sigma, taps: int) -> Tensor:
    """The convolution kernel ``K[o, i, j] = sum_c w[o, i, c] g_j(d[o, i, c])``.

    With ``sigma=None`` the kernel is the deployed one: a single tap of weight w at the delay
    rounded to the nearest integer (half to even), differentiable in w alone.

    Args:
        weight: [O, I, C].
        delay: [O, I, C], in steps, within [0, taps - 1].
        sigma: effective width in steps, or None.
        taps: D.

    Returns:
        [O, I, D].
    """
    if sigma is not None:
        return torch.einsum("oic,oicd->oid", weight, gaussian_taps_OICD(delay, sigma, taps))
    index = whole_delay(delay, taps).long()
    return weight.new_zeros(*weight.shape[:2], taps).scatter_add(2, index, weight)
