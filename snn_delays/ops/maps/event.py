"""The delayed linear map at rounded delays, driven by events: its cost is that of the spikes.

Shapes: T time, B batch, I inputs, O outputs, C kernel count, D taps, K = O C, S = T + D - 1 steps
at least.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from snn_delays.ops.maps import event_numba
from snn_delays.ops.maps.backend import Backend, Problem, why_not_compiled
from snn_delays.ops.taps import Synapses, whole_delay

SMALL_BATCH = 16  # up to this, events take less time than any product of matrices


def _why_not(problem: Problem) -> str | None:
    if not problem.deployed:
        return "it needs rounded delays: evaluation, or fixed delays"
    return why_not_compiled(problem)


def _cost(problem: Problem) -> float:
    """By the batch: the operations are those of the spikes, whose number is not known."""
    return 0.0 if problem.batch <= SMALL_BATCH and not problem.gradients else math.inf


def delayed_linear(x_TBI: Tensor, synapses: Synapses, extra_steps: int) -> Tensor:
    """Every nonzero ``x[t, b, i]`` is scattered to all outputs; see ``delayed_linear``.

    Raises:
        ValueError: delays outside [0, taps - 1].
    """
    weight = synapses.weight
    if torch.is_grad_enabled() and (x_TBI.requires_grad or weight.requires_grad):
        return _Map.apply(x_TBI, weight, synapses.delay, synapses, extra_steps)
    # arranging the weights takes as long as a small batch
    arranged = synapses.cached("event", lambda: _arrange(synapses))
    return _forward(x_TBI, arranged, synapses.taps, extra_steps)


@dataclass(frozen=True)
class _Arranged:
    """Weights [I, K] as the loops read them, and where each acts, in elements of an [S, O] array.

    In K, the C synapses of an output are neighbours.
    """

    weight: Any
    offset: Any
    count: int
    outputs: int


def _arrange(synapses: Synapses) -> _Arranged:
    outputs, _, count = synapses.weight.shape
    weight_IK = _by_input(synapses.weight.detach()).numpy()
    return _Arranged(weight_IK, _offsets(_steps(synapses), outputs, 1), count, outputs)


def _steps(synapses: Synapses) -> Tensor:
    """A delay in steps for every weight, [O, I, C]."""
    steps = whole_delay(synapses.delay, synapses.taps).int()
    return steps.expand(synapses.weight.shape)


def _offsets(steps_OIC: Tensor, per_step: int, per_output: int) -> Any:
    outputs = torch.arange(steps_OIC.shape[0], dtype=torch.int32).view(-1, 1, 1)
    offset = _by_input(steps_OIC * per_step + outputs * per_output)
    return offset.numpy().view("uint32")


def _by_input(a_OIC: Tensor) -> Tensor:
    return a_OIC.transpose(0, 1).flatten(1).contiguous()


def _forward(x: Tensor, arranged: _Arranged, taps: int, extra_steps: int) -> Tensor:
    T, B, _ = x.shape
    y = x.new_empty(T + extra_steps, B, arranged.outputs)
    event_numba.forward(
        x.detach().contiguous().numpy(),
        arranged.weight,
        arranged.offset,
        arranged.count,
        taps - 1,
        y.numpy(),
    )
    return y


class _Map(Function):
    """x, weight, delay -> y; no gradient for delay."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, delay: Tensor, synapses: Synapses, extra_steps: int
    ) -> Tensor:
        ctx.save_for_backward(x, weight, delay)
        ctx.synapses = synapses
        return _forward(x, _arrange(synapses), synapses.taps, extra_steps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Any:
        x, weight, delay = ctx.saved_tensors
        steps = _steps(replace(ctx.synapses, weight=weight, delay=delay))
        late = max(x.shape[0] + ctx.synapses.taps - 1 - g.shape[0], 0)
        g_SBO = functional.pad(g, (0, 0, 0, 0, 0, late))
        g_x = _input_gradient(g_SBO, weight, steps, x.shape[0]) if ctx.needs_input_grad[0] else None
        g_weight = _weight_gradient(x, g_SBO, steps) if ctx.needs_input_grad[1] else None
        return g_x, g_weight, None, None, None


def _input_gradient(g_SBO: Tensor, weight: Tensor, steps_OIC: Tensor, T: int) -> Tensor:
    S, B, _ = g_SBO.shape
    g_x_BIT = g_SBO.new_empty(B, weight.shape[1], T)
    event_numba.input_gradient(
        g_SBO.permute(1, 2, 0).contiguous().numpy(),
        _by_input(weight).numpy(),
        _offsets(steps_OIC, 1, S),
        g_x_BIT.numpy(),
    )
    return g_x_BIT.permute(2, 0, 1)


def _weight_gradient(x: Tensor, g_SBO: Tensor, steps_OIC: Tensor) -> Tensor:
    outputs, inputs, count = steps_OIC.shape
    g_weight_IK = g_SBO.new_zeros(inputs, outputs * count)
    event_numba.weight_gradient(
        x.contiguous().numpy(),
        g_SBO.transpose(0, 1).contiguous().numpy(),
        _offsets(steps_OIC, outputs, 1),
        g_weight_IK.numpy(),
    )
    return g_weight_IK.unflatten(1, (outputs, count)).transpose(0, 1)


BACKEND = Backend("event", delayed_linear, _why_not, _cost, half=False)
