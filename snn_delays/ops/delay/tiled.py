"""The delayed linear map on spectra, compiled; in training, blocks are fused around it."""

from __future__ import annotations

import torch
from torch import Tensor

from snn_delays.ops.kept import kept
from snn_delays.ops.spectral import (
    SpectralLinear,
    ToSpectrum,
    half_products,
    kernel_spectrum,
    linear,
    make_plan,
    to_spectrum,
    to_time,
)
from snn_delays.ops.taps import Sigma


def delayed_linear(
    x_TBI: Tensor,
    weight_OIC: Tensor,
    delay_OIC: Tensor,
    sigma: Sigma,
    taps: int,
    extra_steps: int,
) -> Tensor:
    """Multiply the spectra of input and kernel; see ``delayed_linear``."""
    plan = make_plan(x_TBI.shape[0], taps, extra_steps)
    if torch.is_grad_enabled():
        X = ToSpectrum.apply(x_TBI, plan)
        return SpectralLinear.apply(X, weight_OIC, delay_OIC, sigma, taps, plan)
    settings = (sigma, taps, plan)
    kernel = kept(
        weight_OIC, delay_OIC, settings, lambda: kernel_spectrum(weight_OIC, delay_OIC, *settings)
    )
    Y = linear(to_spectrum(x_TBI, plan), kernel, plan, half_products(x_TBI))
    return to_time(Y, plan, plan.out_steps)
