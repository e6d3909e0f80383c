"""A hidden layer in training as one function: delayed linear -> BatchNorm -> neuron -> dropout.

It takes the spectrum of its input and gives the spectrum of its spikes, as the next layer wants it,
so that spikes never travel to memory and back. Shapes as in ``ops.spectral.layer``; C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from snn_delays.ops import batch_norm
from snn_delays.ops.neurons import BLOCK_LIF, LIF, Cell
from snn_delays.ops.scan import sum_lanes
from snn_delays.ops.spectral import block_numba
from snn_delays.ops.spectral.layer import (
    Plan,
    graph_is_kept,
    half_products,
    kernel_spectrum,
    linear,
    linear_gradient,
    new_spectrum,
    parameter_gradients,
    take_kernel,
)
from snn_delays.ops.taps import Synapses
from snn_delays.runtime.buffers import empty
from snn_delays.runtime.distributed import all_reduce, pooled, whole_batch


@dataclass(frozen=True)
class BlockSettings:
    """What a block is besides its parameters.

    Attributes:
        synapses: weights, delays, and the taps that a delay becomes.
        plan: how its input was transformed.
        next_plan: how the next layer wants its input.
        cell: the neuron.
        eps: BatchNorm's.
    """

    synapses: Synapses
    plan: Plan
    next_plan: Plan
    cell: Cell
    eps: float

    @property
    def block_cell(self) -> Cell:
        """The neuron as the block computes it."""
        if self.cell.neuron is not LIF:
            return self.cell
        (tau,) = self.cell.numbers
        return replace(self.cell, neuron=BLOCK_LIF, numbers=(1 - 1 / tau,))


class FusedBlock(Function):
    """From the spectrum of the input to that of the spikes, batch statistics and states.

    Args:
        X: [F, 2, B, I].
        weight: [O, I, C].
        delay: [O, I, C].
        gamma: BatchNorm's weight, [O].
        beta: BatchNorm's bias, [O].
        mask: dropout's, [B, O].
        settings: the rest.
        own: the neuron's parameters, a scalar or [O] each.

    Returns:
        spectrum of the spikes [F', 2, B, O], mean and biased variance over time and batch [O],
        the states after the last step [S, B, O].
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
        *own: Tensor,
    ) -> Any:
        """See the class."""
        plan = settings.plan
        ctx.half = half_products(X)
        ctx.kernel = kernel_spectrum(settings.synapses, plan)
        y, mean, var = _to_time(linear(X, ctx.kernel, plan, ctx.half), plan)
        norm = _Norm.of(gamma, beta, mean, (var + settings.eps).rsqrt())
        out, states = _spikes(y, norm, mask, settings, own)
        ctx.settings, ctx.norm = settings, norm
        ctx.save_for_backward(X, weight, delay, mask, y, *own)
        ctx.mark_non_differentiable(mean, var, states)
        ctx.set_materialize_grads(False)  # or zeros would be made for these three at every step
        return out, mean, var, states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_out: Tensor, *_: Any) -> Any:
        """Of the spectrum; the other results have no gradient."""
        X, weight, delay, mask, y, *own = ctx.saved_tensors
        settings, norm = ctx.settings, ctx.norm
        synapses = replace(settings.synapses, weight=weight, delay=delay)
        kernel = take_kernel(ctx, synapses, settings.plan)
        G, g_gamma, g_beta, g_own = _block_gradient(
            g_out.contiguous(), y, norm, mask, settings, own
        )
        g_X = linear_gradient(G, X, kernel, settings.plan, ctx.needs_input_grad[0], ctx.half)
        del G
        of_parameters = parameter_gradients(kernel, synapses, settings.plan)
        return g_X, *of_parameters, g_gamma.to(y.dtype), g_beta.to(y.dtype), None, None, *g_own


@dataclass(frozen=True)
class _Norm:
    """BatchNorm of this batch: ``scale y + shift``; in float64, [C] each."""

    gamma: Tensor
    mean: Tensor
    rstd: Tensor
    scale: Tensor
    shift: Tensor

    @classmethod
    def of(cls, gamma: Tensor, beta: Tensor, mean: Tensor, rstd: Tensor) -> _Norm:
        gamma, beta = gamma.detach().double(), beta.detach().double()
        return cls(gamma, mean, rstd, *batch_norm.affine(mean, rstd, gamma, beta, 0.0))

    def arrays(self, names: str, like: Tensor) -> list[Any]:
        return [getattr(self, name).to(like.dtype).numpy() for name in names.split()]


def _to_time(Y: Tensor, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    """y [B, T, C], and in float64 mean and biased variance of every channel, over all processes."""
    B, C = Y.shape[2:]
    y = empty((B, plan.out_steps, C), Y)
    sums = torch.empty(B, 2, C, dtype=y.dtype)
    pivot = Y[0, 0].mean(0) / plan.length  # near the mean, so that the squares cancel little
    block_numba.to_time_with_sums(
        Y.numpy(), *plan.transform(y), pivot.numpy(), y.numpy(), sums.numpy()
    )
    first, second = sums.double().sum(0) / (plan.out_steps * B)
    mean, var = pooled(pivot + first, batch_norm.variance(first, second), B)
    return y, mean, var


def _spikes(
    y: Tensor, norm: _Norm, mask: Tensor, settings: BlockSettings, own: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """The spectrum of the spikes, and the last states."""
    B, _, C = y.shape
    cell, out = settings.block_cell, new_spectrum(settings.next_plan, B, C, y)
    states = mask.new_empty(cell.neuron.states, *mask.shape)
    _kernels(cell, y).norm_fire(
        y.numpy(),
        *norm.arrays("scale shift", y),
        mask.numpy(),
        *_cell_arrays(cell, y, own),
        *settings.next_plan.transform(y),
        out.numpy(),
        states.numpy(),
    )
    return out, states


def _block_gradient(
    g_out: Tensor,
    y: Tensor,
    norm: _Norm,
    mask: Tensor,
    settings: BlockSettings,
    own: Sequence[Tensor],
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Gradients of Y [F, 2, B, C] and, from this process's samples, of all parameters.

    Unless the graph is kept, the gradient of Y lies in the memory of g_out: what else the pass
    needs at this point is most of a step's memory.
    """
    memory = empty(g_out.shape, g_out) if graph_is_kept() else g_out
    g_gamma, g_beta, g_own = _spikes_gradient(g_out, y, norm, mask, settings, own, memory)
    of_gamma, of_beta = all_reduce(torch.stack([g_gamma, g_beta]))
    G = _norm_gradient(memory, y, norm, of_gamma, of_beta, settings.plan)
    return G, g_gamma, g_beta, g_own


def _spikes_gradient(
    g_out: Tensor,
    y: Tensor,
    norm: _Norm,
    mask: Tensor,
    settings: BlockSettings,
    own: Sequence[Tensor],
    memory: Tensor,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Gradients of gamma and beta, in float64, and of own; ``memory`` holds that of the input."""
    B, _, C = y.shape
    cell, sums = settings.block_cell, torch.empty(B, 2, C, dtype=y.dtype)
    g_lanes = torch.empty(B, len(own), C, dtype=y.dtype)
    _kernels(cell, y).gradient(
        g_out.numpy(),
        *settings.next_plan.transform(y),
        y.numpy(),
        *norm.arrays("scale shift mean rstd", y),
        mask.numpy(),
        *_cell_arrays(cell, y, own),
        tuple(_numbers(y, *cell.slope)),
        _steps_of(memory, y).numpy(),
        sums.numpy(),
        g_lanes.numpy(),
    )
    g_beta, g_gamma = sums.double().sum(0)
    g_own = [sum_lanes(g, like) for g, like in zip(g_lanes.unbind(1), own, strict=True)]
    return g_gamma, g_beta, g_own


def _steps_of(memory: Tensor, y: Tensor) -> Tensor:
    """The part of a spectrum's memory in which a sequence [T, B, C] lies; y is [B, T, C]."""
    return memory.flatten(0, 1)[: y.shape[1]]


def _norm_gradient(
    memory: Tensor, y: Tensor, norm: _Norm, g_gamma: Tensor, g_beta: Tensor, plan: Plan
) -> Tensor:
    """The gradient of Y, [F, 2, B, C], from that of BatchNorm's output, which lies in ``memory``.

    The gradients of gamma and beta are over all processes.
    """
    B, T, C = y.shape
    n = T * whole_batch(B)
    found = batch_norm.factors(g_gamma, g_beta, norm.mean, norm.rstd, norm.gamma, 0.0, n)
    factors = [factor.to(y.dtype).numpy() for factor in found]
    fits = plan.frequencies <= len(memory)
    G = memory[: plan.frequencies] if fits else new_spectrum(plan, B, C, y)
    g = _steps_of(memory, y)
    block_numba.norm_gradient(g.numpy(), y.numpy(), *factors, *plan.transform(y), G.numpy())
    return G


def _kernels(cell: Cell, y: Tensor) -> block_numba.Kernels:
    number: Any = y.numpy().dtype.type
    return block_numba.kernels(cell.kind, number)


def _cell_arrays(cell: Cell, y: Tensor, own: Sequence[Tensor]) -> list[Any]:
    """The neuron's parameters [P, C], its numbers and its threshold."""
    C = y.shape[2]
    own_PC = torch.stack([p.detach().expand(C) for p in own]) if own else y.new_empty(0, C)
    return [own_PC.numpy(), tuple(_numbers(y, *cell.numbers)), *_numbers(y, cell.v_threshold)]


def _numbers(like: Tensor, *values: float) -> list[Any]:
    """Scalars of the tensor's precision, or numba would compute in float64."""
    return [like.new_tensor(value).numpy()[()] for value in values]
