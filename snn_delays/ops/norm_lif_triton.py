# mypy: allow-untyped-defs, allow-incomplete-defs
"""BatchNorm's sums and gradient on the GPU; ``ops.norm_lif`` says what they compute.

Shapes: T time, B batch, C channels, N = B C lanes, P parts of time, which programs share. No sum is
made by atomic additions, whose order varies from call to call: each lane of a program has its own.
"""

from __future__ import annotations

from torch import Tensor

from snn_delays.runtime import triton_jit
from snn_delays.runtime.triton_jit import jit, tl

PART = 64  # steps of a program where steps do not depend on each other


@jit
def _sums(y_TN, pivot_C, sums_P2N, T, N, C, PART: tl.constexpr, LANES: tl.constexpr):
    n = tl.program_id(0) * LANES + tl.arange(0, LANES)
    inside = n < N
    pivot = tl.load(pivot_C + n % C, inside, other=0.0)
    total = tl.zeros_like(pivot)
    squares = tl.zeros_like(pivot)
    part = tl.program_id(1).to(tl.int64)
    first = tl.program_id(1) * PART
    at = part * PART * N + n
    for _ in tl.range(first, tl.minimum(first + PART, T), num_stages=8):
        u = tl.load(y_TN + at, inside, other=0.0).to(pivot.dtype) - pivot
        total += u
        squares += u * u
        at += N
    out = sums_P2N + part * 2 * N + n
    tl.store(out, total, inside)
    tl.store(out + N, squares, inside)


@jit
def _norm_gradient(
    g_TN, y_TN, factors_4C, out_TN, T, N, C, PART: tl.constexpr, LANES: tl.constexpr
):
    n = tl.program_id(0) * LANES + tl.arange(0, LANES)
    inside = n < N
    mean = tl.load(factors_4C + n % C, inside, other=0.0)
    a = tl.load(factors_4C + C + n % C, inside, other=0.0)
    b = tl.load(factors_4C + 2 * C + n % C, inside, other=0.0)
    c = tl.load(factors_4C + 3 * C + n % C, inside, other=0.0)
    first = tl.program_id(1) * PART
    at = tl.program_id(1).to(tl.int64) * PART * N + n
    for _ in tl.range(first, tl.minimum(first + PART, T), num_stages=8):
        u = tl.load(y_TN + at, inside, other=0.0).to(mean.dtype) - mean
        g = a * tl.load(g_TN + at, inside, other=0.0) + b + c * u
        tl.store(out_TN + at, g.to(out_TN.dtype.element_ty), inside)
        at += N


def sums(y_TBC: Tensor, pivot_C: Tensor) -> Tensor:
    """Over a part of time each, sums of ``y - pivot`` and of its square, [P, 2, B, C]."""
    T, B, C = y_TBC.shape
    parts = -(-T // PART)
    out = pivot_C.new_empty(parts, 2, B, C)
    triton_jit.launch(_sums, B * C, y_TBC, pivot_C, out, T, B * C, C, parts=parts, PART=PART)
    return out


def norm_gradient(g_TBC: Tensor, y_TBC: Tensor, factors_4C: Tensor, out_TBC: Tensor) -> None:
    """Out, which may be g, <- ``a g + b + c (y - mean)``; factors are mean, a, b, c."""
    T, B, C = y_TBC.shape
    tensors = g_TBC, y_TBC, factors_4C, out_TBC
    triton_jit.launch(_norm_gradient, B * C, *tensors, T, B * C, C, parts=-(-T // PART), PART=PART)
