"""The delayed linear map on spectra, compiled, forward and backward written out.

A spectrum is [F, 2, B, C]: frequency, real and imaginary part, batch, channels. Per frequency the
map is a complex matrix product. The gradient of a sequence's spectrum is handed on as the spectrum
of the sequence's gradient: what every frequency weighs cancels between the two transforms.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from snn_delays.ops.spectral import layer_numba
from snn_delays.ops.spectral.fft_tiles import good_length, make_transform
from snn_delays.ops.taps import Synapses, gradients, weighted_taps
from snn_delays.runtime.buffers import empty

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
    def shortest(self) -> int:
        """The least N at which nothing wraps around."""
        return max(self.steps + self.taps - 1, self.out_steps, 1)

    @functools.cached_property
    def length(self) -> int:
        """N, the length of the transforms."""
        return good_length(self.shortest)

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
    layer_numba.to_spectrum(x.numpy(), *plan.transform(x), X.numpy())
    return X


def to_time(X: Tensor, plan: Plan, steps: int) -> Tensor:
    """The first ``steps`` of the sequences whose spectrum X is, [steps, B, C]."""
    x = empty((steps, *X.shape[2:]), X)
    layer_numba.to_time(X.contiguous().numpy(), *plan.transform(X), x.numpy())
    return x


def kernel_spectrum(synapses: Synapses, plan: Plan) -> Tensor:
    """Of the taps of all synapses, [F, 2, O, I]."""
    return to_spectrum(weighted_taps(synapses, plan.taps), plan)


def linear(X: Tensor, kernel: Tensor, plan: Plan, half: bool) -> Tensor:
    """[F, 2, B, I] and [F, 2, O, I] -> [F, 2, B, O]."""
    out = empty((*X.shape[:3], kernel.shape[2]), X)
    if half:
        for f in _chunks(out):
            out[f] = _half_product(X[f], kernel[f].mT, False)
        return out
    layer_numba.products(X.contiguous().numpy(), kernel.numpy(), plan.length, out.numpy())
    return out


def linear_gradient(
    G: Tensor, X: Tensor, kernel: Tensor, plan: Plan, of_input: bool, half: bool
) -> Tensor | None:
    """The gradient of X, where wanted, from that of the output; that of the kernel replaces it.

    That of X replaces X unless the graph is kept: these are the largest arrays of a layer, and
    second ones would be most of a step's memory.
    """
    X = X.contiguous()
    if of_input and not graph_is_kept():
        g_X = X
        torch.autograd.graph.increment_version(X)  # of another layer that kept it, an error
    else:
        g_X = empty(X.shape if of_input else (0,) * 4, X)
    if half:
        for f in _chunks(G):
            held = _half_product(G[f], kernel[f], True) if of_input else None
            kernel[f] = _half_product(G[f].mT, X[f], True)
            if held is not None:
                g_X[f] = held
    else:
        layer_numba.products_gradient(
            G.contiguous().numpy(),
            X.numpy(),
            kernel.numpy(),
            plan.length,
            of_input,
            g_X.numpy(),
        )
    return g_X if of_input else None


def parameter_gradients(
    g_kernel: Tensor, synapses: Synapses, plan: Plan
) -> tuple[Tensor, Tensor | None]:
    """Of weight and delay; deployed delays have none."""
    return gradients(synapses, to_time(g_kernel, plan, plan.taps))


def _chunks(spectrum: Tensor) -> list[slice]:
    return [slice(f, f + HALF_CHUNK) for f in range(0, len(spectrum), HALF_CHUNK)]


def _half_product(a: Tensor, b: Tensor, conjugate: bool) -> Tensor:
    """``a b``, b conjugated where so said; factors and products in bfloat16, sums not."""
    sign = -1 if conjugate else 1
    (a_re, a_im), (b_re, b_im) = (t.bfloat16().unbind(1) for t in (a, b))
    real = torch.sub((a_re @ b_re).float(), a_im @ b_im, alpha=sign)
    return torch.stack([real, torch.add((a_im @ b_re).float(), a_re @ b_im, alpha=sign)], 1)


# ---- autograd ----------------------------------------------------------------------------------


def graph_is_kept() -> bool:
    """Whether a second backward pass may need what the forward pass kept: nothing is overwritten.

    False only within a backward pass that frees its graph, which torch's own compiler asks the
    same way.
    """
    return bool(torch._C._autograd._get_current_graph_task_keep_graph())


def take_kernel(ctx: Any, synapses: Synapses, plan: Plan) -> Tensor:
    """The kernel's spectrum of the forward pass, to be written over; made anew the second time."""
    kernel, ctx.kernel = ctx.kernel, None
    return kernel_spectrum(synapses, plan) if kernel is None else kernel


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
        ctx: Any, X: Tensor, weight: Tensor, delay: Tensor, synapses: Synapses, plan: Plan
    ) -> Tensor:
        """See the class."""
        ctx.synapses, ctx.plan, ctx.half = synapses, plan, half_products(X)
        ctx.kernel = kernel_spectrum(synapses, plan)
        ctx.save_for_backward(X, weight, delay)
        return to_time(linear(X, ctx.kernel, plan, ctx.half), plan, plan.out_steps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_y: Tensor) -> Any:
        """Of the spectrum, weight and delay."""
        X, weight, delay = ctx.saved_tensors
        synapses, plan = replace(ctx.synapses, weight=weight, delay=delay), ctx.plan
        kernel = take_kernel(ctx, synapses, plan)
        G = to_spectrum(g_y, plan)
        g_X = linear_gradient(G, X, kernel, plan, ctx.needs_input_grad[0], ctx.half)
        del G
        return g_X, *parameter_gradients(kernel, synapses, plan), None, None
