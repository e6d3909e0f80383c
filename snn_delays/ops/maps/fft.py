"""The delayed linear map by torch's Fourier transforms: a product per frequency instead of per tap.

Its cost hardly depends on the number of taps, and not at all on sigma or the firing rate.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snn_delays.ops.maps import cost
from snn_delays.ops.maps.backend import Backend, why_not_kernels
from snn_delays.ops.spectral.layer import make_plan
from snn_delays.ops.taps import Synapses, delay_taps


def delayed_linear(x_TBI: Tensor, synapses: Synapses, extra_steps: int) -> Tensor:
    """Multiply the spectra of input and kernel; see ``delayed_linear``.

    All of it has the input's precision inside ``torch.autocast``, too: no transform takes bfloat16.
    """
    plan = make_plan(x_TBI.shape[0], synapses.taps, extra_steps)

    def make() -> Tensor:
        return torch.fft.rfft(delay_taps(synapses, plan.taps).mT, plan.length, dim=0)

    kernel_FIO = synapses.cached(("fft", plan), make)
    x_FBI = torch.fft.rfft(x_TBI, plan.length, dim=0)
    y_TBO = torch.fft.irfft(torch.bmm(x_FBI, kernel_FIO), plan.length, dim=0)
    return y_TBO[: plan.out_steps]


BACKEND = Backend("fft", delayed_linear, why_not_kernels, cost.of_spectra, half=False)
