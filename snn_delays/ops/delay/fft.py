"""The delayed linear map by torch's Fourier transforms: a product per frequency instead of per tap.

Its cost hardly depends on the number of taps, and not at all on sigma or the firing rate.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snn_delays.ops.delay.kernel import delay_kernel_OID
from snn_delays.ops.kept import kept
from snn_delays.ops.spectral import make_plan
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

    def make() -> Tensor:
        kernel_OID = delay_kernel_OID(weight_OIC, delay_OIC, sigma, taps)[:, :, : plan.taps]
        return torch.fft.rfft(kernel_OID.permute(2, 1, 0), plan.length, dim=0)

    keep = sigma is None and not torch.is_grad_enabled()
    kernel_FIO = kept(weight_OIC, delay_OIC, ("fft", taps, plan), make) if keep else make()
    x_FBI = torch.fft.rfft(x_TBI, plan.length, dim=0)
    y_TBO = torch.fft.irfft(torch.bmm(x_FBI, kernel_FIO), plan.length, dim=0)
    return y_TBO[: plan.out_steps]
