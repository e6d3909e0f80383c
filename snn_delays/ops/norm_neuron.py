"""BatchNorm in training -> neuron -> dropout as one function of sequences in time.

The norm takes mean and variance over all steps and samples, those of other processes included
(``runtime.distributed``), counted and added up in float64. All states are 0 at the start.

Shapes: T time, B batch, C channels; S states.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from snn_delays.ops import batch_norm, batch_norm_triton
from snn_delays.ops.batch_norm import Running
from snn_delays.ops.neurons import Cell
from snn_delays.ops.scan import loops, sum_lanes
from snn_delays.ops.scan import plain as plain_scan
from snn_delays.runtime import distributed, triton_jit


def norm_neuron(
    y_TBC: Tensor,
    gamma_C: Tensor,
    beta_C: Tensor,
    mask_BC: Tensor,
    *own: Tensor,
    eps: float,
    cell: Cell,
    running: Running | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Spikes of a layer after dropout, differentiable in y, gamma, beta and the neuron's own.

    Where several processes train, gradients of parameters are those of this process' samples, to
    be added up with the other parameters'; that of y knows of all samples.

    Args:
        y_TBC: what the norm takes, float32, float64 or bfloat16; T B C > 0.
        gamma_C: BatchNorm's weight.
        beta_C: BatchNorm's bias.
        mask_BC: dropout's, 0 or what a spike is worth.
        own: the neuron's parameters, a scalar or [C] each.
        eps: BatchNorm's.
        cell: the neuron.
        running: statistics that the norm keeps, moved by this batch.

    Returns:
        masked spikes [T, B, C] in y's dtype; mean and biased variance [C] in float64; the states
        after the last step [S, B, C] in float32, or float64 where y is.
    """
    if triton_jit.serves(y_TBC):
        return _NormNeuron.apply(y_TBC, gamma_C, beta_C, mask_BC, eps, cell, running, *own)
    out, mean, var, states = plain(y_TBC, gamma_C, beta_C, mask_BC, *own, eps=eps, cell=cell)
    if running:
        running.track(mean, var, _count(y_TBC))
    return out, mean, var, states


def plain(
    y: Tensor, gamma: Tensor, beta: Tensor, mask: Tensor, *own: Tensor, eps: float, cell: Cell
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same in torch, step by step, on any device: what the kernels are held to."""
    dtype = _state_dtype(y)
    wide = y.to(dtype)
    n = _count(y)
    mean = _over_processes(wide.sum((0, 1), dtype=torch.float64)) / n
    centred = wide - mean.to(dtype)
    var = _over_processes(centred.square().sum((0, 1), dtype=torch.float64)) / n
    scale = (var + eps).rsqrt().to(dtype) * gamma.to(dtype)
    x = centred * scale + beta.to(dtype)
    rest = (torch.zeros_like(x[0]),) * cell.neuron.states
    spikes, states = plain_scan.scan(cell, x, rest, own)
    out = (spikes * mask.to(dtype)).to(y.dtype)
    return out, mean.detach(), var.detach(), torch.stack(states).detach()


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


class _NormNeuron(Function):
    """See ``norm_neuron``. The way back scans again instead of storing."""

    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        gamma: Tensor,
        beta: Tensor,
        mask: Tensor,
        eps: float,
        cell: Cell,
        running: Running | None,
        *own: Tensor,
    ) -> Any:
        y, mask = y.contiguous(), mask.contiguous()
        moments, norm = _statistics(y, gamma, beta, eps, running)
        out = torch.empty_like(y)
        states = norm.new_empty(cell.neuron.states, *mask.shape)
        loops(y).scan(cell, y, states, own, (norm, mask), out, at_rest=True)
        ctx.cell, ctx.moments, ctx.norm = cell, moments, norm
        ctx.save_for_backward(y, gamma, beta, mask, *own)
        mean, var, _ = moments
        ctx.mark_non_differentiable(mean, var, states)
        ctx.set_materialize_grads(False)  # or zeros would be made for these three at every step
        return out, mean, var, states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_out: Tensor, *_: Any) -> Any:
        y, gamma, beta, mask, *own = ctx.saved_tensors
        g, dress = torch.empty_like(y, dtype=ctx.norm.dtype), (ctx.norm, mask)
        g_lanes, sums = loops(y).gradient(
            ctx.cell, y, None, own, dress, g_out.contiguous(), g, None
        )
        g_gamma, g_beta, factors = _factors(sums, ctx.moments, gamma, beta, _count(y))
        out = g if g.dtype == y.dtype else torch.empty_like(y)
        batch_norm_triton.norm_gradient(g, y, factors, out)
        g_own = (sum_lanes(lanes, like) for lanes, like in zip(g_lanes, own, strict=True))
        return out, g_gamma, g_beta, None, None, None, None, *g_own


def _statistics(
    y: Tensor, gamma: Tensor, beta: Tensor, eps: float, running: Running | None
) -> tuple[Tensor, Tensor]:
    """See ``batch_norm_triton.statistics``; over all processes."""
    dtype, n = _state_dtype(y), _count(y)
    pivot = y[:, 0].mean(0, dtype=dtype)  # near the mean, so that squares cancel little
    sums = batch_norm_triton.sums(y, pivot)
    if distributed.own_part() is None:
        return batch_norm_triton.statistics(sums, pivot, gamma, beta, eps, n, running)
    first, second = sums.sum((0, 2), dtype=torch.float64) / (y.shape[0] * y.shape[1])
    var = batch_norm.variance(first, second)
    mean, var = distributed.pooled(pivot + first, var, y.shape[1])
    if running:
        running.track(mean, var, n)
    rstd, centre = (var + eps).rsqrt(), mean.to(dtype).double()
    scale, shift = batch_norm.affine(mean, rstd, gamma.double(), beta.double(), centre)
    return torch.stack((mean, var, rstd)), torch.stack((centre, scale, shift)).to(dtype)


def _factors(
    sums: Tensor, moments: Tensor, gamma: Tensor, beta: Tensor, n: int
) -> tuple[Tensor, Tensor, Tensor]:
    """See ``batch_norm_triton.factors_of``; the factors know of all processes."""
    if distributed.own_part() is None:
        return batch_norm_triton.factors_of(sums, moments, gamma, beta, n)
    mean, _, rstd = moments
    centre = mean.to(sums.dtype).double()
    g_beta, moment = sums.sum(1, dtype=torch.float64)
    g_gamma = batch_norm.gamma_gradient(g_beta, moment, mean, rstd, centre)
    of_gamma, of_beta = distributed.all_reduce(torch.stack((g_gamma, g_beta)))
    factors = batch_norm.factors(of_gamma, of_beta, mean, rstd, gamma.double(), centre, n)
    together = torch.stack((centre, *factors)).to(sums.dtype)
    return g_gamma.to(gamma.dtype), g_beta.to(beta.dtype), together
