"""The delayed linear map written as its definition: the oracle of every faster version."""

import math

import torch
from torch import Tensor

from snn_delays.ops.maps.backend import Backend, serves_all
from snn_delays.ops.taps import Synapses


def delayed_linear(x_TBI: Tensor, synapses: Synapses, extra_steps: int) -> Tensor:
    """``y[t] = sum_j K[:, :, j] x[t - j]``, one matrix product per tap; see ``delayed_linear``."""
    kernel_DOI = synapses.kernel()
    steps = x_TBI.shape[0] + extra_steps
    y_TBO = x_TBI.new_zeros(steps, x_TBI.shape[1], kernel_DOI.shape[1])
    for j in range(min(synapses.taps, steps)):
        reached = x_TBI[: steps - j]
        late = steps - j - reached.shape[0]
        product = reached @ kernel_DOI[j].T
        y_TBO = y_TBO + torch.nn.functional.pad(product, (0, 0, 0, 0, j, late))
    return y_TBO


BACKEND = Backend("reference", delayed_linear, serves_all, cost=lambda problem: math.inf)
