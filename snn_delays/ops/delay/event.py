"""The delayed linear map at rounded delays, driven by events: its cost is that of the spikes.

Shapes: T time, B batch, I inputs, O outputs, C kernel count, D taps, K = O C, S = T + D - 1 steps
at least.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from snn_delays.ops import compiled
from snn_delays.ops.delay import event_compiled
from snn_delays.ops.kept import kept
from snn_delays.ops.taps import Sigma, whole_delay
from snn_delays.ops.watched import watcher


def why_not(x: Tensor, sigma: Sigma) -> str | None:
    """Why events cannot serve, or None where they can."""
    if sigma is not None:
        return "it needs rounded delays: evaluation, or fixed delays"
    if x.device.type != "cpu":
        return "it runs on the CPU only"
    if x.dtype not in (torch.float32, torch.float64):
        return "it needs float32 or float64"
    return compiled.why_not() or watcher()


def delayed_linear(
    x_TBI: Tensor,
    weight_OIC: Tensor,
    delay_OIC: Tensor,
    sigma: Sigma,
    taps: int,
    extra_steps: int,
) -> Tensor:
    """Every nonzero ``x[t, b, i]`` is scattered to all outputs; see ``delayed_linear``.

    Raises:
        ValueError: see ``why_not``; weights of another precision; delays outside [0, taps - 1].
    """
    reason = why_not(x_TBI, sigma)
    if reason:
        raise ValueError(f"Events cannot serve: {reason}.")
    if weight_OIC.dtype != x_TBI.dtype:
        raise ValueError(f"x is {x_TBI.dtype} and weight {weight_OIC.dtype}; both must be one.")
    if torch.is_grad_enabled() and (x_TBI.requires_grad or weight_OIC.requires_grad):
        return _Map.apply(x_TBI, weight_OIC, delay_OIC, taps, extra_steps)
    # arranging the weights takes as long as a small batch
    synapses = kept(
        weight_OIC, delay_OIC, ("event", taps), lambda: _synapses(weight_OIC, delay_OIC, taps)
    )
    return _forward(x_TBI, synapses, taps, extra_steps)


@dataclass(frozen=True)
class _Synapses:
    """Weights [I, K] as the loops read them, and where each acts, in elements of an [S, O] array.

    In K, the C synapses of an output are neighbours.
    """

    weight: Any
    offset: Any
    count: int
    outputs: int


def _synapses(weight: Tensor, delay: Tensor, taps: int) -> _Synapses:
    outputs, _, count = weight.shape
    offset = _offsets(whole_delay(delay, taps).int(), outputs, 1)
    return _Synapses(_by_input(weight.detach()).numpy(), offset, count, outputs)


def _offsets(steps_OIC: Tensor, per_step: int, per_output: int) -> Any:
    outputs = torch.arange(steps_OIC.shape[0], dtype=torch.int32).view(-1, 1, 1)
    offset = _by_input(steps_OIC * per_step + outputs * per_output)
    return offset.numpy().view("uint32")


def _by_input(a_OIC: Tensor) -> Tensor:
    return a_OIC.transpose(0, 1).flatten(1).contiguous()


def _forward(x: Tensor, synapses: _Synapses, taps: int, extra_steps: int) -> Tensor:
    T, B, _ = x.shape
    y = x.new_empty(T + extra_steps, B, synapses.outputs)
    event_compiled.forward(
        x.detach().contiguous().numpy(),
        synapses.weight,
        synapses.offset,
        synapses.count,
        taps - 1,
        y.numpy(),
    )
    return y


class _Map(Function):
    """x, weight, delay -> y; no gradient for delay."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, delay: Tensor, taps: int, extra_steps: int
    ) -> Tensor:
        ctx.save_for_backward(x, weight, delay)
        ctx.taps = taps
        return _forward(x, _synapses(weight, delay, taps), taps, extra_steps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Any:
        x, weight, delay = ctx.saved_tensors
        steps = whole_delay(delay, ctx.taps).int()
        late = max(x.shape[0] + ctx.taps - 1 - g.shape[0], 0)
        g_SBO = functional.pad(g, (0, 0, 0, 0, 0, late))
        g_x = _input_gradient(g_SBO, weight, steps, x.shape[0]) if ctx.needs_input_grad[0] else None
        g_weight = _weight_gradient(x, g_SBO, steps) if ctx.needs_input_grad[1] else None
        return g_x, g_weight, None, None, None


def _input_gradient(g_SBO: Tensor, weight: Tensor, steps_OIC: Tensor, T: int) -> Tensor:
    S, B, _ = g_SBO.shape
    g_x_BIT = g_SBO.new_empty(B, weight.shape[1], T)
    event_compiled.input_gradient(
        g_SBO.permute(1, 2, 0).contiguous().numpy(),
        _by_input(weight).numpy(),
        _offsets(steps_OIC, 1, S),
        g_x_BIT.numpy(),
    )
    return g_x_BIT.permute(2, 0, 1)


def _weight_gradient(x: Tensor, g_SBO: Tensor, steps_OIC: Tensor) -> Tensor:
    outputs, inputs, count = steps_OIC.shape
    g_weight_IK = g_SBO.new_zeros(inputs, outputs * count)
    event_compiled.weight_gradient(
        x.contiguous().numpy(),
        g_SBO.transpose(0, 1).contiguous().numpy(),
        _offsets(steps_OIC, outputs, 1),
        g_weight_IK.numpy(),
    )
    return g_weight_IK.unflatten(1, (outputs, count)).transpose(0, 1)
