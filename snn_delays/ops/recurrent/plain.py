"""Recurrent neurons' steps one after the other in torch, on any device.

Spikes are delayed by a register of what is still to arrive: its first row arrives in this step.

Shapes: T time, B batch, N neurons.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from snn_delays.ops.neurons import Cell
from snn_delays.ops.recurrent.delay_lines import DelayLines
from snn_delays.ops.scan import plain


def scan(
    cell: Cell,
    y: Tensor,
    lines: DelayLines,
    weight: Tensor,
    mask: Tensor,
    states: Sequence[Tensor],
    parameters: Sequence[Tensor] = (),
) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
    """Spikes [T, B, N] and the states after every step, differentiable in all tensors.

    Args:
        cell: the neuron.
        y: feedforward current, [T, B, N].
        lines: the delays.
        weight: R [N, N], from the second to the first.
        mask: of the recurrent current, [B, N].
        states: before the first step, [B, N] each.
        parameters: the neuron's own.
    """
    j = torch.arange(1, len(y), device=y.device, dtype=y.dtype)
    taps = lines.taps(j[:, None])[:, None]  # [T - 1, 1, N]
    arriving, nothing = y.new_zeros(y[1:].shape), torch.zeros_like(y[:1])
    spikes, history = [], []
    for t, current in enumerate(y):
        if t:
            current = current + mask * (arriving[0] @ weight.T)
            arriving = torch.cat((arriving[1:], nothing))
        out, states = plain.scan(cell, current[None], states, parameters)
        arriving = arriving + taps * out
        spikes.append(out)
        history.append(states)
    return torch.cat(spikes), history
