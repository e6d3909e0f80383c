"""A hidden layer in training as one function: delayed linear -> BatchNorm -> LIF -> dropout.

It takes the spectrum of its input and gives the spectrum of its spikes, as the next layer wants it,
so that spikes never travel to memory and back. Shapes as in ``ops.spectral``; C channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from snn_delays.ops import scans
from snn_delays.ops.kept import forget
from snn_delays.ops.memory import empty
from snn_delays.ops.spectral import (
    analyse,
    analyse_adjoint,
    columns,
    half_products,
    kernel_planes,
    linear,
    linear_gradient,
    new_spectrum,
    synthesise,
    synthesise_adjoint,
)
from snn_delays.ops.taps import weighted_taps, weighted_taps_gradient
from snn_delays.ops.transforms import Plan

SAMPLES = 32  # whose spikes exist at a time


@dataclass(frozen=True)
class BlockSettings:
    """What a block is besides its parameters.

    Attributes:
        sigma: width of the Gaussian taps in steps, or None for rounded delays.
        taps: D.
        plan: how its input was transformed.
        next_plan: how the next layer wants its input.
        tau: membrane time constant in steps.
        v_threshold: firing threshold.
        alpha: steepness of the ATan surrogate.
        eps: BatchNorm's.
    """

    sigma: float | None
    taps: int
    plan: Plan
    next_plan: Plan
    tau: float
    v_threshold: float
    alpha: float
    eps: float


class FusedBlock(Function):
    """Spectrum, weight, delay, gamma, beta, mask -> spectrum of the spikes, batch statistics, v.

    Args:
        X: [S, 2, F, B, I].
        weight: [O, I, C].
        delay: [O, I, C].
        gamma: BatchNorm's weight, [O].
        beta: BatchNorm's bias, [O].
        mask: dropout's, [B, O].
        settings: the rest.

    Returns:
        spectrum of the spikes [S', 2, F', B, O], mean and biased variance over time and batch [O],
        the membrane after the last step [B, O].
    """

    @staticmethod
    def forward(
        ctx: Any,
        X: Tensor,
        weight: Tensor,
        delay: Tensor,
        gamma: Tensor,
        beta: Tensor,
        mask: Tensor,
        settings: BlockSettings,
    ) -> Any:
        """See the class."""
        plan = settings.plan
        forget(weight)
        ctx.half = half_products(X)
        taps_DOI = weighted_taps(weight, delay, settings.sigma, settings.taps, plan.taps)
        Y = linear(X, kernel_planes(taps_DOI, plan), weight.shape[0], ctx.half)
        y, mean, var = _synthesise(Y, plan)
        rstd = (var + settings.eps).rsqrt()
        norm = _Norm.of(y, gamma, beta, mean, rstd)
        out, v = _spikes(y, norm, mask, settings)
        ctx.settings, ctx.norm = settings, norm
        ctx.save_for_backward(X, weight, delay, mask, taps_DOI, y)
        ctx.mark_non_differentiable(mean, var, v)
        return out, mean, var, v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_out: Tensor, *_: Any) -> Any:
        """Of the spectrum; the other results have no gradient."""
        X, weight, delay, mask, taps_DOI, y = ctx.saved_tensors
        settings, norm = ctx.settings, ctx.norm
        g, g_gamma, g_beta = _spikes_gradient(g_out.contiguous(), y, norm, mask, settings)
        G = _norm_gradient(g, y, norm, g_gamma, g_beta, settings.plan)
        wanted = ctx.needs_input_grad[0]
        g_X, g_taps = linear_gradient(G, X, taps_DOI, settings.plan, wanted, ctx.half)
        g_weight, g_delay = weighted_taps_gradient(
            weight, delay, settings.sigma, settings.taps, g_taps
        )
        return g_X, g_weight, g_delay, g_gamma.to(y.dtype), g_beta.to(y.dtype), None, None


@dataclass(frozen=True)
class _Norm:
    """BatchNorm of this batch: ``scale y + shift``. The first four in float64, [C] each."""

    gamma: Tensor
    mean: Tensor
    rstd: Tensor
    scale: Tensor
    shift: Tensor

    @classmethod
    def of(cls, y: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, rstd: Tensor) -> _Norm:
        gamma, beta = gamma.detach().double(), beta.detach().double()
        return cls(gamma, mean, rstd, gamma * rstd, beta - gamma * rstd * mean)

    def arrays(self, names: str, like: Tensor) -> list[Any]:
        return [getattr(self, name).to(like.dtype).numpy() for name in names.split()]


def _parts(batch: int) -> Iterator[slice]:
    """Samples that go through a stage together, so that they stay in the cache."""
    for start in range(0, batch, SAMPLES):
        yield slice(start, min(start + SAMPLES, batch))


def _of_samples(columns: Tensor, part: slice, channels: int) -> Tensor:
    """[..., B C] -> the columns of some samples."""
    return columns[..., part.start * channels : part.stop * channels]


def _synthesise(Y: Tensor, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    """y [T, B, C], and mean and biased variance of every channel in float64."""
    B, C = Y.shape[3:]
    y = empty((plan.out_steps, B, C), Y)
    sums = torch.empty(B, 2, C, dtype=y.dtype)
    pivot = None
    for part in _parts(B):
        out = _of_samples(y.flatten(1), part, C)
        synthesise(_of_samples(columns(Y), part, C), plan, out)
        if pivot is None:  # near the mean, so that the squares cancel little
            pivot = y[plan.out_steps // 2, 0].clone()
        scans.channel_sums(
            y.numpy(), part.start, part.stop - part.start, pivot.numpy(), sums.numpy()
        )
    assert pivot is not None
    first, second = sums.double().sum(0) / (plan.out_steps * B)
    return y, pivot + first, (second - first * first).clamp_(min=0)


def _spikes(y: Tensor, norm: _Norm, mask: Tensor, settings: BlockSettings) -> tuple[Tensor, Tensor]:
    """The spectrum of the spikes, and the last membrane."""
    T, B, C = y.shape
    out = new_spectrum(settings.next_plan, B, C, y)
    v = torch.empty_like(mask)
    for part in _parts(B):
        s = empty((T, part.stop - part.start, C), y)
        scans.norm_lif(
            y.numpy(),
            *norm.arrays("scale shift", y),
            mask.numpy(),
            *_numbers(y, 1 - 1 / settings.tau, settings.v_threshold),
            part.start,
            s.numpy(),
            v.numpy(),
        )
        analyse(s.flatten(1), settings.next_plan, _of_samples(columns(out), part, C))
    return out, v


def _spikes_gradient(
    g_out: Tensor, y: Tensor, norm: _Norm, mask: Tensor, settings: BlockSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the LIF's input [T, B, C], and in float64 of gamma and beta."""
    T, B, C = y.shape
    g = empty(y.shape, y)
    sums = torch.empty(B, 2, C, dtype=y.dtype)
    for part in _parts(B):
        g_s = empty((T, part.stop - part.start, C), y)
        analyse_adjoint(_of_samples(columns(g_out), part, C), settings.next_plan, g_s.flatten(1))
        scans.norm_lif_gradient(
            g_s.numpy(),
            y.numpy(),
            part.start,
            *norm.arrays("scale shift mean rstd", y),
            mask.numpy(),
            *_numbers(y, 1 - 1 / settings.tau, settings.v_threshold),
            *_numbers(y, settings.alpha / 2, settings.alpha * math.pi / 2),
            g.numpy(),
            sums.numpy(),
        )
    g_beta, g_gamma = sums.double().sum(0)
    return g, g_gamma, g_beta


def _norm_gradient(
    g: Tensor, y: Tensor, norm: _Norm, g_gamma: Tensor, g_beta: Tensor, plan: Plan
) -> Tensor:
    """The gradient of Y, [S, 2, F, B, C], from that of BatchNorm's output."""
    T, B, C = y.shape
    c = -norm.scale * norm.rstd * g_gamma / (T * B)
    b = -norm.scale * g_beta / (T * B) - c * norm.mean
    factors = [factor.to(y.dtype).numpy() for factor in (norm.scale, b, c)]
    G = new_spectrum(plan, B, C, y)
    for part in _parts(B):
        g_y = empty((T, part.stop - part.start, C), y)
        scans.norm_gradient(g.numpy(), y.numpy(), part.start, *factors, g_y.numpy())
        synthesise_adjoint(g_y.flatten(1), plan, _of_samples(columns(G), part, C))
    return G


def _numbers(like: Tensor, *values: float) -> list[Any]:
    """Scalars of the tensor's precision, or numba would compute in float64."""
    return [like.new_tensor(value).numpy()[()] for value in values]
