"""The delayed linear map as one dense temporal convolution."""

from torch import Tensor
from torch.nn import functional

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
    """A convolution with the taps reversed, padded in front by D - 1; see ``delayed_linear``."""
    kernel_OID = delay_kernel_OID(weight_OIC, delay_OIC, sigma, taps)
    if taps == 1:  # no delay: one matrix product
        y_TBO = x_TBI @ kernel_OID[:, :, 0].T
        return functional.pad(y_TBO, (0, 0, 0, 0, 0, extra_steps))
    x_BIT = functional.pad(x_TBI.permute(1, 2, 0), (taps - 1, extra_steps))
    return functional.conv1d(x_BIT, kernel_OID.flip(-1)).permute(2, 0, 1)
