"""A neuron's steps one after the other in torch, on any device: the other loops are held to them.

Shapes: T time; the other dimensions are lanes, and those of a parameter are the last of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from snn_delays.ops import neurons
from snn_delays.ops.neurons import Cell, Neuron
from snn_delays.ops.resets import RESETS, Reset
from snn_delays.runtime.specialise import specialise


def scan(
    cell: Cell,
    x: Tensor,
    states: Sequence[Tensor],
    parameters: Sequence[Tensor] = (),
    dress: Sequence[Tensor] = (),
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The neuron's output and its states after the last step, differentiable in all arguments.

    Args:
        cell: the neuron.
        x: input, [T, ...].
        states: before the first step.
        parameters: the neuron's own.
        dress: affine map [3, C] and mask, or nothing; see ``ops.scan.Loops``.
    """
    neuron, own, out = cell.neuron, (*parameters, *cell.numbers), []
    reset = _KNOWN.get((neuron.name, cell.reset.name)) or _reset(neuron, cell.reset)
    if dress:
        mean, scale, shift = dress[0]
        x = (x - mean) * scale + shift
    for current in x:
        u = neuron.charge(current, *states, *own)
        s = _fire(u, cell) if neuron.fires else u
        states = reset(u, s, cell.v_threshold, *states, *own)
        out.append(s)
    stacked = torch.stack(out)
    return stacked * dress[1] if dress else stacked, tuple(states)


def _fire(u: Tensor, cell: Cell) -> Tensor:
    soft = cell.surrogate.soft(u - cell.v_threshold, *cell.slope)
    return (u >= cell.v_threshold).to(u.dtype) + (soft - soft.detach())


def _reset(neuron: Neuron, reset: Reset) -> Callable[..., Any]:
    """The neuron's ``reset`` with this ``rest``."""
    rest = reset.rest
    detached = (lambda u, s, theta: rest(u, s.detach(), theta)) if reset.detached else rest
    return specialise(neuron.reset, __name__, rest=detached)


# torch.compile follows no ``specialise``
_KNOWN = {
    (neuron.name, reset.name): _reset(neuron, reset)
    for neuron in vars(neurons).values()
    if isinstance(neuron, Neuron)
    for reset in RESETS.values()
}
