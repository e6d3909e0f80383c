"""The delayed linear map as one dense temporal convolution."""

from torch import Tensor
from torch.nn import functional

from snn_delays.ops.maps import cost
from snn_delays.ops.maps.backend import Backend, serves_all
from snn_delays.ops.taps import Synapses, delay_taps
from snn_delays.runtime import triton_jit
from snn_delays.runtime.tracing import watcher


def delayed_linear(x_TBI: Tensor, synapses: Synapses, extra_steps: int) -> Tensor:
    """A convolution with the taps reversed, padded in front by D - 1; see ``delayed_linear``."""
    taps = synapses.taps
    on_gpu = triton_jit.serves(synapses.weight) and watcher() is None
    kernel_DOI = delay_taps(synapses, taps) if on_gpu else synapses.kernel()
    if taps == 1:  # no delay: one matrix product
        y_TBO = x_TBI @ kernel_DOI[0].T
        return functional.pad(y_TBO, (0, 0, 0, 0, 0, extra_steps))
    x_BIT = functional.pad(x_TBI.permute(1, 2, 0), (taps - 1, extra_steps))
    return functional.conv1d(x_BIT, kernel_DOI.permute(1, 2, 0).flip(-1)).permute(2, 0, 1)


BACKEND = Backend("dense", delayed_linear, serves_all, cost.of_convolution)
