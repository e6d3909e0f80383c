"""The delayed linear map as real matrix products alone: Fourier transforms are matrices, too.

So all of it runs on a GPU's tensor cores (in TF32, or inside ``torch.autocast`` with factors and
products in bfloat16), and nothing is copied to change a layout. Tensor cores want rows of memory
whose lengths four divides (in bfloat16, eight). Transforms see to it: no row is one of time, and
the number of frequencies is even; numbers of channels are the user's. A complex product takes four
real ones here. The work of a transform grows with the square of its length: for sequences of up to
about a thousand steps.

Shapes: T time, B batch, I inputs, O outputs, D taps, F frequencies; 2 parts of each.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from snn_delays.ops.maps import cost
from snn_delays.ops.maps.backend import Backend, Problem, why_not_kernels
from snn_delays.ops.spectral.layer import Plan, half_products, make_plan
from snn_delays.ops.taps import Synapses, delay_taps

MATRIX_LENGTH = 1024  # of transforms; beyond it fast ones take fewer operations


def delayed_linear(x_TBI: Tensor, synapses: Synapses, extra_steps: int) -> Tensor:
    """Multiply the spectra of input and kernel; see ``delayed_linear``."""
    plan = matrix_plan(x_TBI.shape[0], synapses.taps, extra_steps)

    def make_taps() -> Tensor:
        return delay_taps(synapses.transposed(), plan.taps)

    if torch.is_grad_enabled():
        return _Map.apply(x_TBI, make_taps(), plan)
    matrices = make_matrices(plan, x_TBI.dtype, x_TBI.device)
    half = half_products(x_TBI)
    with torch.autocast(x_TBI.device.type, enabled=False):  # transforms round as in training
        K = synapses.cached(
            ("matmul", plan, half), lambda: factor(matrices.of_kernel(make_taps()), half)
        )
        return matrices.to_time(product(factor(matrices.of_input(x_TBI), half), K))


class MatrixPlan(Plan):
    """A plan for matrices, which need no length with small factors."""

    @functools.cached_property
    def length(self) -> int:
        """N, one less than a multiple of four: odd, with an even F."""
        return self.shortest + (3 - self.shortest) % 4


def matrix_plan(steps: int, taps: int, extra_steps: int) -> MatrixPlan:
    """For D ``taps``; see ``delayed_linear``."""
    plan = make_plan(steps, taps, extra_steps)
    return MatrixPlan(plan.steps, plan.taps, plan.out_steps)


class _Map(Function):
    """x [T, B, I], taps [D, I, O] -> [T_out, B, O]."""

    @staticmethod
    def forward(ctx: Any, x_TBI: Tensor, taps_DIO: Tensor, plan: MatrixPlan) -> Tensor:
        matrices, half = make_matrices(plan, x_TBI.dtype, x_TBI.device), half_products(x_TBI)
        with torch.autocast(x_TBI.device.type, enabled=False):
            X = factor(matrices.of_input(x_TBI), half)
            K = factor(matrices.of_kernel(taps_DIO), half)
            ctx.save_for_backward(X, K)
            ctx.matrices, ctx.half = matrices, half
            return matrices.to_time(product(X, K))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_TBO: Tensor) -> Any:
        X, K = ctx.saved_tensors
        matrices = ctx.matrices
        G = factor(matrices.of_gradient(g_TBO), ctx.half)
        g_x = matrices.input_gradient(product(G, K.mT)) if ctx.needs_input_grad[0] else None
        g_taps = matrices.taps_gradient(X.mT @ G) if ctx.needs_input_grad[1] else None
        return g_x, g_taps, None


def factor(spectrum: Tensor, half: bool) -> Tensor:
    """As products take it."""
    return spectrum.bfloat16() if half else spectrum


def product(a: Tensor, b: Tensor) -> Tensor:
    """[F, 2 B, m] and [F, m, n] -> [F, 2 B, n], frequencies side by side in memory."""
    out = a.new_empty(a.shape[1], a.shape[0], b.shape[2]).transpose(0, 1)
    return torch.bmm(a, b, out=out)


@dataclass(frozen=True)
class _Matrices:
    """Transforms over time as matrices; a spectrum is [F, 2 B, 2 channels] or [F, 2 B, channels].

    With X and K complex, ``[Y_re; Y_im] = [X_re, -X_im; X_im, X_re] [K_re; K_im]``: the input's
    spectrum holds each part twice, so that one product per frequency gives both parts.

    Frequencies are side by side in memory.

    Attributes:
        x: of the input, [4 F, T].
        k: of the taps, [2 F, D].
        y: back to the output, [T_out, 2 F].
    """

    x: Tensor
    k: Tensor
    y: Tensor

    def of_input(self, x_TBI: Tensor) -> Tensor:
        """[T, B, I] -> [F, 2 B, 2 I]."""
        X = _each_sample(self.x, x_TBI.transpose(0, 1))
        return X.view(2 * len(X), -1, 2 * x_TBI.shape[2]).transpose(0, 1)

    def of_kernel(self, taps_DIO: Tensor) -> Tensor:
        """[D, I, O] -> [F, 2 I, O]."""
        _, inputs, outputs = taps_DIO.shape
        return (self.k @ taps_DIO.flatten(1)).view(-1, 2 * inputs, outputs)

    def of_gradient(self, g_TBO: Tensor) -> Tensor:
        """[T_out, B, O] -> [F, 2 B, O]."""
        G = _each_sample(self.y.T, g_TBO.transpose(0, 1))
        return G.view(2 * len(G), -1, g_TBO.shape[2]).transpose(0, 1)

    def to_time(self, Y: Tensor) -> Tensor:
        """[F, 2 B, O] -> [T_out, B, O]."""
        return self._back(self.y, Y, Y.shape[2])

    def input_gradient(self, g_X: Tensor) -> Tensor:
        """[F, 2 B, 2 I] -> [T, B, I]."""
        return self._back(self.x.T, g_X, g_X.shape[2] // 2)

    def taps_gradient(self, g_K: Tensor) -> Tensor:
        """[F, 2 I, O] -> [D, I, O]."""
        F, twice, outputs = g_K.shape
        g_K = g_K.to(self.k.dtype).view(2 * F, -1)
        return (self.k.T @ g_K).view(-1, twice // 2, outputs)

    def _back(self, matrix: Tensor, spectrum: Tensor, channels: int) -> Tensor:
        samples = spectrum.shape[1] // 2
        by_sample = spectrum.to(matrix.dtype).transpose(0, 1).reshape(samples, -1, channels)
        out = matrix.new_empty(len(matrix), samples, channels)
        _each_sample(matrix, by_sample, out.transpose(0, 1))
        return out


def _each_sample(matrix: Tensor, by_sample: Tensor, out: Tensor | None = None) -> Tensor:
    """``matrix`` [m, n] times every [n, channels] of [B, n, channels]."""
    every = matrix.expand(len(by_sample), *matrix.shape)
    return torch.bmm(every, by_sample) if out is None else torch.bmm(every, by_sample, out=out)


@functools.cache  # CUDA graphs read them: none may be let go of
def make_matrices(plan: MatrixPlan, dtype: torch.dtype, device: torch.device) -> _Matrices:
    """For a plan, worked out in float64."""
    N, F = plan.length, plan.frequencies
    x_cos, x_sin = _waves(F, plan.steps, N)
    k_cos, k_sin = _waves(F, plan.taps, N)
    y_cos, y_sin = _waves(F, plan.out_steps, N)
    weigh = torch.full((F, 1), 2 / N, dtype=torch.float64)  # -f counts with f, for N is odd
    weigh[0] = 1 / N
    x = torch.stack([x_cos, x_sin, -x_sin, x_cos]).view(2, 2, F, -1).transpose(1, 2)
    k = torch.stack([k_cos, -k_sin], 1)
    y = torch.stack([weigh * y_cos, -weigh * y_sin])
    x, k, y = (m.reshape(-1, m.shape[-1]).T.contiguous().to(device, dtype) for m in (x, k, y))
    return _Matrices(x.T, k.T, y)


def _waves(frequencies: int, steps: int, length: int) -> tuple[Tensor, Tensor]:
    """cos and sin of 2 pi f t / N, [F, steps]."""
    turns = torch.outer(torch.arange(frequencies), torch.arange(steps)) % length
    angle = turns.double() * (2 * math.pi / length)
    return angle.cos(), angle.sin()


@functools.lru_cache(256)
def _cost(problem: Problem) -> float:
    """Grows with the square of long transforms; those of twice the usual length are too much."""
    length = make_plan(problem.steps, problem.taps, problem.extra_steps).length
    if length > 2 * MATRIX_LENGTH:
        return math.inf
    return cost.of_spectra(problem) * max(1, length / MATRIX_LENGTH)


BACKEND = Backend("matmul", delayed_linear, why_not_kernels, _cost)
