"""Neurons whose spikes come back to their own layer after delays, over whole sequences (DelRec).

``x[t] = y[t] + mask sum_i R[o, i] z[t, i]`` is the input of neuron o, with ``z[t, i] = sum_{j >= 1}
h_j(d_i) s[t - j, i]`` the spikes that arrive, and no spikes before the first step; ``delay_lines``
says what the taps h are.

Shapes: T time, B batch, N neurons.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from snn_delays.ops.neurons import Cell
from snn_delays.ops.recurrent import numba, plain
from snn_delays.ops.recurrent.delay_lines import DelayLines
from snn_delays.ops.recurrent.numba import Problem
from snn_delays.ops.scan import sum_lanes, why_not

__all__ = ["DelayLines", "scan"]


def scan(
    y: Tensor,
    cell: Cell,
    lines: DelayLines,
    weight: Tensor,
    mask: Tensor,
    states: Sequence[Tensor],
    parameters: Sequence[Tensor] = (),
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Spikes [T, B, N] and the states after the last step, differentiable in all but the mask.

    Args:
        y: feedforward current, [T, B, N], T >= 1.
        cell: a neuron that fires.
        lines: the delays.
        weight: R [N, N], from the second to the first.
        mask: of the recurrent current, [B, N].
        states: of the neurons before the first step, [B, N] each.
        parameters: the neuron's own, a scalar or [N] each.
    """
    if y.device.type != "cpu" or y.numel() == 0 or why_not(y) is not None:
        spikes, history = plain.scan(cell, y, lines, weight, mask, states, parameters)
        return spikes, history[-1]
    first, taps = lines.table(len(y))
    spikes, *last = _Scan.apply(cell, y, first, taps, weight, mask, *states, *parameters)
    return spikes, tuple(last)


class _Scan(Function):
    """y, first, taps, weight, mask, states, parameters -> spikes, last states."""

    @staticmethod
    def forward(ctx: Any, cell: Cell, *tensors: Tensor) -> Any:
        ctx.save_for_backward(*tensors)
        ctx.cell = cell
        spikes, last = numba.scan(_problem(cell, *tensors))
        return spikes, *(state.clone() for state in last)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_out: Tensor, *g_last: Tensor) -> Any:
        problem = _problem(ctx.cell, *ctx.saved_tensors)
        g = numba.gradients(problem, g_out.contiguous(), torch.stack(g_last))
        g_own = (sum_lanes(lanes, like) for lanes, like in zip(g.own, problem.own, strict=True))
        return None, g.y, None, g.taps, g.weight, None, *g.states, *g_own


def _problem(
    cell: Cell, y: Tensor, first: Tensor, taps: Tensor, weight: Tensor, mask: Tensor, *own: Tensor
) -> Problem:
    states, parameters = torch.stack(own[: cell.neuron.states]), own[cell.neuron.states :]
    return Problem(cell, y.contiguous(), first, taps, weight, mask, states, parameters)
