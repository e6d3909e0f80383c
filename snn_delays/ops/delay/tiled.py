"""The delayed linear map on spectra, compiled; in training, blocks are fused around it."""

from __future__ import annotations

from torch import Tensor

from snn_delays.ops.spectral import SpectralLinear, ToSpectrum, make_plan


def delayed_linear(
    x_TBI: Tensor,
    weight_OIC: Tensor,
    delay_OIC: Tensor,
    sigma: float | None,
    taps: int,
    extra_steps: int,
) -> Tensor:
    """Multiply the spectra of input and kernel; see ``delayed_linear``."""
    plan = make_plan(x_TBI.shape[0], taps, extra_steps)
    return SpectralLinear.apply(
        ToSpectrum.apply(x_TBI, plan), weight_OIC, delay_OIC, sigma, taps, plan
    )
