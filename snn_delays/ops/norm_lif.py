"""BatchNorm in training -> LIF -> dropout as one function of sequences in time.

The norm takes mean and variance over all steps and samples, those of other processes included
(``runtime.distributed``), counted and added up in float64. Charge ``h = v - v / tau + x``, fire
where ``h >= v_threshold``, then ``v = 0`` with the reset path detached; v = 0 at the start.

Shapes: T time, B batch, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from snn_delays.ops import norm_lif_triton
from snn_delays.ops.neurons import LIF, Cell
from snn_delays.ops.scan import loops
from snn_delays.ops.scan import plain as plain_scan
from snn_delays.runtime import distributed, triton_jit


def norm_lif(
    y_TBC: Tensor,
    gamma_C: Tensor,
    beta_C: Tensor,
    mask_BC: Tensor,
    *,
    eps: float,
    tau: float,
    v_threshold: float,
    alpha: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Spikes of a layer after dropout, differentiable in y, gamma and beta.

    Where several processes train, gradients of gamma and beta are those of this process' samples,
    to be added up with the other parameters'; that of y knows of all samples.

    Args:
        y_TBC: what the norm takes, float32, float64 or bfloat16; T B C > 0.
        gamma_C: BatchNorm's weight.
        beta_C: BatchNorm's bias.
        mask_BC: dropout's, 0 or what a spike is worth.
        eps: BatchNorm's.
        tau: time constant in steps.
        v_threshold: firing threshold.
        alpha: the surrogate is ``alpha / 2 / (1 + (pi / 2 alpha (h - v_threshold))^2)``.

    Returns:
        masked spikes [T, B, C] in y's dtype; mean and biased variance [C] in float64; the membrane
        after the last step [B, C] in float32, or float64 where y is.
    """
    settings = NormLifSettings(eps, tau, v_threshold, alpha)
    compute = _NormLif.apply if triton_jit.serves(y_TBC) else plain
    return compute(y_TBC, gamma_C, beta_C, mask_BC, settings)


@dataclass(frozen=True)
class NormLifSettings:
    """Numbers of ``norm_lif``."""

    eps: float
    tau: float
    v_threshold: float
    alpha: float

    @property
    def cell(self) -> Cell:
        """The neuron."""
        return Cell(LIF, (self.tau,), self.v_threshold, self.alpha)


def plain(
    y: Tensor, gamma: Tensor, beta: Tensor, mask: Tensor, settings: NormLifSettings
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same in torch, step by step, on any device: what the kernels are held to."""
    dtype = _state_dtype(y)
    wide = y.to(dtype)
    n = _count(y)
    mean = _over_processes(wide.sum((0, 1), dtype=torch.float64)) / n
    centred = wide - mean.to(dtype)
    var = _over_processes(centred.square().sum((0, 1), dtype=torch.float64)) / n
    scale = (var + settings.eps).rsqrt().to(dtype) * gamma.to(dtype)
    x = centred * scale + beta.to(dtype)
    spikes, (v,) = plain_scan.scan(settings.cell, x, (torch.zeros_like(x[0]),))
    out = (spikes * mask.to(dtype)).to(y.dtype)
    return out, mean.detach(), var.detach(), v.detach()


class _SumOverProcesses(Function):
    """Every process' sum depends on all parts, and so do gradients."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        return distributed.all_reduce(part.clone())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_sum: Tensor) -> Tensor:
        return distributed.all_reduce(g_sum.clone())


def _over_processes(part: Tensor) -> Tensor:
    total: Tensor = _SumOverProcesses.apply(part)
    return total


def _state_dtype(y: Tensor) -> torch.dtype:
    return torch.float64 if y.dtype == torch.float64 else torch.float32


def _count(y: Tensor) -> int:
    """Numbers per channel, over all processes."""
    return y.shape[0] * distributed.whole_batch(y.shape[1])


class _NormLif(Function):
    """See ``norm_lif``. The way back scans again instead of storing."""

    @staticmethod
    def forward(
        ctx: Any, y: Tensor, gamma: Tensor, beta: Tensor, mask: Tensor, settings: NormLifSettings
    ) -> Any:
        y, mask = y.contiguous(), mask.contiguous()
        mean, var = _statistics(y)
        norm = _Norm.of(mean, (var + settings.eps).rsqrt(), gamma, beta, _state_dtype(y))
        out, v = torch.empty_like(y), torch.empty_like(mask, dtype=_state_dtype(y))
        dress = norm.tensor("mean scale shift"), mask
        loops(y).scan(settings.cell, y, v[None], (), dress, out, at_rest=True)
        ctx.settings, ctx.norm = settings, norm
        ctx.save_for_backward(y, gamma, beta, mask)
        ctx.mark_non_differentiable(mean, var, v)
        ctx.set_materialize_grads(False)  # or zeros would be made for these three at every step
        return out, mean, var, v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_out: Tensor, *_: Any) -> Any:
        y, gamma, beta, mask = ctx.saved_tensors
        norm = ctx.norm
        g, parts = _spikes_gradient(g_out.contiguous(), y, norm, mask, ctx.settings)
        g_beta, moment = parts.sum(1, dtype=torch.float64)
        g_gamma = (moment - norm.rounded * g_beta) * norm.rstd
        g_y = _norm_gradient(g, y, norm, torch.stack((g_gamma, g_beta)))
        return g_y, g_gamma.to(gamma.dtype), g_beta.to(beta.dtype), None, None


@dataclass(frozen=True)
class _Norm:
    """BatchNorm of this batch: ``scale (y - mean) + shift``; in float64, [C] each.

    ``mean`` is a number of the kernels' precision ``dtype``, and ``rounded`` what the true mean is
    above it: so that y and mean cancel before they are scaled, and nothing is lost.
    """

    mean: Tensor
    rounded: Tensor
    rstd: Tensor
    scale: Tensor
    shift: Tensor
    dtype: torch.dtype

    @classmethod
    def of(
        cls,
        mean: Tensor,
        rstd: Tensor,
        gamma: Tensor,
        beta: Tensor,
        dtype: torch.dtype,
    ) -> _Norm:
        scale = gamma.detach().double() * rstd
        near = mean.to(dtype).double()
        shift = beta.detach().double() - scale * (mean - near)
        return cls(near, mean - near, rstd, scale, shift, dtype)

    def tensor(self, names: str) -> Tensor:
        return torch.stack([getattr(self, name) for name in names.split()]).to(self.dtype)


def _statistics(y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of every channel, over all processes; in float64."""
    pivot = y[:, 0].mean(0, dtype=_state_dtype(y))  # near the mean, so that squares cancel little
    parts = norm_lif_triton.sums(y, pivot).sum((0, 2), dtype=torch.float64)
    first, second = parts / (y.shape[0] * y.shape[1])
    var = (second - first * first).clamp_(min=0)
    return distributed.pooled(pivot + first, var, y.shape[1])


def _spikes_gradient(
    g_out: Tensor, y: Tensor, norm: _Norm, mask: Tensor, settings: NormLifSettings
) -> tuple[Tensor, Tensor]:
    """The gradient of the LIF's input, and sums over time of it and of it times ``y - mean``."""
    g = torch.empty_like(y, dtype=norm.dtype)
    dress = norm.tensor("mean scale shift"), mask
    return g, loops(y).gradient(settings.cell, y, None, (), dress, g_out, g, None)[1]


def _norm_gradient(g: Tensor, y: Tensor, norm: _Norm, g_affine_2C: Tensor) -> Tensor:
    """The gradient of y from that of BatchNorm's output, in place where the dtypes are one."""
    g_gamma, g_beta = distributed.all_reduce(g_affine_2C) / _count(y)
    c = -norm.scale * norm.rstd * g_gamma
    b = -norm.scale * g_beta - c * norm.rounded
    out = g if g.dtype == y.dtype else torch.empty_like(y)
    factors = torch.stack((norm.mean, norm.scale, b, c)).to(norm.dtype)
    norm_lif_triton.norm_gradient(g, y, factors, out)
    return out
