"""The delayed linear map in the frequency domain: a product per frequency instead of per tap.

Its cost hardly depends on the number of taps, and not at all on sigma or the firing rate.
Sequences are a few hundred steps long, where Fourier transforms written as matrix products run
faster than an FFT over strided memory.

Shapes: F = N // 2 + 1 frequencies of a transform of length N.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from snn_delays.ops.delay.kernel import delay_kernel_OID


def delayed_linear(
    x_TBI: Tensor,
    weight_OIC: Tensor,
    delay_OIC: Tensor,
    sigma: float | None,
    taps: int,
    extra_steps: int,
) -> Tensor:
    """Multiply the spectra of input and kernel; see ``delayed_linear``."""
    kernel_OID = delay_kernel_OID(weight_OIC, delay_OIC, sigma, taps)
    steps = x_TBI.shape[0] + extra_steps
    reach = min(taps, steps)  # later taps never arrive
    length = transform_length(x_TBI.shape[0], taps, extra_steps)
    x_re, x_im = _spectrum(x_TBI, length)
    k_re, k_im = _spectrum(kernel_OID[:, :, :reach].permute(2, 1, 0), length)
    # (x_re + i x_im)(k_re + i k_im) in three real products instead of four (Gauss)
    first = (x_re + x_im) @ k_re
    y_re = first - x_im @ (k_re + k_im)
    y_im = first + x_re @ (k_im - k_re)
    back = _inverse_matrix(length, min(steps, length), x_TBI.dtype, x_TBI.device)
    y = (back @ torch.cat([y_re, y_im]).flatten(1)).unflatten(1, y_re.shape[1:])
    return torch.nn.functional.pad(y, (0, 0, 0, 0, 0, steps - y.shape[0]))


def transform_length(input_steps: int, taps: int, extra_steps: int) -> int:
    """The shortest transform in which nothing wraps around."""
    return input_steps + min(taps, input_steps + extra_steps) - 1


def _spectrum(x_TBI: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of the transform over time, [F, B, I] each."""
    forth = _forward_matrix(length, x_TBI.shape[0], x_TBI.dtype, x_TBI.device)
    both = (forth @ x_TBI.flatten(1)).unflatten(1, x_TBI.shape[1:])
    real, imaginary = both.chunk(2)
    return real, imaginary


def _angles(length: int, steps: int) -> Tensor:
    """2 pi f t / N, [F, steps]; the product is reduced in whole numbers, so it stays exact."""
    f = torch.arange(length // 2 + 1).unsqueeze(1)
    t = torch.arange(steps)
    return (2 * math.pi / length) * ((f * t) % length).double()


@functools.lru_cache(maxsize=32)
def _forward_matrix(length: int, steps: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    angle = _angles(length, steps)
    return torch.cat([angle.cos(), -angle.sin()]).to(device, dtype)


@functools.lru_cache(maxsize=32)
def _inverse_matrix(length: int, steps: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[steps, 2 F]; every frequency but 0 and N / 2 stands for its mirror image too."""
    angle = _angles(length, steps)
    share = torch.full((angle.shape[0], 1), 2.0 / length, dtype=torch.float64)
    share[0] = 1 / length
    if length % 2 == 0:
        share[-1] = 1 / length
    return torch.cat([share * angle.cos(), -share * angle.sin()]).T.contiguous().to(device, dtype)
