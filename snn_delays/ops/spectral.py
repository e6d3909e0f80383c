"""The delayed linear map on spectra, compiled, forward and backward written out.

A spectrum is [F, 2, B, C]: frequency, real and imaginary part, batch, channels. Per frequency the
map is a complex matrix product. The gradient of a sequence's spectrum is handed on as the spectrum
of the sequence's gradient: what every frequency weighs cancels between the two transforms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from snn_delays.ops import spectral_compiled
from snn_delays.ops.blas import one_thread
from snn_delays.ops.memory import empty
from snn_delays.ops.taps import weighted_taps, weighted_taps_gradient
from snn_delays.ops.tiles import good_length, make_transform

HALF_CHUNK = 8  # frequencies whose factors exist in bfloat16 at a time


@dataclass(frozen=True)
class Plan:
    """How a sequence is convolved with a kernel.

    Attributes:
        steps: T of the input.
        taps: taps that arrive within the output.
        out_steps: T of the output.
    """

    steps: int
    taps: int
    out_steps: int

    @property
    def length(self) -> int:
        """N, the length of the transforms: nothing wraps around."""
        return good_length(max(self.steps + self.taps - 1, self.out_steps, 1))

    @property
    def frequencies(self) -> int:
        """F."""
        return self.length // 2 + 1

    def transform(self, like: Tensor) -> tuple[Any, ...]:
        """What the compiled transforms want, in the precision of ``like``."""
        return make_transform(self.length, like.detach().numpy().dtype).arguments


def make_plan(steps: int, taps: int, extra_steps: int) -> Plan:
    """For D ``taps``; see ``delayed_linear``."""
    return Plan(steps, min(taps, steps + extra_steps), steps + extra_steps)


# ---- functions of whole arrays -----------------------------------------------------------------


def new_spectrum(plan: Plan, batch: int, channels: int, like: Tensor) -> Tensor:
    """Memory for [F, 2, B, C]."""
    return empty((plan.frequencies, 2, batch, channels), like)


def to_spectrum(x_TBC: Tensor, plan: Plan) -> Tensor:
    """The spectrum of at most N steps, [F, 2, B, C]."""
    x = x_TBC.detach().contiguous()
    X = new_spectrum(plan, x.shape[1], x.shape[2], x)
    spectral_compiled.to_spectrum(x.numpy(), *plan.transform(x), X.numpy())
    return X


def to_time(X: Tensor, plan: Plan, steps: int) -> Tensor:
    """The first ``steps`` of the sequences whose spectrum X is, [steps, B, C]."""
    x = empty((steps, *X.shape[2:]), X)
    spectral_compiled.to_time(X.contiguous().numpy(), *plan.transform(X), x.numpy())
    return x


def kernel_spectrum(
    weight: Tensor, delay: Tensor, sigma: float | None, taps: int, plan: Plan
) -> Tensor:
    """Of the taps of all synapses, [F, 2, O, I]."""
    return to_spectrum(weighted_taps(weight, delay, sigma, taps, plan.taps), plan)


def linear(X: Tensor, kernel: Tensor, half: bool) -> Tensor:
    """[F, 2, B, I] and [F, 2, O, I] -> [F, 2, B, O]."""
    out = empty((*X.shape[:3], kernel.shape[2]), X)
    _multiply(X, False, kernel, True, False, out, half)
    return out


def linear_gradient(
    G: Tensor, X: Tensor, kernel: Tensor, of_input: bool, half: bool
) -> tuple[Tensor | None, Tensor]:
    """Gradients of X (where wanted) and of the kernel from that of the output."""
    g_kernel = empty(kernel.shape, X)
    _multiply(G, True, X, False, True, g_kernel, half)
    if not of_input:
        return None, g_kernel
    g_X = empty(X.shape, X)
    _multiply(G, False, kernel, False, True, g_X, half)
    return g_X, g_kernel


def parameter_gradients(
    g_kernel: Tensor, weight: Tensor, delay: Tensor, sigma: float | None, taps: int, plan: Plan
) -> tuple[Tensor, Tensor | None]:
    """Of weight and delay; rounded delays have none."""
    g_taps = to_time(g_kernel, plan, plan.taps)
    return weighted_taps_gradient(weight, delay, sigma, taps, g_taps)


def _multiply(
    a: Tensor, a_turned: bool, b: Tensor, b_turned: bool, conjugate: bool, out: Tensor, half: bool
) -> None:
    """``out[f] <- a[f] b[f]``, the factors transposed and b conjugated where so said."""
    if half:
        a, b = (t.transpose(2, 3) if turn else t for t, turn in ((a, a_turned), (b, b_turned)))
        _multiply_half(a, b, conjugate, out)
        return
    with one_thread():
        spectral_compiled.products(
            a.contiguous().numpy(), a_turned, b.numpy(), b_turned, conjugate, out.numpy()
        )


def _multiply_half(a: Tensor, b: Tensor, conjugate: bool, out: Tensor) -> None:
    """Factors and real products rounded to bfloat16, their sums not."""
    sign = -1 if conjugate else 1
    for start in range(0, len(out), HALF_CHUNK):
        f = slice(start, start + HALF_CHUNK)
        (a_re, a_im), (b_re, b_im) = (t[f].bfloat16().unbind(1) for t in (a, b))
        torch.sub((a_re @ b_re).float(), a_im @ b_im, alpha=sign, out=out[f, 0])
        torch.add((a_im @ b_re).float(), a_re @ b_im, alpha=sign, out=out[f, 1])


# ---- autograd ----------------------------------------------------------------------------------


def half_products(x: Tensor) -> bool:
    """Whether products are to be rounded to bfloat16: inside ``torch.autocast``."""
    return torch.is_autocast_enabled(x.device.type)


class ToSpectrum(Function):
    """[T, B, I] -> [F, 2, B, I]."""

    @staticmethod
    def forward(ctx: Any, x_TBI: Tensor, plan: Plan) -> Tensor:
        """See the class."""
        ctx.plan = plan
        return to_spectrum(x_TBI, plan)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_X: Tensor) -> Any:
        """Of x."""
        return to_time(g_X, ctx.plan, ctx.plan.steps), None


class SpectralLinear(Function):
    """Spectrum, weight, delay -> [T_out, B, O]."""

    @staticmethod
    def forward(
        ctx: Any,
        X: Tensor,
        weight: Tensor,
        delay: Tensor,
        sigma: float | None,
        taps: int,
        plan: Plan,
    ) -> Tensor:
        """See the class."""
        ctx.settings, ctx.half = (sigma, taps, plan), half_products(X)
        kernel = kernel_spectrum(weight, delay, *ctx.settings)
        ctx.save_for_backward(X, weight, delay, kernel)
        return to_time(linear(X, kernel, ctx.half), plan, plan.out_steps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_y: Tensor) -> Any:
        """Of the spectrum, weight and delay."""
        X, weight, delay, kernel = ctx.saved_tensors
        G = to_spectrum(g_y, ctx.settings[2])
        g_X, g_kernel = linear_gradient(G, X, kernel, ctx.needs_input_grad[0], ctx.half)
        gradients = parameter_gradients(g_kernel, weight, delay, *ctx.settings)
        return g_X, *gradients, None, None, None
