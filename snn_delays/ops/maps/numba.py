"""The delayed linear map on spectra, compiled; in training, blocks are fused around it."""

from __future__ import annotations

import torch
from torch import Tensor

from snn_delays.ops.maps import cost
from snn_delays.ops.maps.backend import Backend, why_not_compiled
from snn_delays.ops.spectral.layer import (
    SpectralLinear,
    ToSpectrum,
    half_products,
    kernel_spectrum,
    linear,
    make_plan,
    to_spectrum,
    to_time,
)
from snn_delays.ops.taps import Synapses


def delayed_linear(x_TBI: Tensor, synapses: Synapses, extra_steps: int) -> Tensor:
    """Multiply the spectra of input and kernel; see ``delayed_linear``."""
    plan = make_plan(x_TBI.shape[0], synapses.taps, extra_steps)
    if torch.is_grad_enabled():
        X = ToSpectrum.apply(x_TBI, plan)
        return SpectralLinear.apply(X, synapses.weight, synapses.delay, synapses, plan)
    kernel = synapses.cached(("numba", plan), lambda: kernel_spectrum(synapses, plan))
    Y = linear(to_spectrum(x_TBI, plan), kernel, plan, half_products(x_TBI))
    return to_time(Y, plan, plan.out_steps)


BACKEND = Backend("numba", delayed_linear, why_not_compiled, cost.of_spectra, spectra=True)
