"""A neuron over whole sequences: charge, fire and reset, step by step.

One loop serves all neurons: here and in ``plain`` in torch, in ``numba`` for the CPU, in ``triton``
for GPUs. On the way back the states are computed again instead of being kept.

Shapes: T time, B batch, N neurons; S states, P parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from snn_delays.ops.neurons import Cell
from snn_delays.ops.scan import numba, plain, triton
from snn_delays.runtime import numba_jit, triton_jit
from snn_delays.runtime.tracing import watcher


@dataclass(frozen=True)
class Loops:
    """The scan on one kind of device. All tensors are contiguous.

    The input may be dressed: ``dress`` is an affine map [3, C], mean, scale and shift, of x, as
    BatchNorm makes it, ``(x - mean) scale + shift``, and a mask [B, C] that the output is
    multiplied by, as dropout's. Else it is empty.

    Attributes:
        scan: (cell, x [T, B, C], states [S, B, C], parameters, dress, out [T, B, C], at_rest=). The
            states turn from before the first step to after the last; ``at_rest`` says that all are
            0 before, whatever stands there.
        gradient: (cell, x, states before the first step, parameters, dress, g_out, g_x [T, B, C],
            g_states [S, B, C]) -> the gradients of every lane's parameters [P, B, C], and, where
            the input is dressed, the sums over time of g_x and of ``g_x (x - mean)`` [2, B, C].
            g_x is the gradient of the dressed input; g_states turn from after the last step to
            before the first. States of None were 0, and then g_states are None: no gradient comes
            from the last states, and none is wanted of the first.
    """

    scan: Callable[..., None]
    gradient: Callable[..., tuple[Tensor, Tensor]]


NUMBA = Loops(numba.scan, numba.gradient)
TRITON = Loops(triton.scan, triton.gradient)


def loops(x: Tensor) -> Loops:
    """The loops that run where x is, if ``why_not`` says nothing."""
    return TRITON if triton_jit.serves(x) else NUMBA


def why_not(x: Tensor) -> str | None:
    """Why no scan in one kernel can serve, or None where one can."""
    if x.dtype not in (torch.float32, torch.float64):
        return "it needs float32 or float64"
    watched = watcher()
    if watched or triton_jit.serves(x):
        return watched
    return numba_jit.why_not() if x.device.type == "cpu" else triton_jit.why_not(x)


def scan(
    x: Tensor,
    cell: Cell,
    states: Sequence[Tensor | float] = (0.0,),
    parameters: Sequence[Tensor] = (),
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A neuron's output, differentiable in x, states and parameters, and the states it ends with.

    Args:
        x: input, [T, B, N], T >= 1.
        cell: the neuron.
        states: before the first step, [B, N] or one number each.
        parameters: the neuron's own, a scalar or [N] each.

    Returns:
        output [T, B, N]: spikes 0 or 1, or the membrane after every step of a neuron that does not
        fire; the states after the last step, [B, N] each.
    """
    tensors = [s if isinstance(s, Tensor) else x.new_full(x.shape[1:], s) for s in states]
    if why_not(x) is not None:
        return plain.scan(cell, x, tensors, parameters)
    out, *last = _Scan.apply(x, cell, *tensors, *parameters)
    return out, tuple(last)


class _Scan(Function):
    """x, states, parameters -> output, last states."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cell: Cell, *own: Tensor) -> Any:
        x, states = x.contiguous(), torch.stack(own[: cell.neuron.states])
        out = torch.empty_like(x)
        parameters = own[cell.neuron.states :]
        loops(x).scan(cell, x, states, parameters, (), out, at_rest=False)
        ctx.save_for_backward(x, *own)
        ctx.cell = cell
        return out, *(state.data for state in states)  # SpikingJelly detaches no views in place

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_out: Tensor, *g_last: Tensor) -> Any:
        x, *own = ctx.saved_tensors
        cell, S = ctx.cell, len(g_last)
        g_x, g_states = torch.empty_like(x), torch.stack(g_last)
        g_lanes, _ = loops(x).gradient(
            cell, x, torch.stack(own[:S]), own[S:], (), g_out.contiguous(), g_x, g_states
        )
        g_own = (sum_lanes(g, like) for g, like in zip(g_lanes, own[S:], strict=True))
        return g_x, None, *g_states.unbind(), *g_own


def sum_lanes(g_lanes: Tensor, parameter: Tensor) -> Tensor:
    """The gradient of a parameter, a scalar or [N], from those of lanes [..., N]."""
    shared = tuple(range(g_lanes.dim() - parameter.dim()))
    return g_lanes.sum(shared, dtype=torch.float64).to(g_lanes.dtype)
