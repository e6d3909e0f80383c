"""The delayed linear map on spectra, forward and backward written out.

A spectrum X is [S, 2, F, B, I]: S segments, real and imaginary part, F frequencies. Per frequency
the map is a complex matrix product, done as three real ones (Gauss). The kernel's spectrum is made
for a few frequencies at a time and never kept whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from snn_delays.ops import transforms
from snn_delays.ops.kept import forget, kept
from snn_delays.ops.memory import empty
from snn_delays.ops.products import multiply, multiply_wide
from snn_delays.ops.taps import weighted_taps, weighted_taps_gradient
from snn_delays.ops.transforms import Plan

CHUNK = 1 << 19  # numbers in each plane of the kernel's spectrum that exist at a time


# ---- transforms of whole sequences -------------------------------------------------------------
#
# All write to ``out``. x and y are [steps, M], spectra [S, 2 F, M]; M columns may be some of more.


def columns(spectrum: Tensor) -> Tensor:
    """[S, 2, F, B, C] as [S, 2 F, B C]."""
    return spectrum.flatten(1, 2).flatten(2)


def analyse(x: Tensor, plan: Plan, out: Tensor) -> None:
    """The spectrum of the input."""
    for s, steps in enumerate(plan.inputs()):
        transforms.to_frequency(x[steps], plan, out[s])


def analyse_adjoint(g_X: Tensor, plan: Plan, out: Tensor) -> None:
    """From the gradient of the input's spectrum to that of the input."""
    for s, steps in enumerate(plan.inputs()):
        transforms.to_time(g_X[s], plan, out[steps])


def synthesise(Y: Tensor, plan: Plan, out: Tensor) -> None:
    """The output from its spectrum: what the segments reach, added up."""
    alone = plan.segments == 1
    out[plan.length if alone else 0 :].zero_()
    for s, steps in enumerate(plan.outputs()):
        transforms.to_time(Y[s], plan, out[steps], weighted=True, add=not alone)


def synthesise_adjoint(g_y: Tensor, plan: Plan, out: Tensor) -> None:
    """From the gradient of the output to that of its spectrum."""
    for s, steps in enumerate(plan.outputs()):
        transforms.to_frequency(g_y[steps], plan, out[s], weighted=True)


def new_spectrum(plan: Plan, batch: int, channels: int, like: Tensor) -> Tensor:
    """Memory for [S, 2, F, B, C]."""
    return empty((plan.segments, 2, plan.frequencies, batch, channels), like)


# ---- products ----------------------------------------------------------------------------------


def _sum(a: Tensor, b: Tensor, alpha: float = 1) -> Tensor:
    return torch.add(a, b, alpha=alpha, out=empty(a.shape, a))


def kernel_planes(taps_DOI: Tensor, plan: Plan) -> Iterator[tuple[slice, Tensor]]:
    """The kernel's spectrum, some frequencies at a time: which, and [3, f, O, I].

    The planes are the real part, real + imaginary and imaginary - real.
    """
    size = max(1, CHUNK // taps_DOI[0].numel())
    whole = transforms.kernel_matrix(plan, taps_DOI.dtype, taps_DOI.device)
    for start in range(0, plan.frequencies, size):
        chunk = slice(start, min(start + size, plan.frequencies))
        matrix = whole[:, chunk]
        out = empty((*matrix.shape[:2], *taps_DOI.shape[1:]), taps_DOI)
        multiply_wide(out.flatten(0, 1).flatten(1), matrix.flatten(0, 1), taps_DOI.flatten(1))
        yield chunk, out


def linear(X: Tensor, kernel: Iterable[tuple[slice, Tensor]], outputs: int, half: bool) -> Tensor:
    """[S, 2, F, B, I] and the planes of the kernel -> [S, 2, F, B, O]."""
    S, _, F, B, _ = X.shape
    Y = empty((S, 2, F, B, outputs), X)
    for chunk, planes in kernel:
        real, total, difference = planes.transpose(2, 3)
        for s in range(S):
            (x_re, x_im), (y_re, y_im) = X[s, :, chunk], Y[s, :, chunk]
            multiply(y_re, _sum(x_re, x_im), real, half=half)
            y_im.copy_(y_re)
            multiply(y_re, x_im, total, -1, 1, half)
            multiply(y_im, x_re, difference, 1, 1, half)
    return Y


def linear_gradient(
    G: Tensor, X: Tensor, taps_DOI: Tensor, plan: Plan, of_input: bool, half: bool
) -> tuple[Tensor | None, Tensor]:
    """Gradients of X (where wanted) and of the taps from that of Y, [S, 2, F, B, O]."""
    g_X = empty(X.shape, X) if of_input else None
    g_taps = empty(taps_DOI.shape, X)
    back = transforms.taps_matrix(plan, X.dtype, X.device)
    for chunk, planes in kernel_planes(taps_DOI, plan):
        g_K = empty((2, *planes.shape[1:]), X)
        for s in range(X.shape[0]):
            g_re, g_im = G[s, :, chunk]
            g_sum = _sum(g_re, g_im)
            _add_kernel_gradient(g_K, g_re, g_im, g_sum, X[s, :, chunk], s == 0, half)
            if g_X is not None:
                _write_input_gradient(g_X[s, :, chunk], g_re, g_im, g_sum, planes, half)
        flat, rows = g_taps.flatten(1), g_K.flatten(0, 1).flatten(1)
        part = back[:, chunk].flatten(0, 1).T
        multiply_wide(flat, part, rows, beta=0 if chunk.start == 0 else 1)
    return g_X, g_taps


def _add_kernel_gradient(
    g_K: Tensor, g_re: Tensor, g_im: Tensor, g_sum: Tensor, X: Tensor, first: bool, half: bool
) -> None:
    x_re, x_im = X
    part = g_K if first else empty(g_K.shape, g_K)
    k_re, k_im = part
    multiply(k_re, g_sum.transpose(1, 2), x_re, half=half)
    k_im.copy_(k_re)
    multiply(k_im, g_re.transpose(1, 2), _sum(x_re, x_im), -1, 1, half)
    multiply(k_re, g_im.transpose(1, 2), _sum(x_im, x_re, -1), 1, 1, half)
    if not first:
        g_K += part


def _write_input_gradient(
    g_X: Tensor, g_re: Tensor, g_im: Tensor, g_sum: Tensor, planes: Tensor, half: bool
) -> None:
    real, total, difference = planes
    x_re, x_im = g_X
    multiply(x_re, g_sum, real, half=half)
    x_im.copy_(x_re)
    multiply(x_re, g_im, difference, 1, 1, half)
    multiply(x_im, g_re, total, -1, 1, half)


# ---- autograd ----------------------------------------------------------------------------------


def half_products(x: Tensor) -> bool:
    """Whether products are to be rounded to bfloat16: inside ``torch.autocast``."""
    return torch.is_autocast_enabled(x.device.type)


class ToSpectrum(Function):
    """[T, B, I] -> [S, 2, F, B, I]."""

    @staticmethod
    def forward(ctx: Any, x_TBI: Tensor, plan: Plan) -> Tensor:
        """See the class."""
        ctx.plan = plan
        X = new_spectrum(plan, x_TBI.shape[1], x_TBI.shape[2], x_TBI)
        analyse(x_TBI.contiguous().flatten(1), plan, columns(X))
        return X

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_X: Tensor) -> Any:
        """Of x."""
        out = empty((ctx.plan.steps, *g_X.shape[3:]), g_X)
        analyse_adjoint(columns(g_X.contiguous()), ctx.plan, out.flatten(1))
        return out, None


class SpectralLinear(Function):
    """Spectrum, weight, delay -> [T_out, B, O].

    The deployed map keeps its kernel's spectrum while no gradient is wanted and nothing changes.
    """

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
        ctx.half = half_products(X)
        if any(ctx.needs_input_grad):
            forget(weight)
            taps_DOI = weighted_taps(weight, delay, sigma, taps, plan.taps)
            kernel: Iterable[tuple[slice, Tensor]] = kernel_planes(taps_DOI, plan)
            ctx.settings = sigma, taps, plan
            ctx.save_for_backward(X, weight, delay, taps_DOI)
        else:
            kind = (sigma, taps, plan)
            kernel = kept(weight, delay, kind, lambda: _planes(weight, delay, sigma, taps, plan))
        Y = linear(X, kernel, weight.shape[0], ctx.half)
        out = empty((plan.out_steps, *Y.shape[3:]), Y)
        synthesise(columns(Y), plan, out.flatten(1))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_y: Tensor) -> Any:
        """Of the spectrum, weight and delay."""
        X, weight, delay, taps_DOI = ctx.saved_tensors
        sigma, taps, plan = ctx.settings
        G = new_spectrum(plan, g_y.shape[1], g_y.shape[2], g_y)
        synthesise_adjoint(g_y.contiguous().flatten(1), plan, columns(G))
        g_X, g_taps = linear_gradient(G, X, taps_DOI, plan, ctx.needs_input_grad[0], ctx.half)
        g_weight, g_delay = weighted_taps_gradient(weight, delay, sigma, taps, g_taps)
        return g_X, g_weight, g_delay, None, None, None


def _planes(
    weight: Tensor, delay: Tensor, sigma: float | None, taps: int, plan: Plan
) -> list[tuple[slice, Tensor]]:
    return list(kernel_planes(weighted_taps(weight, delay, sigma, taps, plan.taps), plan))
