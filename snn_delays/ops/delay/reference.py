"""The delayed linear map written as its definition: the oracle of every faster version."""

import torch
from torch import Tensor

from snn_delays.ops.delay.kernel import delay_kernel_OID
from snn_delays.ops.taps import Sigma


def delayed_linear(
    x_TBI: Tensor,
    weight_OIC: Tensor,
    delay_OIC: Tensor,
    sigma: Sigma,
    taps: int,
    extra_steps: int,
) -> Tensor:
    """``y[t] = sum_j K[:, :, j] x[t - j]``, one matrix product per tap; see ``delayed_linear``."""
    kernel_OID = delay_kernel_OID(weight_OIC, delay_OIC, sigma, taps)
    steps = x_TBI.shape[0] + extra_steps
    y_TBO = x_TBI.new_zeros(steps, x_TBI.shape[1], weight_OIC.shape[0])
    for j in range(min(taps, steps)):
        reached = x_TBI[: steps - j]
        late = steps - j - reached.shape[0]
        product = reached @ kernel_OID[:, :, j].T
        y_TBO = y_TBO + torch.nn.functional.pad(product, (0, 0, 0, 0, j, late))
    return y_TBO
