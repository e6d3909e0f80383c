"""The delayed linear maps of several networks at once, as in ``matmul``: real matrix products.

Shapes: S networks, T time, B batch of each, I inputs, O outputs, C kernel count, D taps,
F frequencies. A spectrum is [S F, 2 B, channels], in memory [2, B, S, F, channels]: so networks and
frequencies are one batch of products, and nothing is copied to change a layout.
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

from snn_delays.ops.maps.matmul import MatrixPlan, factor, make_matrices, matrix_plan, product
from snn_delays.ops.spectral.layer import half_products
from snn_delays.ops.taps import Synapses, delay_taps


def delayed_linears(x_TBSI: Tensor, synapses: Sequence[Synapses], extra_steps: int) -> Tensor:
    """``delayed_linear`` of each network's input with its own weights and delays.

    Args:
        x_TBSI: inputs.
        synapses: of every network, alike in all but weights and delays.
        extra_steps: steps added behind the sequences.

    Returns:
        [T + extra_steps, B, S, O].
    """
    plan = matrix_plan(x_TBSI.shape[0], synapses[0].taps, extra_steps)
    turned = [each.transposed() for each in synapses]
    every = replace(  # [S I, O, C]
        turned[0],
        weight=torch.cat([each.weight for each in turned]),
        delay=torch.cat([each.delay for each in turned]),
    )
    taps_DSIO = delay_taps(every, plan.taps).unflatten(1, (len(synapses), -1))
    if plan.taps > 1:
        y: Tensor = _Maps.apply(x_TBSI, taps_DSIO, plan)
        return y
    y = torch.bmm(x_TBSI.flatten(0, 1).transpose(0, 1), taps_DSIO[0]).to(x_TBSI.dtype)
    y_TBSO = y.transpose(0, 1).unflatten(0, x_TBSI.shape[:2])
    return functional.pad(y_TBSO, (0, 0, 0, 0, 0, 0, 0, extra_steps))


class _Maps(Function):
    """x [T, B, S, I], taps [D, S, I, O] -> [T_out, B, S, O]."""

    @staticmethod
    def forward(ctx: Any, x_TBSI: Tensor, taps_DSIO: Tensor, plan: MatrixPlan) -> Tensor:
        matrices, half = make_matrices(plan, x_TBSI.dtype, x_TBSI.device), half_products(x_TBSI)
        # the parts of X for the real part of Y, and those for its imaginary part; the same of Y
        ctx.of_x, ctx.of_y = matrices.x.chunk(2), matrices.y.T.chunk(2)
        ctx.of_k, ctx.half = matrices.k, half
        with torch.autocast(x_TBSI.device.type, enabled=False):
            X = factor(_to_spectrum(ctx.of_x, x_TBSI, plan), half)
            K = factor(_kernels_spectrum(ctx.of_k, taps_DSIO), half)
            ctx.save_for_backward(X, K)
            ctx.plan = plan
            return _to_time(ctx.of_y, product(X, K), x_TBSI.shape[2])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_TBSO: Tensor) -> Any:
        X, K = ctx.saved_tensors
        S, g_x, g_taps = g_TBSO.shape[2], None, None
        G = factor(_to_spectrum(ctx.of_y, g_TBSO, ctx.plan), ctx.half)
        if ctx.needs_input_grad[0]:
            g_x = _to_time(ctx.of_x, product(G, K.mT), S)
        if ctx.needs_input_grad[1]:
            g_taps = _taps_gradient(ctx.of_k, X.mT @ G, S)
        return g_x, g_taps, None


def _to_spectrum(halves: Sequence[Tensor], x_TBSC: Tensor, plan: MatrixPlan) -> Tensor:
    """By matrices [n F, T], [T, B, S, C] -> [S F, 2 B, n C]."""
    _, B, S, _ = x_TBSC.shape
    sequences = x_TBSC.flatten(1, 2).transpose(0, 1)
    X = x_TBSC.new_empty(2, B * S, len(halves[0]), x_TBSC.shape[3])
    for matrix, out in zip(halves, X, strict=True):
        torch.bmm(matrix.expand(B * S, -1, -1), sequences, out=out)
    return X.view(2 * B, S * plan.frequencies, -1).transpose(0, 1)


def _to_time(halves: Sequence[Tensor], X: Tensor, networks: int) -> Tensor:
    """By matrices [n F, T], [S F, 2 B, n C] -> [T, B, S, C]."""
    (n, T), B = halves[0].shape, X.shape[1] // 2
    first, second = X.to(halves[0].dtype).transpose(0, 1).reshape(2, B * networks, n, -1)
    x = first.new_empty(T, B * networks, first.shape[2])
    sequences = x.transpose(0, 1)
    torch.bmm(halves[0].T.expand(B * networks, -1, -1), first, out=sequences)
    sequences.baddbmm_(halves[1].T.expand(B * networks, -1, -1), second)
    return x.view(T, B, networks, -1)


def _kernels_spectrum(matrix: Tensor, taps_DSIO: Tensor) -> Tensor:
    """By a matrix [2 F, D], [D, S, I, O] -> [S F, 2 I, O]."""
    D, S, inputs, outputs = taps_DSIO.shape
    K = torch.bmm(matrix.expand(S, -1, -1), taps_DSIO.reshape(D, S, -1).transpose(0, 1))
    return K.view(-1, 2 * inputs, outputs)


def _taps_gradient(matrix: Tensor, g_K: Tensor, networks: int) -> Tensor:
    """[S F, 2 I, O] -> [D, S, I, O]."""
    _, twice, outputs = g_K.shape
    g_K = g_K.to(matrix.dtype).reshape(networks, len(matrix), -1)
    g_taps = g_K.new_empty(matrix.shape[1], networks, g_K.shape[2])
    torch.bmm(matrix.T.expand(networks, -1, -1), g_K, out=g_taps.transpose(0, 1))
    return g_taps.view(-1, networks, twice // 2, outputs)
