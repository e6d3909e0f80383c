"""The delayed linear map where synapses of one input, or of one output, share their delays.

Then it is one ordinary matrix product, and a filter over time of each channel's own: of the inputs
before the product (axonal delays), or of the outputs behind it (dendritic delays).

Shapes: T time, B batch, S networks, I inputs, O outputs, C kernel count, D taps, R of them wanted,
N channels of the filter: S C I or S C O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from snn_delays.ops.maps import depthwise_numba, depthwise_triton
from snn_delays.ops.maps.backend import Backend, Problem
from snn_delays.ops.taps import Synapses, delay_taps
from snn_delays.runtime import numba_jit, triton_jit
from snn_delays.runtime.buffers import empty
from snn_delays.runtime.tracing import watcher

FILTER_COST = 4  # products of a matrix that take as long as one of the filter


def delayed_linear(x_TBI: Tensor, synapses: Synapses, extra_steps: int) -> Tensor:
    """Filter, then multiply, or the other way round; see ``delayed_linear``."""
    return delayed_linears(x_TBI.unsqueeze(2), [synapses], extra_steps).squeeze(2)


def delayed_linears(x_TBSI: Tensor, synapses: Sequence[Synapses], extra_steps: int) -> Tensor:
    """``delayed_linear`` of each network's input with its own weights and delays.

    Args:
        x_TBSI: inputs.
        synapses: of every network, alike in all but weights and delays.
        extra_steps: steps added behind the sequences.

    Returns:
        [T + extra_steps, B, S, O].
    """
    axonal = synapses[0].delay.shape[0] == 1
    weight_SOIC = torch.stack([each.weight for each in synapses])
    S, _, _, C = weight_SOIC.shape
    reach = min(synapses[0].taps, len(x_TBSI) + extra_steps)
    taps_RN = torch.cat([_channel_taps(each, reach) for each in synapses], 1)
    if axonal:
        x_TBSCI = x_TBSI.unsqueeze(3).expand(-1, -1, -1, C, -1)
        z_TBN = depthwise_filter(x_TBSCI.flatten(2), taps_RN, extra_steps)
        return _product(z_TBN.unflatten(2, (S, -1)), weight_SOIC.permute(0, 3, 2, 1).flatten(1, 2))
    y_TBSN = _product(x_TBSI, weight_SOIC.permute(0, 2, 3, 1).flatten(2))
    y_TBN = depthwise_filter(y_TBSN.flatten(2), taps_RN, extra_steps)
    return y_TBN.unflatten(2, (S, C, -1)).sum(3)


def _product(x_TBSI: Tensor, weight_SIO: Tensor) -> Tensor:
    """Of each network, [T, B, S, O]; inside ``torch.autocast`` its factors are rounded."""
    y = torch.bmm(x_TBSI.flatten(0, 1).transpose(0, 1), weight_SIO).to(x_TBSI.dtype)
    return y.transpose(0, 1).unflatten(0, x_TBSI.shape[:2])


def _channel_taps(synapses: Synapses, reach: int) -> Tensor:
    """The taps of each channel's own delay, [R, C I] or [R, C O]."""
    outputs, inputs, count = synapses.weight.shape
    shape = (1, inputs, count) if synapses.delay.shape[0] == 1 else (outputs, 1, count)
    delay = synapses.delay.detach() if synapses.deployed else synapses.delay
    delay = delay.expand(shape).reshape(-1, count).T.reshape(1, -1, 1)
    each = replace(synapses, weight=torch.ones_like(delay), delay=delay)
    taps_R1N = each.kernel()[:reach] if _compiled(delay) is None else delay_taps(each, reach)
    return taps_R1N.squeeze(1)


def depthwise_filter(x_TBN: Tensor, taps_RN: Tensor, extra_steps: int) -> Tensor:
    """``y[t] = sum_j taps[j] x[t - j]`` of every channel, differentiable, [T + extra_steps, B, N].

    Args:
        x_TBN: sequences, which zeros precede and follow.
        taps_RN: a row for each delay from 0 on, R <= T + extra_steps.
        extra_steps: steps added behind the sequences.
    """
    if _compiled(x_TBN) is None:
        return plain_filter(x_TBN, taps_RN, extra_steps)
    y: Tensor = _Filter.apply(x_TBN, taps_RN, extra_steps)
    return y


def plain_filter(x_TBN: Tensor, taps_RN: Tensor, extra_steps: int) -> Tensor:
    """The same in torch, tap by tap: what the kernels are held to."""
    steps, before = len(x_TBN) + extra_steps, len(taps_RN) - 1
    padded = functional.pad(x_TBN, (0, 0, 0, 0, before, extra_steps))
    return sum(tap_N * padded[before - j : before - j + steps] for j, tap_N in enumerate(taps_RN))


class _Filter(Function):
    """x [T, B, N], taps [R, N] -> y [T_out, B, N]."""

    @staticmethod
    def forward(ctx: Any, x_TBN: Tensor, taps_RN: Tensor, extra_steps: int) -> Tensor:
        x_TBN, taps_RN = x_TBN.contiguous(), taps_RN.contiguous()
        ctx.save_for_backward(x_TBN, taps_RN)
        y_TBN = empty((len(x_TBN) + extra_steps, *x_TBN.shape[1:]), x_TBN)
        return _convolve(x_TBN, taps_RN, False, y_TBN)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_TBN: Tensor) -> Any:
        x_TBN, taps_RN = ctx.saved_tensors
        g_TBN, g_x, g_taps = g_TBN.contiguous(), None, None
        if ctx.needs_input_grad[0]:
            g_x = _convolve(g_TBN, taps_RN, True, empty(x_TBN.shape, x_TBN))
        if ctx.needs_input_grad[1]:
            g_taps = _taps_gradient(x_TBN, g_TBN, len(taps_RN))
        return g_x, g_taps, None


def _convolve(x_TBN: Tensor, taps_RN: Tensor, transposed: bool, out_TBN: Tensor) -> Tensor:
    """``out[t] <- sum_j taps[j] x[t - j]``, or of ``x[t + j]`` where transposed."""
    if triton_jit.serves(x_TBN):
        depthwise_triton.convolve(x_TBN, taps_RN, transposed, out_TBN)
        return out_TBN
    rows = functional.pad(taps_RN, (0, 0, 0, -len(taps_RN) % 4)).unsqueeze(1)
    lead = len(rows) - 1 if transposed else 0
    ordered = rows.flip(0) if transposed else rows
    taps = ordered.contiguous().numpy()
    depthwise_numba.convolve(x_TBN.numpy(), taps, lead, out_TBN.numpy())
    return out_TBN


def _taps_gradient(x_TBN: Tensor, g_TBN: Tensor, taps: int) -> Tensor:
    """``sum_t,b g[t] x[t - j]``, [R, N], summed in an order that depends on sizes alone."""
    B, N = x_TBN.shape[1:]
    if triton_jit.serves(x_TBN):
        parts = x_TBN.new_empty(taps, B, N)
        depthwise_triton.correlate(x_TBN, g_TBN, parts)
        return parts.sum(1)
    parts = x_TBN.new_empty(taps + -taps % 4, min(B, depthwise_numba.GROUPS), N)
    depthwise_numba.correlate(x_TBN.numpy(), g_TBN.numpy(), parts.numpy())
    return parts[:taps].sum(1)


def _compiled(x: Tensor) -> str | None:
    """What compiles the filter for such a tensor; None: torch's own functions compute it."""
    if watcher() or x.dtype not in (torch.float32, torch.float64):
        return None
    if triton_jit.serves(x):
        return "triton"
    return "numba" if x.device.type == "cpu" and numba_jit.available() else None


def _why_not(problem: Problem) -> str | None:
    outputs, inputs, count = problem.weight
    if tuple(problem.delay) in ((1, inputs, count), (outputs, 1, count)):
        return None
    return "it needs delays that inputs or outputs share: delay_type=axonal or dendritic"


def _cost(problem: Problem) -> float:
    """One product, and the filter of the channels."""
    outputs, inputs, count = problem.weight
    channels = inputs if problem.delay[0] == 1 else outputs
    products = inputs * outputs + FILTER_COST * problem.taps * channels
    return 2 * (problem.steps + problem.extra_steps) * problem.batch * count * products


BACKEND = Backend("depthwise", delayed_linear, _why_not, _cost)
