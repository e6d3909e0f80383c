"""The delayed linear map in the frequency domain: a product per frequency instead of per tap.

Its cost hardly depends on the number of taps, and not at all on sigma or the firing rate.
"""

from __future__ import annotations

from torch import Tensor

from snn_delays.ops.spectral import SpectralLinear, ToSpectrum
from snn_delays.ops.transforms import make_plan


def delayed_linear(
    x_TBI: Tensor,
    weight_OIC: Tensor,
    delay_OIC: Tensor,
    sigma: float | None,
    taps: int,
    extra_steps: int,
) -> Tensor:
    """Multiply the spectra of input and kernel; see ``delayed_linear``."""
    outputs, inputs, _ = weight_OIC.shape
    plan = make_plan(x_TBI.shape[0], taps, extra_steps, inputs, outputs)
    X = ToSpectrum.apply(x_TBI, plan)
    return SpectralLinear.apply(X, weight_OIC, delay_OIC, sigma, taps, plan)
